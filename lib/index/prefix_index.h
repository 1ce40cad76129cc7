#ifndef CONDUCTOR_LIB_INDEX_PREFIX_INDEX_H_
#define CONDUCTOR_LIB_INDEX_PREFIX_INDEX_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/result.h"
#include "lib/base/tier.h"
#include "lib/hash/block_hash.h"

namespace conductor::index {

// Prompts match only inside one namespace.
struct NamespaceKey {
  std::string tenant;
  std::string model;
  std::string lora_name;
  uint32_t block_size = 0;
  std::string additional_salt;

  auto operator<=>(const NamespaceKey&) const = default;
};

// The namespaces that a prompt is looked up in. Views: for the length of a call.
struct Scope {
  std::string_view tenant;
  std::string_view model;
  std::string_view lora_name;
  uint32_t block_size = 0;                          // tokens
  std::optional<std::string_view> additional_salt;  // nothing: any
};

// One rank of one instance in one namespace: what a figure is given for.
struct RankKey {
  NamespaceKey name_space;
  std::string instance_id;
  uint32_t dp_rank = 0;

  auto operator<=>(const RankKey&) const = default;
};

// What one publisher says that one rank holds. Several holders may stand for the same RankKey (two
// publishers of one engine): a rank holds what any of its holders holds.
enum class HolderId : uint32_t {};

// The names that one publisher uses for blocks, per KV-cache group. A name means nothing outside.
enum class AliasSpace : uint32_t {};

// How repeated announcements of one block count on the device tier; elsewhere they never count.
enum class CopyMode : uint8_t {
  kCount,  // a copy each: the block is held until as many removals have come
  kSet,    // the second says what the first did
};

// How a pool's blocks add to what an instance holds itself.
enum class PoolLookup : uint8_t {
  kFromStart,  // by the pool's own run from the prompt's first block
  kContinue,   // like the instance's own lower tiers, from where its device prefix ends
};

// Blocks of one chain that became available. `locals` are the local hashes of the blocks in
// order; hashes[i] names the span of `span` blocks that ends with block (i + 1) * span - 1.
//   locals.size() == hashes.size() * span, span >= 1
struct StoreRequest {
  HolderId holder;
  AliasSpace space;
  Tier tier;
  CopyMode copies = CopyMode::kCount;
  std::optional<EngineHash> parent;  // nothing: the first block begins a prompt
  std::span<const EngineHash> hashes;
  std::span<const LocalHash> locals;
  uint32_t span = 1;
  // Empty, or one flag a hash: where it is set the name becomes known but nothing is held, as if
  // it had been stored and removed again.
  std::span<const uint8_t> gone = {};
  // Where set, the names that became known or moved to another block are added to it.
  std::vector<EngineHash>* bound = nullptr;
};

enum class StoreOutcome : uint8_t {
  kStored,
  // Nothing was changed: the parent's name is not known in this space, or names a block of another
  // namespace than the holder's.
  kUnknownParent,
};

enum class RemoveOutcome : uint8_t {
  kRemoved,  // one copy fewer, or no longer held
  kNotHeld,  // the name is known, but this holder has no copy on this tier
  kUnknownName,
};

// How far one rank matches a prompt, in blocks from its first: gpu <= cpu <= disk.
//   gpu:  the longest run from block 0 on the device;
//   cpu:  from there on through blocks on the host;
//   disk: from there on through blocks on the host or on disk, in any mix.
// A block that is held only as an inner part of a span counts when the prompt goes on to the
// span's end.
struct RankMatch {
  std::shared_ptr<const RankKey> rank;
  uint32_t gpu = 0;
  uint32_t cpu = 0;
  uint32_t disk = 0;
};

// How far one pool matches a prompt by itself, in blocks from its first: cpu <= disk, as in
// RankMatch. Every instance of the namespace can load them.
struct PoolMatch {
  std::string pool;         // PoolKey::name
  NamespaceKey name_space;  // of the prompt
  uint32_t cpu = 0;
  uint32_t disk = 0;
};

struct Matches {
  std::vector<RankMatch> ranks;
  std::vector<PoolMatch> pools;
};

// Sizes for people and metrics.
struct IndexStats {
  uint64_t blocks = 0;    // distinct blocks known, released ones among them
  uint64_t released = 0;  // of these: held by nobody, remembered for their names
  uint64_t holdings = 0;  // (block, holder, tier), copies counted once
  uint64_t aliases = 0;
  uint64_t holders = 0;
  uint64_t name_conflicts = 0;  // a held name was announced again for another block
};

struct NamespaceStats {
  NamespaceKey key;
  uint64_t blocks = 0;
};

// The prefix index: which rank holds which block on which tier.
//
// A block is known by (namespace, prefix hash). Every block that exists has its parent, so a chain
// is never entered in the middle. Engines' names are aliases, kept per AliasSpace:
//
//   * A name that is not known is bound to the block that the store event derives from its parent
//     and tokens. A known name keeps its block; but when a store on the device tier derives
//     another block for it, the name moves there, and what this publisher held of the old block
//     (any holder of the same publisher, any tier) is dropped and counted as a name conflict. On
//     the other tiers a known name of the same namespace wins over the tokens: connectors leave
//     out extra keys.
//   * A block that nobody holds and that has no held descendants is released. It and its names
//     are remembered until `released_limit` younger ones have been released, then forgotten (the
//     limit is kept at the end of each Writer); one without names and children is forgotten at
//     once.
//   * A name stands for the last block of its span. What a holder holds of a block on a tier has
//     the span of the announcement that came last; an event without tokens has that of the last
//     one with tokens under the name.
//
// This implementation is the plain one: hash maps and one fair reader-writer lock. Any thread may
// call anything. Changes go through a Writer, which holds the lock: what one Writer does is seen by
// queries as one change.
class PrefixIndex {
 public:
  struct Options {
    uint64_t hash_seed = hash::kDefaultSeed;
    size_t released_limit = 65536;  // blocks
  };

  // Gives the prefix hash of a prompt's blocks in order, as far as the walk asks; nothing at the
  // prompt's end.
  using PrefixSource = std::function<std::optional<PrefixHash>()>;

  explicit PrefixIndex(Options options);
  ~PrefixIndex();
  PrefixIndex(const PrefixIndex&) = delete;
  PrefixIndex& operator=(const PrefixIndex&) = delete;

  [[nodiscard]] const Options& options() const;

  // All changes. Keep it for one batch, never across a wait.
  class Writer;
  [[nodiscard]] Writer Write();

  // The ranks in `scope` that hold at least the first block, in no order. Holders that are not
  // visible are left out. `source` is asked with the lock held.
  [[nodiscard]] std::vector<RankMatch> Match(const Scope& scope, const PrefixSource& source) const;

  [[nodiscard]] IndexStats Stats() const;
  [[nodiscard]] std::vector<NamespaceStats> Namespaces() const;
  // Blocks that a holder holds on a tier.
  [[nodiscard]] uint64_t HeldBlocks(HolderId holder, Tier tier) const;

  // Every invariant checked by a full walk; the first one broken is told. For tests.
  [[nodiscard]] Status Validate() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

class PrefixIndex::Writer {
 public:
  ~Writer();
  Writer(Writer&&) noexcept;
  Writer& operator=(Writer&&) = delete;

  // `publisher` groups the holders and alias spaces of one life of one publisher: any number that
  // the caller keeps apart.
  [[nodiscard]] HolderId AddHolder(const RankKey& rank, uint32_t publisher, bool visible);
  [[nodiscard]] AliasSpace AddSpace(uint32_t publisher);
  void SetVisible(HolderId holder, bool visible);
  // Everything it holds goes, then the id is invalid.
  void DropHolder(HolderId holder);
  // Its names go, then the id is invalid. What its publisher holds stays until its holders go.
  void DropSpace(AliasSpace space);

  [[nodiscard]] StoreOutcome Store(const StoreRequest& request);
  // For events without tokens: holds the block that `name` names; false when it is unknown or
  // stands in another namespace than the holder.
  [[nodiscard]] bool StoreKnown(HolderId holder, AliasSpace space, Tier tier, CopyMode copies,
                                EngineHash name);
  [[nodiscard]] bool Knows(AliasSpace space, EngineHash name) const;
  // The namespace of the block that `name` names; nullptr when it is unknown. Valid until the
  // next change.
  [[nodiscard]] const NamespaceKey* NamespaceOf(AliasSpace space, EngineHash name) const;
  RemoveOutcome Remove(HolderId holder, AliasSpace space, Tier tier, EngineHash name);
  // True when the holder holds the block of `name` on `tier`.
  [[nodiscard]] bool Holds(HolderId holder, AliasSpace space, Tier tier, EngineHash name) const;
  // Drops all that the holder holds on the tier; the number of blocks.
  uint64_t Clear(HolderId holder, Tier tier);

 private:
  friend class PrefixIndex;
  explicit Writer(Impl* impl);
  Impl* impl_;
};

}  // namespace conductor::index

#endif  // CONDUCTOR_LIB_INDEX_PREFIX_INDEX_H_
