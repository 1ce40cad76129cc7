#ifndef CONDUCTOR_LIB_INGEST_REFERENCE_MODEL_H_
#define CONDUCTOR_LIB_INGEST_REFERENCE_MODEL_H_

#include <array>
#include <cstdint>
#include <functional>
#include <limits>
#include <list>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "lib/base/tier.h"
#include "lib/hash/block_hash.h"
#include "lib/index/prefix_index.h"
#include "lib/ingest/publisher_ingest.h"
#include "lib/wire/kv_event.h"

namespace conductor::ingest {

// One block of a prompt: its tokens and extra keys, unhashed.
struct PromptBlock {
  std::vector<TokenId> tokens;
  hash::ExtraKeys extra_keys;
};

// What PublisherIngest and PrefixIndex together must answer, written from the rules and not from
// their code: maps and lists, nothing clever. A block is its namespace and the whole list of tokens
// and extra keys from the root to it; no hash is computed. Tests and `conductor replay --check`
// compare the index with it. It never forgets the tokens of a block, so its memory grows with all
// blocks that were ever seen.
//
// What it knows no rules for: pools, envelopes of RFC 1527 and hashes of the standard recipe, times
// to live, a memory limit.
//
// Where the rules leave a choice, the model makes this one:
//
//   * A name carries its namespace with it. A removal, and a stored event without tokens, act in
//     the namespace of the block that the name stands for (removals and offload placeholders do
//     not say their adapter), and so does one with tokens that joins by its first name. To other
//     events with tokens the names of other namespaces are unknown.
//   * A name stands for the last block of its span, and two names for one block share its copies.
//     What is held of a block has the length of the span last announced for it there (by that
//     publisher, on that rank and tier); an event without tokens means the length last announced
//     with tokens under its name.
//   * Removal of a name where copies count: one copy of what is held at that rank and tier; if
//     nothing is held there, one of the oldest waiting event that still has it. Where they do not
//     count (host, disk, CopyMode::kSet): all of them, waiting or held.
//   * A waiting event with tokens of which every hash was removed goes on waiting: when it joins
//     it still says what its names stand for, and children may come after it. One without tokens
//     goes. A clear drops waiting events of its rank on the device whole.
//   * A stored event without tokens is as many events as it has hashes: those known are held at
//     once, the others wait each for itself.
//   * An event with an unknown parent waits for the parent on every tier, though its own first
//     name may be known.
//   * Waiting events join after the event that made the name known and before the next one, the
//     oldest that can join first, again and again.
//   * A rebuild is a life of its own: it learns its own block size, and whether the publisher ever
//     says another rank than 0.
//   * What is remembered of released blocks are their names: a released block without a name and
//     without remembered children is forgotten at once. The limit is kept between changes, not
//     within one: what a batch releases and needs again is still known.
//   * Events of unknown media, of other groups and of a shape that does not fit teach no block
//     size and no name.
class ReferenceModel {
 public:
  static constexpr size_t kUnlimited = std::numeric_limits<size_t>::max();

  struct Figures {
    uint32_t gpu = 0;
    uint32_t cpu = 0;
    uint32_t disk = 0;
    friend bool operator==(const Figures&, const Figures&) = default;
  };
  using Answer = std::map<index::RankKey, Figures>;  // ranks with disk > 0
  using Block = int;      // a number for each path from a root that was ever seen
  using Group = int64_t;  // none is 0
  using Holders = std::map<index::RankKey, std::array<bool, kTierCount>>;  // by Tier

  explicit ReferenceModel(size_t released_limit = kUnlimited);

  void AddPublisher(uint32_t id, const PublisherProfile& profile);
  void RemovePublisher(uint32_t id);
  void Apply(uint32_t id, const wire::EventBatch& batch);
  void NewLife(uint32_t id);
  void BeginRebuild(uint32_t id);
  void CommitRebuild(uint32_t id);
  void AbandonRebuild(uint32_t id);

  // `prompt` is cut into blocks of the block size of the namespaces that `wanted` accepts.
  [[nodiscard]] Answer Query(const std::function<bool(const index::NamespaceKey&)>& wanted,
                             const std::vector<PromptBlock>& prompt) const;

  // The block that the publisher calls so in its visible life, the last one of a span.
  [[nodiscard]] std::optional<Block> BlockOf(uint32_t id, Group group, EngineHash name) const;
  // Negative: it begins a prompt.
  [[nodiscard]] Block ParentOf(Block block) const { return At(block).parent; }
  // The prompt that ends with it, from its first block on.
  [[nodiscard]] std::vector<Block> ChainOf(Block block) const;
  [[nodiscard]] const index::NamespaceKey& NamespaceOf(Block block) const;
  [[nodiscard]] PromptBlock ContentOf(Block block) const;
  // Who has how much of such a prompt.
  [[nodiscard]] Answer Match(const std::vector<Block>& chain) const;
  // Who holds that block itself, as the last of a span or alone, and on which tiers.
  [[nodiscard]] Holders HoldersOf(Block block) const;
  // Every block that somebody holds, each once.
  [[nodiscard]] std::set<Block> HeldBlocks() const;

  // Of the visible life.
  [[nodiscard]] bool HoldsNothing(uint32_t id) const;
  [[nodiscard]] uint64_t WaitingEvents(uint32_t id) const;
  [[nodiscard]] uint32_t BlockSize(uint32_t id) const;

  // Over all publishers, hidden lives among them.
  [[nodiscard]] uint64_t Holdings() const;
  [[nodiscard]] uint64_t Released() const { return released_.size(); }
  [[nodiscard]] uint64_t Blocks() const;

 private:
  static constexpr Block kNone = -1;
  using Name = std::pair<Group, EngineHash>;

  struct Span {
    Block last = kNone;
    uint32_t length = 1;  // blocks
  };
  // Namespace, parent, tokens, extra keys.
  using Identity = std::tuple<index::NamespaceKey, Block, std::vector<TokenId>, hash::ExtraKeys>;
  struct Path {
    const Identity* identity = nullptr;
    Block parent = kNone;
    uint32_t supported = 0;  // holdings of this block and its descendants
    uint32_t names = 0;      // of all lives
    uint32_t children = 0;   // that exist
    bool exists = false;     // in the index: supported, or released and remembered
    uint64_t released = 0;   // its place in released_; 0: none
  };
  struct Place {
    uint32_t dp_rank = 0;
    Tier tier = Tier::kGpu;
    Block block = kNone;
    auto operator<=>(const Place&) const = default;
  };
  struct Holding {
    uint64_t copies = 0;  // at least 1
    uint32_t length = 1;  // blocks, the named one is the last
  };
  // A stored event that was understood; waiting or about to be stored.
  struct Stored {
    Group group;
    uint32_t dp_rank = 0;
    Tier tier = Tier::kGpu;
    index::NamespaceKey name_space;  // of events with tokens
    std::optional<EngineHash> parent;
    bool begins = false;  // a prompt, for it names no parent and needs none
    std::vector<EngineHash> hashes;
    std::vector<PromptBlock> blocks;  // hashes.size() * span, or none: without tokens
    uint32_t span = 1;
    std::vector<bool> removed;  // per hash: taken back while it waited
  };
  struct Life {
    uint32_t block_size = 0;
    bool said_other_rank = false;  // than 0
    std::map<Name, Span> names;
    std::set<std::pair<Block, Name>> named;  // the same by the blocks that they stand for
    std::map<Place, Holding> held;
    std::list<Stored> waiting;  // in the order they came
  };
  struct Publisher {
    PublisherProfile profile;
    Life visible;
    std::optional<Life> hidden;
  };

  void ApplyStored(Publisher& publisher, Life& life, uint32_t dp_rank,
                   const wire::BlockStored& event);
  void ApplyRemoved(Publisher& publisher, Life& life, uint32_t dp_rank,
                    const wire::BlockRemoved& event);
  void ApplyCleared(Life& life, uint32_t dp_rank);

  [[nodiscard]] bool CanJoin(const Life& life, const Stored& event) const;
  void Join(const Publisher& publisher, Life& life, const Stored& event);
  void JoinWaiting(const Publisher& publisher, Life& life);
  void Hold(const Publisher& publisher, Life& life, const Stored& event, Span span);
  void Drop(Life& life, std::map<Place, Holding>::iterator holding);
  void DropLife(Life& life);

  Block Child(const index::NamespaceKey& name_space, Block parent, const PromptBlock& block);
  // The numbers of the prompt's blocks, as far as they were ever seen.
  [[nodiscard]] std::vector<Block> Find(const index::NamespaceKey& name_space,
                                        const std::vector<PromptBlock>& prompt) const;
  [[nodiscard]] Path& At(Block block) { return paths_[static_cast<size_t>(block)]; }
  [[nodiscard]] const Path& At(Block block) const { return paths_[static_cast<size_t>(block)]; }
  // Which blocks of the chain each rank has on each tier, inner ones of spans among them.
  using OnTiers = std::array<std::vector<bool>, kTierCount>;
  [[nodiscard]] std::map<index::RankKey, OnTiers> Had(const std::vector<Block>& chain) const;
  void SetExists(Block block, bool exists);
  void Release(Block block);
  void ForgetNameless(Block block);
  void KeepLimit();
  void Forget(Block block);
  void TakeFromReleased(Block block);
  void Bind(Life& life, const Name& name, Span span);
  void Unbind(Life& life, std::map<Name, Span>::iterator name);

  size_t released_limit_;
  std::map<Identity, Block> numbers_;
  std::vector<Path> paths_;
  std::map<uint64_t, Block> released_;  // oldest first
  uint64_t last_released_ = 0;
  std::map<uint32_t, Publisher> publishers_;
};

}  // namespace conductor::ingest

#endif  // CONDUCTOR_LIB_INGEST_REFERENCE_MODEL_H_
