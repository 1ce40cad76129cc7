#ifndef CONDUCTOR_LIB_INDEX_PREFIX_INDEX_H_
#define CONDUCTOR_LIB_INDEX_PREFIX_INDEX_H_

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lib/base/result.h"
#include "lib/base/tier.h"
#include "lib/hash/block_hash.h"
#include "lib/hash/hash_profile.h"
#include "lib/index/prefix_source.h"
#include "lib/index/removal_history.h"

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

// One namespace, as long as a holder stands in it.
enum class NamespaceId : uint32_t {};

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

// One pool: blocks that every instance of a namespace can load.
enum class PoolId : uint32_t {};

// The namespaces in which a pool's names are looked for: those of one deployment of a model, with
// any adapter and block size.
struct PoolDomain {
  std::string tenant;
  std::string model;
  std::string additional_salt;

  auto operator<=>(const PoolDomain&) const = default;
};

// What pools call a block: as its engines do.
struct PoolName {
  uint32_t group = 0;  // KV-cache group
  EngineHash hash{};

  friend bool operator==(const PoolName&, const PoolName&) = default;
  template <typename H>
  friend H AbslHashValue(H state, const PoolName& name) {
    return H::combine(std::move(state), name.group, name.hash);
  }
};

struct PoolStats {
  uint64_t blocks = 0;   // that it has
  uint64_t joined = 0;   // of these: with a name that some engine announced
  uint64_t trimmed = 0;  // blocks of it that were given up for memory_limit, ever
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
  // In place of `locals`, where the blocks' own hashes were told instead of their tokens; span 1.
  std::span<const PrefixHash> prefixes = {};
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
  kOtherNamespace,  // the name's block stands in another namespace than the holder
};

// How far one rank matches a prompt, in blocks from its first: gpu <= cpu <= disk.
//   gpu:  the longest run from block 0 on the device;
//   cpu:  from there on through blocks on the host;
//   disk: from there on through blocks on the host or on disk, in any mix.
// What a pool of PoolLookup::kContinue has counts for cpu and disk as if the rank had it, one pool
// at a time, the best of them. A block that is held only as an inner part of a span counts when the
// prompt goes on to the span's end.
struct RankMatch {
  const RankKey* rank = nullptr;
  uint32_t gpu = 0;
  uint32_t cpu = 0;
  uint32_t disk = 0;
  std::string_view pool;  // the one that counted; empty: none
};

// How far one pool matches a prompt by itself, in blocks from its first: cpu <= disk, as in
// RankMatch. Every instance of the namespace can load them.
struct PoolMatch {
  std::string_view pool;                     // the name it was added with
  const NamespaceKey* name_space = nullptr;  // of the prompt
  uint32_t cpu = 0;
  uint32_t disk = 0;
};

struct MatchOptions {
  // The best ranks alone, so many: by disk, then cpu, then gpu. 0: all.
  uint32_t top = 0;
};

// One block of a chain, as PrefixIndex::Look tells it.
struct BlockView {
  struct Holding {
    std::shared_ptr<const RankKey> rank;
    std::array<bool, kTierCount> on{};  // by Tier
  };

  // It is held, or was and is remembered for its names (Options::released_limit), or leads to such.
  bool known = false;
  std::vector<Holding> holdings;  // one for each rank that holds it, visible ones
};

// Sizes for people and metrics.
struct IndexStats {
  uint64_t blocks = 0;    // distinct blocks known, released ones among them
  uint64_t released = 0;  // of these: held by nobody, remembered for their names
  uint64_t holdings = 0;  // (block, holder, tier), copies counted once
  uint64_t aliases = 0;
  uint64_t holders = 0;  // pools' ones among them
  // A held name was announced again for another block, or a block had too many names.
  uint64_t name_conflicts = 0;
  uint64_t runs = 0;     // pieces of chains, of up to 64 blocks
  uint64_t bytes = 0;    // of everything, what was freed and not given back among them
  uint64_t trimmed = 0;  // blocks that were given up for memory_limit, ever ...
  uint64_t trims = 0;    // ... and how often
};

struct NamespaceStats {
  NamespaceKey key;
  uint64_t blocks = 0;
};

// What a rank of an instance holds in one namespace.
struct RankStats {
  RankKey rank;
  uint32_t holders = 0;  // publishers that tell of it
  // By Tier. What several holders of the rank hold counts for each.
  std::array<uint64_t, kTierCount> blocks{};
};

class Matches;

// The prefix index: which rank holds which block on which tier.
//
//   prompt ──▶ prefix hashes ──▶ runs of up to 64 blocks, one cache line of header each
//
//      ┌───────────────────────────────────────┐      ┌────────────────────────────┐
//      │ run: blocks 0 to 63 of a chain        │◀─────│ run: after block 40 of it  │
//      │   prefix hashes   h0 h1 ... h63       │parent│   h'41 h'42 ...            │
//      │   first names     n0 n1 ... n63       │      └────────────────────────────┘
//      │   holders   (holder, tier) ─▶ mask    │◀───── run: after block 63 ◀── ...
//      │   spaces    (space, column) ─▶ mask   │
//      │   further columns of names, where     │      table of names:  hash(name) ─▶ run, block
//      │   publishers call the blocks otherwise│      table of first blocks:  hash(h0) ─▶ run
//      └───────────────────────────────────────┘
//
// A block is a path: the namespace and all prefix hashes from its root. Each is stored once,
// whoever holds it: who does is a bit in a mask for each (holder, tier) of its run. So a hole costs
// nothing, no run is ever split or moved, a block keeps its number (BlockRef) while it is known,
// and a second holder of a full run costs 32 bytes. A lookup compares a run's hashes in sequence,
// then folds the masks of its holders into who still follows; where two runs in a row are held
// whole by the same holders (a sum of random numbers tells) it does not look at them at all.
//
// Names are aliases, kept per AliasSpace:
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
//   * A pool says which names it has, not which blocks: it holds what engines of its domain
//     announced under such a name, and whatever they announce under it later. Once joined, the name
//     stands for that block as long as a pool has it, though the engines that announced it leave;
//     but where an engine moves the name to another block, and none other has it for the old one,
//     it is the new one's alone.
//   * A name stands for the last block of its span. What a holder holds of a block on a tier has
//     the span of the announcement that came last; an event without tokens has that of the last
//     one with tokens under the name.
//   * A space has at most 64 names for one block. Where one more comes, its publisher does not hold
//     the block any more, and only the new name stands for it: names that mean something nobody
//     tells (a salt for each user) must not pile up at a block that is never released.
//   * Over memory_limit leaves are given up, run by run: the least recently announced first, of
//     those the deepest; never one that something kept follows. Whoever held them is told
//     (TrimmedOf). Names of pools take half of the limit at most; beyond, blocks of pools are not
//     taken in, and told in PoolStats::trimmed.
//
// Invariants, which Validate() checks by a full walk:
//
//   * Every block has its parent; the blocks of a run have those before them as parents.
//   * In a run the held blocks and their ancestors come first (`retained`), released ones after
//     them. Blocks are forgotten from the end of a run only.
//   * A cell of a column is in the table of names exactly when somebody calls the block so.
//   * A holder's list of runs names each run in which it has a bit; so clearing it costs in
//     proportion to what it held, and removing or unregistering too (and, for each run, a move of
//     16 bytes for each holder of it).
//   * What was used and is free goes back to the system, a page of 4 KiB (runs), of 32 KiB (hashes
//     and names) or a segment of a table at a time; so memory falls with what is held, but for
//     pages that keep something.
//
// Threads. Changes go through a Writer, which holds a fair lock: one at a time. Match takes no lock
// and never waits for a writer: it reads each run between two looks at the run's version. (But for
// names that pools' profiles give a prompt's blocks: those are looked up under the lock.) So what
// it counts was held at some moment while it ran, block by block, and where nobody wrote meanwhile
// it is exact; a batch is not one change to it. Only a set of holders that takes the place of
// another is never seen half: it is looked up again when the roster of the namespace changed. The
// other questions take the lock and see whole batches.
//
// Designed for 10,000 GPUs: 10 to 300 million held blocks (limits: 2^25 runs, 32 GiB of hashes and
// names), thousands of ranks, prompts of 8,192 blocks. docs/performance.md has what it costs, and
// how that was measured. In short: 24 bytes a block, 2 more for each further holder with the same
// names and 16 with its own; a lookup costs a fifth more than hashing its prompt.
//
// Tried and dropped:
//
//   * Hash maps of blocks, holdings and names under one reader-writer lock, the first version: 200
//     bytes a holding, and lookups that wait for writers. It was the model for this one's rules.
//   * Runs of any length, split where holders differ (the usual compressed prefix tree): a byte a
//     block less for long runs; but each eviction from the middle splits one, and the names of the
//     moved half have to be found another way.
//   * A name table that keeps ids with 4-bit tags, 14 to a cache line: 0.4 bytes a block less, and
//     three of four lookups of an unknown name read another name in vain: applying events was a
//     quarter slower at ten million blocks.
//   * Keeping the overflow counts of that table for ever: after some churn every lookup passed ten
//     buckets. Segments that have been exchanged once are rebuilt.
//   * A name for each publisher in the table: 6 bytes a block and holder. Now publishers that name
//     blocks alike share one cell.
//   * Readers that copy a run's entries before they count them: 4,096 holders took half as long
//     again.
//   * Pools that fill gaps, and any span in the namespace, by a look at every block: seven times as
//     long with a pool, a hundred times with 64 holders. Spans still are, where the prompt meets
//     one.
class PrefixIndex {
 public:
  struct Options {
    uint64_t hash_seed = hash::kDefaultSeed;
    size_t released_limit = 65536;  // blocks
    uint64_t memory_limit = 0;      // bytes, about, for IndexStats::bytes; 0: none
    // What left that is remembered: entries of 32 bytes, which no figure of bytes counts; 0: none.
    uint64_t history = 65536;
  };

  // What the prompt's block is called under a pool's declared profile; nothing when it cannot be
  // told. Asked in the order of blocks, for several profiles by turns.
  using NameSource =
      std::function<std::optional<EngineHash>(const hash::HashProfile& profile, size_t block)>;

  explicit PrefixIndex(Options options);
  ~PrefixIndex();
  PrefixIndex(const PrefixIndex&) = delete;
  PrefixIndex& operator=(const PrefixIndex&) = delete;

  [[nodiscard]] const Options& options() const;

  // All changes. Keep it for one batch, never across a wait. `occasion` is for the history.
  class Writer;
  [[nodiscard]] Writer Write(const Occasion& occasion = {});

  // The ranks and pools in `scope` that hold at least the first block, in no order; of those that
  // are among the best `top` when `options` says so, the best first. Holders that are not visible
  // are left out. Blocks of pools with a profile are also found by what `names` calls them, whether
  // an engine announced them or not.
  void Match(const Scope& scope, PrefixSource& source, const MatchOptions& options,
             const NameSource& names, Matches& matches) const;
  [[nodiscard]] Matches Match(const Scope& scope, PrefixSource& source,
                              const NameSource& names = {}) const;

  [[nodiscard]] IndexStats Stats() const;
  [[nodiscard]] std::vector<NamespaceStats> Namespaces() const;
  // By namespace, instance and rank; of holders that are visible. Pools are none. Where `instance`
  // is given, only that one's.
  [[nodiscard]] std::vector<RankStats> Ranks(std::optional<std::string_view> instance = {}) const;
  // Blocks that a holder holds on a tier.
  [[nodiscard]] uint64_t HeldBlocks(HolderId holder, Tier tier) const;
  // How often something was given up for memory_limit. Takes no lock.
  [[nodiscard]] uint64_t Trims() const;
  // Holdings of it that were given up since a Clear left it with nothing. Removals do not count: it
  // has what was given up still.
  [[nodiscard]] uint64_t TrimmedOf(HolderId holder) const;
  [[nodiscard]] PoolStats StatsOf(PoolId pool) const;
  // Whether a pool has declared a profile, so that a NameSource may be asked for something.
  [[nodiscard]] bool HasPoolProfiles() const;

  // What is known of the last block of a chain, which is given from the prompt's first block on.
  // Of a span only the last block is held.
  [[nodiscard]] BlockView Look(const NamespaceKey& name_space,
                               std::span<const PrefixHash> chain) const;
  // What of the history (Options::history) is of the instance's ranks in the namespace, newest
  // first: entries of any of `blocks`, and the newest entry of all that was held for each rank,
  // publisher and tier. Scans the history; others write on meanwhile.
  [[nodiscard]] std::vector<Removal> Removals(const NamespaceKey& name_space,
                                              std::string_view instance_id,
                                              std::span<const PrefixHash> blocks) const;
  // The newest entry of all that was held by any rank of the instance in any namespace.
  [[nodiscard]] std::optional<Removal> LastLeft(std::string_view instance_id) const;
  // The names of the pools of the domain that have a block called so.
  [[nodiscard]] std::vector<std::string> PoolsWith(const PoolDomain& domain, PoolName name) const;

  // Every invariant checked by a full walk; the first one broken is told. For tests.
  [[nodiscard]] Status Validate() const;

 private:
  friend class ChainCopy;
  friend class ChainRestore;
  struct Impl;
  class Lookup;
  std::unique_ptr<Impl> impl_;
};

// What a lookup found, and its working memory: whoever asks often keeps one, and then no lookup
// allocates once it has grown. What the matches point to lives until the next lookup into it.
class Matches {
 public:
  Matches();
  ~Matches();
  Matches(Matches&&) noexcept;
  Matches& operator=(Matches&&) noexcept;

  std::vector<RankMatch> ranks;
  std::vector<PoolMatch> pools;
  uint32_t walked = 0;  // blocks of the prompt that were looked for, the first miss among them

 private:
  friend class PrefixIndex;
  struct Memory;
  std::unique_ptr<Memory> memory_;
};

class PrefixIndex::Writer {
 public:
  ~Writer();
  Writer(Writer&&) noexcept;
  Writer& operator=(Writer&&) = delete;

  // `publisher` groups the holders and alias spaces of one life of one publisher: any number that
  // the caller keeps apart. `called` is what Removal::publisher says.
  [[nodiscard]] HolderId AddHolder(const RankKey& rank, uint32_t publisher, bool visible,
                                   std::string called = {});
  [[nodiscard]] AliasSpace AddSpace(uint32_t publisher, uint32_t group = 0);
  void SetVisible(HolderId holder, bool visible);
  // Everything it holds goes, then the id is invalid. What was not visible leaves no trace in the
  // history.
  void DropHolder(HolderId holder, RemovalCause cause = RemovalCause::kUnregistered);
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
  // The same, for those who know their holders by it.
  [[nodiscard]] std::optional<NamespaceId> NamespaceIdOf(AliasSpace space, EngineHash name) const;
  [[nodiscard]] NamespaceId NamespaceIdOf(HolderId holder) const;
  // What looks the names up soon will find them in the cache. For events of several blocks.
  void Prefetch(std::span<const EngineHash> names) const;
  RemoveOutcome Remove(HolderId holder, AliasSpace space, Tier tier, EngineHash name,
                       RemovalCause cause = RemovalCause::kRemoved);
  // True when the holder holds the block of `name` on `tier`.
  [[nodiscard]] bool Holds(HolderId holder, AliasSpace space, Tier tier, EngineHash name) const;
  // Drops all that the holder holds on the tier; the number of blocks.
  uint64_t Clear(HolderId holder, Tier tier);

  // `name` is what PoolMatch calls it.
  [[nodiscard]] PoolId AddPool(std::string name, PoolLookup lookup,
                               std::optional<hash::HashProfile> profile);
  // Requires that it has no block any more. The id is invalid after it.
  void DropPool(PoolId pool);
  // The pool has the block of that name on `tier` and no other; nothing: not at all.
  void SetPoolBlock(PoolId pool, const PoolDomain& domain, PoolName name, std::optional<Tier> tier);

 private:
  friend class ChainRestore;
  friend class PrefixIndex;
  explicit Writer(Impl* impl);
  Impl* impl_;
};

}  // namespace conductor::index

#endif  // CONDUCTOR_LIB_INDEX_PREFIX_INDEX_H_
