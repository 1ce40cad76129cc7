#ifndef CONDUCTOR_LIB_INDEX_PREFIX_INDEX_IMPL_H_
#define CONDUCTOR_LIB_INDEX_PREFIX_INDEX_IMPL_H_

#include <absl/container/flat_hash_map.h>
#include <absl/container/node_hash_map.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <shared_mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "lib/base/fair_mutex.h"
#include "lib/hash/hash_profile.h"
#include "lib/index/prefix_index.h"
#include "lib/index/released_blocks.h"
#include "lib/index/removal_history.h"
#include "lib/index/roster.h"
#include "lib/index/run_list.h"
#include "lib/index/run_store.h"

// The tables behind PrefixIndex. For the files of this folder only:
//   block_table.cc   blocks, their lifetime, their names
//   holdings.cc      who holds what
//   pool_names.cc    what pools have, joined by what engines call it
//   rosters.cc       what lookups know of namespaces, ranks and pools
//   prefix_match.cc  a prompt's way through
//   removals.cc      what is told of blocks that are not held
//   prefix_validate.cc
namespace conductor::index {

struct Namespace;

// One rank in one namespace, and all that tell of it.
struct Group {
  std::shared_ptr<const RankKey> rank;
  std::vector<HolderId> holders;
};

struct Domain;

struct Namespace {
  std::shared_ptr<const NamespaceKey> key;
  uint32_t number = 0;
  Domain* domain = nullptr;  // that pools look for names in; nullptr: none does
  uint64_t blocks = 0;
  uint32_t max_span = 1;      // that anybody has held here since nobody held any above 1
  uint64_t span_entries = 0;  // of holders in runs, with spans above 1
  std::map<PoolId, HolderId> pool_holders;                   // of pools that ever held something
  std::map<std::pair<std::string, uint32_t>, Group> groups;  // by instance and rank
};

struct Target {
  BlockRef block;      // the last one of the span
  uint32_t span = 1;   // blocks, as the name was announced last
  bool fresh = false;  // added a moment ago: nobody holds it yet
  BlockRef left;       // that the name stood for before; to be let go of (LetGo)
};

struct Space {
  uint32_t publisher;
  uint32_t group;
  uint64_t names = 0;
  RunList runs;  // in which it has names
  // Where it was found last: engines evict from the end of a chain on.
  mutable RunStore::NamePlace last;
  // Of names that stand for more than one block.
  absl::flat_hash_map<EngineHash, uint32_t> spans;
};

struct Pool {
  std::shared_ptr<const std::string> name;
  PoolLookup lookup;
  std::optional<hash::HashProfile> profile;
  PoolStats stats;
};

// A block that a name of a domain stands for.
struct Joined {
  Target target;
  uint32_t spaces;  // in which it does; 0: only for the pools that have it
};

struct Claim {
  PoolId pool;
  Tier tier;
};

struct NameEntry {
  std::vector<Joined> blocks;  // nearly always one
  std::vector<Claim> claims;   // of pools that have the block; at least one
};

// What the pools have that speak of one deployment of a model, by the names that its engines use.
struct Domain {
  PoolDomain key;
  absl::flat_hash_map<PoolName, NameEntry> names;
  std::vector<PoolId> pools;
};

struct Holder {
  Namespace* name_space;
  Group* group;                // nullptr: a pool's
  std::optional<PoolId> pool;  // in place of a group
  uint32_t publisher;
  bool visible;
  bool has_spans = false;                       // ever held one of several blocks
  std::array<RunList, kTierCount> runs;         // with blocks of it on the tier
  std::array<uint64_t, kTierCount> whole{};     // holdings
  uint64_t trimmed = 0;                         // holdings that were given up for room
  uint32_t source = RemovalHistory::kNoSource;  // of what it loses; pools have none
};

struct PrefixIndex::Impl {
  explicit Impl(Options given);

  const Options options;

  // --- Read without `mutex`:
  RunStore store;                   // see Run
  std::atomic<uint64_t> trims = 0;  // any order: whoever needs to know asks again
  std::atomic<uint32_t> profiles =
      0;  // pools that have one; any order: it only says whether to ask
  std::atomic<uint64_t> roster_version = 0;  // in order with what the writer does next
  mutable std::shared_mutex roster_mutex;    // guards `rosters`
  Rosters rosters;

  mutable FairSharedMutex mutex;  // guards everything below, and changes of the above
  std::map<NamespaceKey, std::unique_ptr<Namespace>> namespaces;
  std::vector<Namespace*> by_number;
  std::vector<uint32_t> free_numbers;
  std::set<Namespace*> unpublished;  // whose roster is not what it should be
  bool domains_unpublished = false;
  bool appeared = false;  // something that lookups should see since rosters were published
  absl::node_hash_map<HolderId, Holder> holders;
  absl::node_hash_map<AliasSpace, Space> spaces;
  std::map<PoolId, Pool> pools;
  std::map<PoolDomain, std::unique_ptr<Domain>> domains;
  ReleasedBlocks released{store};
  // Copies beyond the first, by CopyKey.
  absl::flat_hash_map<uint64_t, uint32_t> copies;
  uint64_t blocks = 0;
  uint64_t aliases = 0;
  uint32_t next_holder = 0;
  uint32_t next_space = 0;
  uint32_t next_pool = 0;
  uint64_t name_conflicts = 0;
  uint64_t announced = 0;  // store requests
  uint64_t trimmed = 0;    // blocks forgotten for room
  uint64_t batches = 0;
  uint64_t bytes_beside_store = 0;  // counted now and then
  uint64_t bytes_kept = 0;          // after the last time that something was given up
  uint64_t pool_names = 0;          // of all domains

  RemovalHistory history;
  Occasion occasion;  // of the writer at work

  Namespace* FindOrAddNamespace(const NamespaceKey& key);
  [[nodiscard]] Namespace* NamespaceOf(BlockRef block) const {
    return by_number[store.run(block.run()).name_space];
  }

  // A namespace without blocks and holders is forgotten: names of tenants and models come from
  // outside and must not pile up.
  void ForgetIfEmpty(Namespace* name_space);

  // The rosters of the namespaces in `scope`, and with `named` of domains without such a one.
  void FindRosters(const Scope& scope, bool named,
                   std::vector<std::shared_ptr<const Roster>>& found) const;

  // Makes what lookups know of namespaces and pools what it should be.
  void PublishRosters();

  [[nodiscard]] PrefixHash Prefix(std::optional<PrefixHash> parent, LocalHash local) const;

  // --- Blocks. A new one is neither held nor released; either must be the next thing that happens
  // to it.

  // The end of a chain that a store follows.
  struct Tip {
    BlockRef block;     // none: the root
    bool bare = false;  // nothing can come after it yet: it was added a moment ago
    size_t more = 0;    // blocks about to follow those that are being looked for
  };
  // The blocks of one span after the tip; the last one. The tip moves to it.
  BlockRef FindOrAddSpan(Namespace* name_space, Tip& tip, std::span<const PrefixHash> prefixes);

  // The block became held or got its first retained child: it and its ancestors stay.
  void Retain(BlockRef block);

  // The block lost a holding or a retained child. Leaf before parent.
  void ReleaseIfUnheld(BlockRef block);

  [[nodiscard]] bool IsHeld(BlockRef block) const;

  // Forgets the block that was released first, and what led to it alone.
  void ForgetOldest();

  // Forgets released blocks above the limit, oldest first.
  void TrimReleased();

  // Only for released blocks without children.
  void Forget(BlockRef block);

  // Whether the block is released, has no names and leads to no other: no event can come to it.
  // There is none between two events. False where the block has been forgotten already.
  [[nodiscard]] bool IsNamelessLeaf(BlockRef block) const;

  // Forgets the block if it is a nameless leaf, then its parent if that has become one, and so on.
  // Returns the last block that was looked at; it stays.
  BlockRef ForgetNameless(BlockRef block);

  // ForgetNameless for the last block of each.
  void ForgetNamelessLeaves(std::span<const uint32_t> runs);

  // Gives up leaves where the byte budget is not kept.
  void KeepBudget();
  void GiveUp(uint32_t run);
  void PartGivenUp();
  [[nodiscard]] uint64_t Bytes() const;

  // --- Names.

  void Prefetch(std::span<const EngineHash> names, size_t from, size_t count) const {
    if (from >= names.size()) return;
    store.PrefetchNames(&names[from], std::min(count, names.size() - from));
  }
  [[nodiscard]] std::optional<Target> FindName(AliasSpace id, const Space& space, EngineHash name,
                                               bool* heard = nullptr) const;
  void Bind(AliasSpace id, Space& space, EngineHash name, Target target, bool heard, size_t more);
  // The space has these names more, each for one block; JoinName is still to come.
  void Bound(Space& space, uint32_t run, const RunStore::AddedNames& added);
  void Unbind(AliasSpace id, Space& space, EngineHash name, BlockRef block);
  // Before the space gets one more name for the block: where it has kMaxNamesOfBlock, its publisher
  // does not hold the block any more, and the names go.
  void MakeRoomForName(AliasSpace id, Space& space, BlockRef block);
  void SetSpan(Space& space, EngineHash name, uint32_t span);
  // Whether a span of so many blocks can end with the block: its chain has them.
  [[nodiscard]] bool HasRoom(BlockRef block, uint32_t span) const;

  // What `name` stands for in a store that derives the span with `prefixes` after `parent` for it;
  // bound, or moved, if need be.
  Target Resolve(const StoreRequest& request, Space& space, Namespace* name_space, EngineHash name,
                 Tip& tip, std::span<const PrefixHash> prefixes);

  // --- Holdings.

  [[nodiscard]] static uint32_t Upper(HolderId holder, Tier tier) {
    return static_cast<uint32_t>(holder) << 2 | static_cast<uint32_t>(tier);
  }
  [[nodiscard]] static uint64_t CopyKey(BlockRef block, HolderId holder, Tier tier) {
    return uint64_t{block.value} << 32 | Upper(holder, tier);
  }

  // The span of what is held, 0: nothing is.
  [[nodiscard]] uint32_t HeldSpan(const Holder& holder, HolderId id, Tier tier,
                                  BlockRef block) const;
  void AddHolding(Holder& holder, HolderId id, Tier tier, Target target);
  void EraseHolding(Holder& holder, HolderId id, Tier tier, Target target);
  // One of Namespace::span_entries is gone.
  void SpanEntryGone(Namespace* name_space);

  // `counts`: what is held already counts once more.
  void Hold(Holder& holder, HolderId id, Tier tier, bool counts, Target target);
  // One copy less; false when there was none.
  bool Leave(Holder& holder, HolderId id, Tier tier, BlockRef block,
             RemovalCause cause = RemovalCause::kRemoved);

  // What any holder of the publisher holds of the block, on every tier; true when there was any.
  // The block is not released by it: LetGo is.
  bool EraseAllOf(uint32_t publisher, BlockRef block);

  // A block that lost a name and perhaps its holdings: released and forgotten where it should be.
  void LetGo(BlockRef block);

  uint64_t ClearTier(HolderId id, Tier tier, RemovalCause cause);

  // For the history: the holder does not hold the block any more, or `count` from it on.
  void Note(const Holder& holder, Tier tier, BlockRef block, RemovalCause cause,
            uint64_t count = 1) {
    if (holder.source == RemovalHistory::kNoSource) return;
    history.AddBlock(holder.source, cause, tier, store.prefix(block), count, occasion);
  }

  // Adds a holder that is nobody's group yet.
  HolderId NewHolder(Namespace* name_space, uint32_t publisher, bool visible);
  void EraseHolder(HolderId id);

  // --- Pools.

  Domain* FindOrAddDomain(const PoolDomain& key, PoolId pool);

  // A name of an engine's space came to stand for `target`; does not any more. `moved`: because the
  // engine says that it stands for another block.
  void JoinName(const Space& space, EngineHash name, Target target);
  void PartName(const Space& space, EngineHash name, Namespace* name_space, BlockRef block,
                bool moved);
  // It stands for the same block, as the end of another span.
  void RespanName(const Space& space, EngineHash name, Target target);

  // What engines of the domain call so.
  [[nodiscard]] std::vector<Joined> BlocksCalled(const Domain& domain, PoolName name) const;

  // What the claim's pool holds because of one block of the name.
  void HoldClaim(const Claim& claim, Target target);
  void LeaveClaim(const Claim& claim, BlockRef block);
  // An entry without claims goes.
  void TidyName(Domain* domain, PoolName name);

  // --- For Validate.

  [[nodiscard]] Status ValidateDomain(const Domain& domain) const;
  // The lists of runs, in order, as they are asked for.
  struct ListsInOrder {
    std::map<uint32_t, std::vector<uint32_t>> of_holders;  // by holder and tier
    std::map<uint32_t, std::vector<uint32_t>> of_spaces;
  };
  // The first broken invariant of one run.
  [[nodiscard]] Status ValidateRun(uint32_t run, ListsInOrder& lists) const;
};

}  // namespace conductor::index

#endif  // CONDUCTOR_LIB_INDEX_PREFIX_INDEX_IMPL_H_
