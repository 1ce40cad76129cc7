#include "lib/index/prefix_index.h"

#include <absl/container/flat_hash_map.h>
#include <absl/container/flat_hash_set.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <list>
#include <map>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <tuple>
#include <utility>

#include "lib/base/fair_mutex.h"

namespace conductor::index {
namespace {

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

struct Namespace {
  NamespaceKey key;
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
  absl::flat_hash_map<EngineHash, Target> names;
};

struct Holder {
  Namespace* name_space;
  Group* group;
  uint32_t publisher;
  bool visible;
  // Blocks with a holding of this holder on the tier, whole or inner.
  std::array<absl::flat_hash_set<Block*>, kTierCount> blocks;
  std::array<uint64_t, kTierCount> whole{};  // whole holdings
};

// What a rank holds of one block of a prompt, over all its holders. A bit per tier.
struct TierBits {
  uint8_t any = 0;      // held, if only as an inner part of a span
  uint8_t covered = 0;  // part of a span that ends in the prompt
};

constexpr uint8_t Bit(Tier tier) { return static_cast<uint8_t>(1u << static_cast<unsigned>(tier)); }

// The first block from `from` on that none of `tiers` covers. A covered block's whole span is
// covered, so this never ends inside one.
uint32_t Extend(const std::vector<TierBits>& bits, uint32_t from, uint8_t tiers) {
  while (from < bits.size() && (bits[from].covered & tiers) != 0) ++from;
  return from;
}

}  // namespace

struct PrefixIndex::Impl {
  explicit Impl(Options given) : options(given) {}

  const Options options;
  mutable FairSharedMutex mutex;  // guards everything below
  std::map<NamespaceKey, std::unique_ptr<Namespace>> namespaces;
  absl::flat_hash_map<HolderId, Holder> holders;
  absl::flat_hash_map<AliasSpace, Space> spaces;
  std::list<Block*> released;  // oldest first
  uint32_t next_holder = 0;
  uint32_t next_space = 0;
  uint64_t name_conflicts = 0;

  Namespace* FindOrAddNamespace(const NamespaceKey& key) {
    auto& slot = namespaces[key];
    if (!slot) slot = std::make_unique<Namespace>(Namespace{.key = key});
    return slot.get();
  }

  // A namespace without blocks and holders is forgotten: names of tenants and models come from
  // outside and must not pile up.
  void ForgetIfEmpty(Namespace* name_space) {
    if (!name_space->blocks.empty() || !name_space->groups.empty()) return;
    namespaces.erase(NamespaceKey(name_space->key));
  }

  Group* FindOrAddGroup(Namespace* name_space, const RankKey& rank) {
    Group*& slot = name_space->group_of[{rank.instance_id, rank.dp_rank}];
    if (slot == nullptr) {
      auto group = std::make_unique<Group>();
      group->rank = std::make_shared<const RankKey>(rank);
      group->ordinal = name_space->groups.size();
      slot = name_space->groups.emplace_back(std::move(group)).get();
    }
    return slot;
  }

  void LeaveGroup(Namespace* name_space, Group* group, HolderId id) {
    std::erase(group->holders, id);
    if (!group->holders.empty()) return;
    name_space->group_of.erase({group->rank->instance_id, group->rank->dp_rank});
    auto& groups = name_space->groups;
    const size_t ordinal = group->ordinal;
    std::swap(groups[ordinal], groups.back());
    groups[ordinal]->ordinal = ordinal;
    groups.pop_back();
  }

  [[nodiscard]] PrefixHash Prefix(std::optional<PrefixHash> parent, LocalHash local) const {
    return parent ? hash::NextPrefix(*parent, local, options.hash_seed) : hash::FirstPrefix(local);
  }

  // A new block is released until it is held, which must be the next thing that happens to it.
  Block* FindOrAddBlock(Namespace* name_space, Block* parent, PrefixHash prefix) {
    auto& slot = name_space->blocks[prefix];
    if (!slot) {
      slot = std::make_unique<Block>();
      slot->name_space = name_space;
      slot->parent = parent;
      slot->prefix = prefix;
      if (parent != nullptr) ++parent->children;
      slot->released = true;
      slot->place = released.insert(released.end(), slot.get());
    }
    return slot.get();
  }

  // The blocks of one span after `parent`; the last one.
  Block* FindOrAddSpan(Namespace* name_space, Block* parent, std::span<const PrefixHash> prefixes) {
    for (const PrefixHash prefix : prefixes) parent = FindOrAddBlock(name_space, parent, prefix);
    return parent;
  }

  // The block became held or got its first retained child: it and its ancestors stay.
  void Retain(Block* block) {
    for (; block != nullptr && block->released; block = block->parent) {
      released.erase(block->place);
      block->released = false;
      if (block->parent != nullptr) ++block->parent->retained_children;
    }
  }

  // The block lost a holding or a retained child. Leaf before parent.
  void ReleaseIfUnheld(Block* block) {
    while (block != nullptr && !block->released && !block->retained()) {
      block->released = true;
      block->place = released.insert(released.end(), block);
      block = block->parent;
      if (block != nullptr) --block->retained_children;
    }
  }

  // Forgets released blocks above the limit, oldest first.
  void TrimReleased() {
    while (released.size() > options.released_limit) {
      Block* parent = released.front()->parent;
      Forget(released.front());
      ForgetNameless(parent);
    }
  }

  // Only for released blocks without children.
  void Forget(Block* block) {
    for (const Alias& alias : block->aliases) spaces.at(alias.space).names.erase(alias.name);
    released.erase(block->place);
    if (block->parent != nullptr) --block->parent->children;
    Namespace* name_space = block->name_space;
    name_space->blocks.erase(block->prefix);
    ForgetIfEmpty(name_space);
  }

  // Nothing names a released block without aliases, so nothing is lost with it.
  void ForgetNameless(Block* block) {
    while (block != nullptr && block->released && block->aliases.empty() && block->children == 0) {
      Block* parent = block->parent;
      Forget(block);
      block = parent;
    }
  }

  // ForgetNameless for each. It may forget ancestors too, so only those that are childless begin.
  void ForgetNamelessLeaves(const absl::flat_hash_set<Block*>& blocks) {
    std::vector<Block*> leaves;
    for (Block* block : blocks) {
      if (block->children == 0) leaves.push_back(block);
    }
    for (Block* block : leaves) ForgetNameless(block);
  }

  void Bind(AliasSpace id, Space& space, EngineHash name, Block* block, uint32_t span) {
    space.names[name] = Target{block, span};
    block->aliases.push_back(Alias{id, name});
  }

  void Unbind(AliasSpace id, Space& space, EngineHash name, Block* block) {
    space.names.erase(name);
    std::erase(block->aliases, Alias{id, name});
  }

  Holding* FindHolding(Block* block, HolderId holder, Tier tier, bool inner) {
    for (Holding& holding : block->holdings) {
      if (holding.holder == holder && holding.tier == tier && (holding.span == kInner) == inner) {
        return &holding;
      }
    }
    return nullptr;
  }

  void AddHolding(Block* block, HolderId id, Tier tier, uint32_t span) {
    block->holdings.push_back(Holding{id, tier, span, 1});
    holders.at(id).blocks[static_cast<size_t>(tier)].insert(block);
    Retain(block);
  }

  void EraseHolding(Block* block, Holding* holding) {
    const HolderId id = holding->holder;
    const Tier tier = holding->tier;
    block->holdings.erase(block->holdings.begin() + (holding - block->holdings.data()));
    const bool more = std::ranges::any_of(block->holdings, [&](const Holding& other) {
      return other.holder == id && other.tier == tier;
    });
    if (!more) holders.at(id).blocks[static_cast<size_t>(tier)].erase(block);
    ReleaseIfUnheld(block);
  }

  // Inner holdings of the blocks before `last` in a span of `span` blocks.
  void HoldInner(HolderId id, Tier tier, Block* last, uint32_t span) {
    Block* inner = last->parent;
    for (uint32_t i = 1; i < span; ++i, inner = inner->parent) {
      if (Holding* holding = FindHolding(inner, id, tier, true)) {
        ++holding->count;
      } else {
        AddHolding(inner, id, tier, kInner);
      }
    }
  }

  void LeaveInner(HolderId id, Tier tier, Block* last, uint32_t span) {
    Block* inner = last->parent;
    for (uint32_t i = 1; i < span; ++i) {
      Block* next = inner->parent;
      Holding* part = FindHolding(inner, id, tier, true);
      if (--part->count == 0) EraseHolding(inner, part);
      inner = next;
    }
  }

  void Hold(HolderId id, Tier tier, CopyMode copies, Target target) {
    Holding* holding = FindHolding(target.block, id, tier, false);
    if (holding == nullptr) {
      AddHolding(target.block, id, tier, target.span);
      ++holders.at(id).whole[static_cast<size_t>(tier)];
      HoldInner(id, tier, target.block, target.span);
      return;
    }
    if (tier == Tier::kGpu && copies == CopyMode::kCount) ++holding->count;
    const uint32_t before = std::exchange(holding->span, target.span);
    if (before == target.span) return;
    HoldInner(id, tier, target.block, target.span);
    LeaveInner(id, tier, target.block, before);
  }

  // Takes the whole holding away, with the inner ones of its span.
  void EraseWhole(Block* block, Holding* holding) {
    const HolderId id = holding->holder;
    const Tier tier = holding->tier;
    const uint32_t span = holding->span;
    EraseHolding(block, holding);
    --holders.at(id).whole[static_cast<size_t>(tier)];
    LeaveInner(id, tier, block, span);
  }

  // What any holder of the publisher holds of the block, on every tier; true when there was any.
  bool EraseAllOf(uint32_t publisher, Block* block) {
    bool erased = false;
    for (size_t i = block->holdings.size(); i-- > 0;) {
      Holding& holding = block->holdings[i];
      if (holding.span == kInner || holders.at(holding.holder).publisher != publisher) continue;
      EraseWhole(block, &holding);
      erased = true;
    }
    return erased;
  }

  // What `name` stands for in a store that derives the span with `prefixes` after `parent` for it;
  // bound, or moved, if need be.
  Target Resolve(const StoreRequest& request, Namespace* name_space, EngineHash name, Block* parent,
                 std::span<const PrefixHash> prefixes) {
    const AliasSpace id = request.space;
    Space& space = spaces.at(id);
    const auto span = static_cast<uint32_t>(prefixes.size());
    const auto found = space.names.find(name);
    if (found == space.names.end()) {
      Block* block = FindOrAddSpan(name_space, parent, prefixes);
      Bind(id, space, name, block, span);
      if (request.bound != nullptr) request.bound->push_back(name);
      return Target{block, span};
    }
    Target& known = found->second;
    const bool same_namespace = known.block->name_space == name_space;
    if (same_namespace && known.block->prefix == prefixes.back()) {
      known.span = span;
      return known;
    }
    if (same_namespace && request.tier != Tier::kGpu) return known;
    Block* old = known.block;
    if (EraseAllOf(space.publisher, old)) ++name_conflicts;
    Block* block = FindOrAddSpan(name_space, parent, prefixes);
    Unbind(id, space, name, old);
    Bind(id, space, name, block, span);
    if (request.bound != nullptr) request.bound->push_back(name);
    ForgetNameless(old);
    return Target{block, span};
  }

  uint64_t ClearTier(HolderId id, Tier tier) {
    Holder& holder = holders.at(id);
    const size_t t = static_cast<size_t>(tier);
    const uint64_t cleared = std::exchange(holder.whole[t], 0);
    const auto blocks = std::exchange(holder.blocks[t], {});
    for (Block* block : blocks) {
      std::erase_if(block->holdings, [&](const Holding& holding) {
        return holding.holder == id && holding.tier == tier;
      });
    }
    // In any order: a block is released once its children are, and each release goes on to the
    // parent, so the list of released blocks stays leaf before parent.
    for (Block* block : blocks) ReleaseIfUnheld(block);
    ForgetNamelessLeaves(blocks);
    return cleared;
  }

  // The ranks of one namespace along the prompt's chain.
  void MatchNamespace(const Namespace& name_space,
                      const std::function<std::optional<PrefixHash>(size_t)>& prefix_at,
                      std::vector<RankMatch>& matches) const;

  // The first broken invariant of one block.
  [[nodiscard]] Status ValidateBlock(const Namespace& name_space, const Block& block) const;
};

void PrefixIndex::Impl::MatchNamespace(
    const Namespace& name_space, const std::function<std::optional<PrefixHash>(size_t)>& prefix_at,
    std::vector<RankMatch>& matches) const {
  std::vector<std::vector<TierBits>> held(name_space.groups.size());
  for (size_t i = 0;; ++i) {
    const auto prefix = prefix_at(i);
    if (!prefix) break;
    const auto found = name_space.blocks.find(*prefix);
    if (found == name_space.blocks.end()) break;
    bool alive = false;
    for (const Holding& holding : found->second->holdings) {
      const Holder& holder = holders.at(holding.holder);
      std::vector<TierBits>& bits = held[holder.group->ordinal];
      if (!holder.visible || bits.size() < i) continue;
      if (bits.size() == i) bits.emplace_back();
      bits[i].any |= Bit(holding.tier);
      for (uint32_t k = 0; k < holding.span; ++k) bits[i - k].covered |= Bit(holding.tier);
      alive = true;
    }
    if (!alive) break;
  }
  for (const auto& group : name_space.groups) {
    const std::vector<TierBits>& bits = held[group->ordinal];
    RankMatch match{group->rank};
    match.gpu = Extend(bits, 0, Bit(Tier::kGpu));
    match.cpu = Extend(bits, match.gpu, Bit(Tier::kCpu));
    match.disk = Extend(bits, match.cpu, Bit(Tier::kCpu) | Bit(Tier::kDisk));
    if (match.disk > 0) matches.push_back(std::move(match));
  }
}

Status PrefixIndex::Impl::ValidateBlock(const Namespace& name_space, const Block& block) const {
  const auto fail = [&](std::string what) {
    return Fail(std::move(what), fmt::format("block {:016x}", static_cast<uint64_t>(block.prefix)));
  };
  if (block.name_space != &name_space) return fail("stands in another namespace's table");
  if (block.released == block.retained()) return fail("is released and retained, or neither");
  for (size_t i = 0; i < block.holdings.size(); ++i) {
    const Holding& holding = block.holdings[i];
    const auto holder = holders.find(holding.holder);
    if (holder == holders.end()) return fail("is held by a holder that left");
    if (holding.count == 0) return fail("has a holding without copies");
    if (holder->second.name_space != &name_space) return fail("is held from another namespace");
    if (!holder->second.blocks[static_cast<size_t>(holding.tier)].contains(&block)) {
      return fail("is missing in its holder's list");
    }
    for (size_t j = 0; j < i; ++j) {
      const Holding& other = block.holdings[j];
      if (other.holder == holding.holder && other.tier == holding.tier &&
          (other.span == kInner) == (holding.span == kInner)) {
        return fail("has the same holding twice");
      }
    }
  }
  for (const Alias& alias : block.aliases) {
    const auto space = spaces.find(alias.space);
    if (space == spaces.end()) return fail("has a name in a space that left");
    const auto name = space->second.names.find(alias.name);
    if (name == space->second.names.end() || name->second.block != &block) {
      return fail("has a name that means something else");
    }
  }
  return {};
}

PrefixIndex::PrefixIndex(Options options) : impl_(std::make_unique<Impl>(options)) {}
PrefixIndex::~PrefixIndex() = default;

const PrefixIndex::Options& PrefixIndex::options() const { return impl_->options; }

std::vector<RankMatch> PrefixIndex::Match(const Scope& scope, const PrefixSource& source) const {
  std::vector<RankMatch> matches;
  std::vector<PrefixHash> prompt;  // as far as any namespace has asked
  bool ended = false;
  const auto prefix_at = [&](size_t i) -> std::optional<PrefixHash> {
    while (prompt.size() <= i && !ended) {
      if (const auto next = source()) {
        prompt.push_back(*next);
      } else {
        ended = true;
      }
    }
    if (i >= prompt.size()) return std::nullopt;
    return prompt[i];
  };
  const std::shared_lock<FairSharedMutex> lock(impl_->mutex);
  // The map is in order of the fields, the salt last.
  auto found = impl_->namespaces.lower_bound(
      NamespaceKey{.tenant = std::string(scope.tenant),
                   .model = std::string(scope.model),
                   .lora_name = std::string(scope.lora_name),
                   .block_size = scope.block_size,
                   .additional_salt = std::string(scope.additional_salt.value_or(""))});
  for (; found != impl_->namespaces.end(); ++found) {
    const auto& [key, name_space] = *found;
    if (std::tie(key.tenant, key.model, key.lora_name, key.block_size) !=
        std::tie(scope.tenant, scope.model, scope.lora_name, scope.block_size)) {
      break;
    }
    if (scope.additional_salt && key.additional_salt != *scope.additional_salt) break;
    impl_->MatchNamespace(*name_space, prefix_at, matches);
  }
  return matches;
}

IndexStats PrefixIndex::Stats() const {
  const std::shared_lock<FairSharedMutex> lock(impl_->mutex);
  IndexStats stats;
  for (const auto& [key, name_space] : impl_->namespaces) stats.blocks += name_space->blocks.size();
  stats.released = impl_->released.size();
  for (const auto& [id, holder] : impl_->holders) {
    for (const uint64_t whole : holder.whole) stats.holdings += whole;
  }
  for (const auto& [id, space] : impl_->spaces) stats.aliases += space.names.size();
  stats.holders = impl_->holders.size();
  stats.name_conflicts = impl_->name_conflicts;
  return stats;
}

std::vector<NamespaceStats> PrefixIndex::Namespaces() const {
  const std::shared_lock<FairSharedMutex> lock(impl_->mutex);
  std::vector<NamespaceStats> all;
  for (const auto& [key, name_space] : impl_->namespaces) {
    all.push_back(NamespaceStats{key, name_space->blocks.size()});
  }
  return all;
}

uint64_t PrefixIndex::HeldBlocks(HolderId holder, Tier tier) const {
  const std::shared_lock<FairSharedMutex> lock(impl_->mutex);
  const auto found = impl_->holders.find(holder);
  return found == impl_->holders.end() ? 0 : found->second.whole[static_cast<size_t>(tier)];
}

Status PrefixIndex::Validate() const {
  const std::shared_lock<FairSharedMutex> lock(impl_->mutex);
  size_t released = 0;
  size_t aliases = 0;
  absl::flat_hash_map<const Block*, std::pair<uint32_t, uint32_t>> children;  // all, retained
  for (const auto& [key, name_space] : impl_->namespaces) {
    for (const auto& [prefix, block] : name_space->blocks) {
      if (prefix != block->prefix) return Fail("a block stands under another prefix hash");
      if (auto status = impl_->ValidateBlock(*name_space, *block); !status) return status;
      released += block->released ? 1 : 0;
      aliases += block->aliases.size();
      if (block->parent != nullptr) {
        auto& [all, retained] = children[block->parent];
        ++all;
        retained += block->released ? 0 : 1;
      }
    }
  }
  for (const auto& [key, name_space] : impl_->namespaces) {
    for (const auto& [prefix, block] : name_space->blocks) {
      const auto found = children.find(block.get());
      const auto counted = found == children.end() ? std::pair(0u, 0u) : found->second;
      if (counted != std::pair(block->children, block->retained_children)) {
        return Fail("a block's children are counted wrongly");
      }
    }
  }
  if (released != impl_->released.size()) return Fail("the list of released blocks is wrong");
  absl::flat_hash_set<const Block*> older;
  for (const Block* block : impl_->released) {
    if (block->parent != nullptr && older.contains(block->parent)) {
      return Fail("a parent was released before its child");
    }
    older.insert(block);
  }
  size_t names = 0;
  for (const auto& [id, space] : impl_->spaces) names += space.names.size();
  if (names != aliases) return Fail("a name points to a block that does not know it");
  for (const auto& [id, holder] : impl_->holders) {
    for (const Tier tier : kTiers) {
      const size_t t = static_cast<size_t>(tier);
      uint64_t whole = 0;
      for (const Block* block : holder.blocks[t]) {
        for (const Holding& holding : block->holdings) {
          if (holding.holder == id && holding.tier == tier && holding.span != kInner) ++whole;
        }
      }
      if (whole != holder.whole[t]) return Fail("a holder's blocks are counted wrongly");
    }
  }
  return {};
}

PrefixIndex::Writer PrefixIndex::Write() { return Writer(impl_.get()); }

PrefixIndex::Writer::Writer(Impl* impl) : impl_(impl) { impl_->mutex.lock(); }

PrefixIndex::Writer::Writer(Writer&& other) noexcept : impl_(std::exchange(other.impl_, nullptr)) {}

PrefixIndex::Writer::~Writer() {
  if (impl_ == nullptr) return;
  impl_->TrimReleased();
  impl_->mutex.unlock();
}

HolderId PrefixIndex::Writer::AddHolder(const RankKey& rank, uint32_t publisher, bool visible) {
  const HolderId id{impl_->next_holder++};
  Namespace* name_space = impl_->FindOrAddNamespace(rank.name_space);
  Group* group = impl_->FindOrAddGroup(name_space, rank);
  group->holders.push_back(id);
  Holder holder;
  holder.name_space = name_space;
  holder.group = group;
  holder.publisher = publisher;
  holder.visible = visible;
  impl_->holders.emplace(id, std::move(holder));
  return id;
}

AliasSpace PrefixIndex::Writer::AddSpace(uint32_t publisher) {
  const AliasSpace id{impl_->next_space++};
  impl_->spaces.emplace(id, Space{publisher, {}});
  return id;
}

void PrefixIndex::Writer::SetVisible(HolderId holder, bool visible) {
  impl_->holders.at(holder).visible = visible;
}

void PrefixIndex::Writer::DropHolder(HolderId id) {
  for (const Tier tier : kTiers) impl_->ClearTier(id, tier);
  const auto found = impl_->holders.find(id);
  Namespace* name_space = found->second.name_space;
  impl_->LeaveGroup(name_space, found->second.group, id);
  impl_->holders.erase(found);
  impl_->ForgetIfEmpty(name_space);
}

void PrefixIndex::Writer::DropSpace(AliasSpace id) {
  const auto found = impl_->spaces.find(id);
  const auto names = std::move(found->second.names);
  impl_->spaces.erase(found);
  absl::flat_hash_set<Block*> blocks;
  for (const auto& [name, target] : names) blocks.insert(target.block);
  for (Block* block : blocks) {
    std::erase_if(block->aliases, [&](const Alias& alias) { return alias.space == id; });
  }
  impl_->ForgetNamelessLeaves(blocks);
}

StoreOutcome PrefixIndex::Writer::Store(const StoreRequest& request) {
  Namespace* name_space = impl_->holders.at(request.holder).name_space;
  Block* parent = nullptr;
  if (request.parent) {
    const auto& names = impl_->spaces.at(request.space).names;
    const auto found = names.find(*request.parent);
    if (found == names.end()) return StoreOutcome::kUnknownParent;
    parent = found->second.block;
    if (parent->name_space != name_space) return StoreOutcome::kUnknownParent;
  }
  std::vector<PrefixHash> prefixes(request.span);
  std::vector<Block*> gone;
  for (size_t i = 0; i < request.hashes.size(); ++i) {
    std::optional<PrefixHash> previous;
    if (parent != nullptr) previous = parent->prefix;
    for (size_t j = 0; j < request.span; ++j) {
      prefixes[j] = impl_->Prefix(previous, request.locals[i * request.span + j]);
      previous = prefixes[j];
    }
    const Target target = impl_->Resolve(request, name_space, request.hashes[i], parent, prefixes);
    if (request.gone.empty() || request.gone[i] == 0) {
      impl_->Hold(request.holder, request.tier, request.copies, target);
    } else {
      gone.push_back(target.block);
    }
    parent = target.block;
  }
  for (size_t i = gone.size(); i-- > 0;) {
    impl_->Retain(gone[i]);
    impl_->ReleaseIfUnheld(gone[i]);
  }
  return StoreOutcome::kStored;
}

bool PrefixIndex::Writer::StoreKnown(HolderId holder, AliasSpace space, Tier tier, CopyMode copies,
                                     EngineHash name) {
  const auto& names = impl_->spaces.at(space).names;
  const auto found = names.find(name);
  if (found == names.end()) return false;
  if (found->second.block->name_space != impl_->holders.at(holder).name_space) return false;
  impl_->Hold(holder, tier, copies, found->second);
  return true;
}

const NamespaceKey* PrefixIndex::Writer::NamespaceOf(AliasSpace space, EngineHash name) const {
  const auto& names = impl_->spaces.at(space).names;
  const auto found = names.find(name);
  return found == names.end() ? nullptr : &found->second.block->name_space->key;
}

bool PrefixIndex::Writer::Knows(AliasSpace space, EngineHash name) const {
  return impl_->spaces.at(space).names.contains(name);
}

RemoveOutcome PrefixIndex::Writer::Remove(HolderId holder, AliasSpace space, Tier tier,
                                          EngineHash name) {
  const auto& names = impl_->spaces.at(space).names;
  const auto found = names.find(name);
  if (found == names.end()) return RemoveOutcome::kUnknownName;
  Block* block = found->second.block;
  Holding* holding = impl_->FindHolding(block, holder, tier, false);
  if (holding == nullptr) return RemoveOutcome::kNotHeld;
  if (--holding->count == 0) impl_->EraseWhole(block, holding);
  return RemoveOutcome::kRemoved;
}

bool PrefixIndex::Writer::Holds(HolderId holder, AliasSpace space, Tier tier,
                                EngineHash name) const {
  const auto& names = impl_->spaces.at(space).names;
  const auto found = names.find(name);
  return found != names.end() &&
         impl_->FindHolding(found->second.block, holder, tier, false) != nullptr;
}

uint64_t PrefixIndex::Writer::Clear(HolderId holder, Tier tier) {
  return impl_->ClearTier(holder, tier);
}

}  // namespace conductor::index
