#ifndef CONDUCTOR_LIB_INDEX_PREFIX_INDEX_IMPL_H_
#define CONDUCTOR_LIB_INDEX_PREFIX_INDEX_IMPL_H_

#include <absl/container/flat_hash_map.h>
#include <absl/container/flat_hash_set.h>

#include <array>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "lib/base/fair_mutex.h"
#include "lib/hash/hash_profile.h"
#include "lib/index/prefix_index.h"

// The tables behind PrefixIndex. For the files of this folder only:
//   block_table.cc   blocks, their lifetime, their names
//   holdings.cc      who holds what
//   pool_names.cc    what pools have, joined by what engines call it
//   prefix_match.cc  a prompt's way through
//   prefix_validate.cc
namespace conductor::index {

// One holder's hold of one block on one tier: at most one whole holding, of the span that ends with
// the block, and at most one inner holding (span == kInner), for the spans that pass through it.
struct Holding {
  HolderId holder;
  Tier tier;
  uint32_t span;   // blocks, of a whole holding: as it was announced last
  uint32_t count;  // copies of a whole holding, or whole holdings whose span an inner one is in
};

constexpr uint32_t kInner = 0;

struct Alias {
  AliasSpace space;
  EngineHash name;

  friend bool operator==(const Alias&, const Alias&) = default;
};

struct Namespace;

struct Block {
  Namespace* name_space;
  Block* parent;  // nullptr: the first block of a prompt
  PrefixHash prefix;
  uint32_t children = 0;           // blocks whose parent this is
  uint32_t retained_children = 0;  // of these, those that are held or have retained children
  std::vector<Holding> holdings;
  std::vector<Alias> aliases;
  bool released = false;
  std::list<Block*>::iterator place;  // in the list of released blocks, when released

  [[nodiscard]] bool retained() const { return !holdings.empty() || retained_children > 0; }
};

// One rank in one namespace, and all that tell of it.
struct Group {
  std::shared_ptr<const RankKey> rank;
  size_t ordinal;  // position in Namespace::groups
  std::vector<HolderId> holders;
};

struct Domain;

struct Namespace {
  NamespaceKey key;
  Domain* domain = nullptr;   // that pools look for names in; nullptr: none does
  uint32_t pool_holders = 0;  // of pools; they are in no group
  absl::flat_hash_map<PrefixHash, std::unique_ptr<Block>> blocks;
  std::vector<std::unique_ptr<Group>> groups;
  std::map<std::pair<std::string, uint32_t>, Group*> group_of;  // by instance and rank
};

struct Target {
  Block* block;   // the last one of the span
  uint32_t span;  // blocks, as the name was announced last
};

struct Space {
  uint32_t publisher;
  uint32_t group;
  absl::flat_hash_map<EngineHash, Target> names;
};

struct Pool {
  std::string name;
  PoolLookup lookup;
  std::optional<hash::HashProfile> profile;
  PoolStats stats;
  // Where it holds something; a holder has the pool's blocks of one namespace.
  std::map<Namespace*, HolderId> holders;
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
  std::vector<Claim> claims;   // of pools that have the block
};

// The names of all engines of one deployment of a model, for the pools that speak of it.
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
  // Blocks with a holding of this holder on the tier, whole or inner.
  std::array<absl::flat_hash_set<Block*>, kTierCount> blocks;
  std::array<uint64_t, kTierCount> whole{};  // whole holdings
};

struct Matches::Memory {
  std::vector<std::shared_ptr<const RankKey>> ranks;
  std::list<NamespaceKey> name_spaces;
  std::list<std::string> pools;
};

struct PrefixIndex::Impl {
  explicit Impl(Options given) : options(given) {}

  const Options options;
  mutable FairSharedMutex mutex;  // guards everything below
  std::map<NamespaceKey, std::unique_ptr<Namespace>> namespaces;
  absl::flat_hash_map<HolderId, Holder> holders;
  absl::flat_hash_map<AliasSpace, Space> spaces;
  std::map<PoolId, Pool> pools;
  std::map<PoolDomain, std::unique_ptr<Domain>> domains;
  std::list<Block*> released;  // oldest first
  uint32_t next_holder = 0;
  uint32_t next_space = 0;
  uint32_t next_pool = 0;
  uint64_t name_conflicts = 0;

  Namespace* FindOrAddNamespace(const NamespaceKey& key);

  // A namespace without blocks and holders is forgotten: names of tenants and models come from
  // outside and must not pile up.
  void ForgetIfEmpty(Namespace* name_space);

  Group* FindOrAddGroup(Namespace* name_space, const RankKey& rank);

  void LeaveGroup(Namespace* name_space, Group* group, HolderId id);

  [[nodiscard]] PrefixHash Prefix(std::optional<PrefixHash> parent, LocalHash local) const;

  // A new block is released until it is held, which must be the next thing that happens to it.
  Block* FindOrAddBlock(Namespace* name_space, Block* parent, PrefixHash prefix);

  // The blocks of one span after `parent`; the last one.
  Block* FindOrAddSpan(Namespace* name_space, Block* parent, std::span<const PrefixHash> prefixes);

  // The block became held or got its first retained child: it and its ancestors stay.
  void Retain(Block* block);

  // The block lost a holding or a retained child. Leaf before parent.
  void ReleaseIfUnheld(Block* block);

  // Forgets released blocks above the limit, oldest first.
  void TrimReleased();

  // Only for released blocks without children.
  void Forget(Block* block);

  // Nothing names a released block without aliases, so nothing is lost with it.
  void ForgetNameless(Block* block);

  // ForgetNameless for each. It may forget ancestors too, so only those that are childless begin.
  void ForgetNamelessLeaves(const absl::flat_hash_set<Block*>& blocks);

  void Bind(AliasSpace id, Space& space, EngineHash name, Block* block, uint32_t span);

  void Unbind(AliasSpace id, Space& space, EngineHash name, Block* block);

  Holding* FindHolding(Block* block, HolderId holder, Tier tier, bool inner);

  void AddHolding(Block* block, HolderId id, Tier tier, uint32_t span);

  void EraseHolding(Block* block, Holding* holding);

  // Inner holdings of the blocks before `last` in a span of `span` blocks.
  void HoldInner(HolderId id, Tier tier, Block* last, uint32_t span);

  void LeaveInner(HolderId id, Tier tier, Block* last, uint32_t span);

  // `counts`: what is held already counts once more.
  void Hold(HolderId id, Tier tier, bool counts, Target target);

  // Takes the whole holding away, with the inner ones of its span.
  void EraseWhole(Block* block, Holding* holding);

  // What any holder of the publisher holds of the block, on every tier; true when there was any.
  bool EraseAllOf(uint32_t publisher, Block* block);

  // What `name` stands for in a store that derives the span with `prefixes` after `parent` for it;
  // bound, or moved, if need be.
  Target Resolve(const StoreRequest& request, Namespace* name_space, EngineHash name, Block* parent,
                 std::span<const PrefixHash> prefixes);

  uint64_t ClearTier(HolderId id, Tier tier);

  // Adds a holder that is nobody's group yet.
  HolderId NewHolder(Namespace* name_space, uint32_t publisher, bool visible);
  void EraseHolder(HolderId id);

  Domain* FindOrAddDomain(const PoolDomain& key, PoolId pool);

  // A name of an engine's space came to stand for `target`; does not any more. `moved`: because the
  // engine says that it stands for another block.
  void JoinName(const Space& space, EngineHash name, Target target);
  void PartName(const Space& space, EngineHash name, Block* block, bool moved);
  // It stands for the same block, as the end of another span.
  void RespanName(const Space& space, EngineHash name, Target target);

  // What the claim's pool holds because of one block of the name.
  void HoldClaim(const Claim& claim, Target target);
  void LeaveClaim(const Claim& claim, Block* block);
  // Without claims, what engines do not call so any more is let go of; and an empty entry goes.
  void TidyName(Domain* domain, PoolName name);

  // The ranks and pools of one namespace along the prompt's chain. Without `name_space` the pools
  // of `domain` alone, by `names`.
  struct Prompt;
  void MatchNamespace(const NamespaceKey& key, const Namespace* name_space, const Domain* domain,
                      const Prompt& prompt, Matches& matches) const;

  [[nodiscard]] Status ValidateDomain(const Domain& domain) const;

  // The first broken invariant of one block.
  [[nodiscard]] Status ValidateBlock(const Namespace& name_space, const Block& block) const;
};

}  // namespace conductor::index

#endif  // CONDUCTOR_LIB_INDEX_PREFIX_INDEX_IMPL_H_
