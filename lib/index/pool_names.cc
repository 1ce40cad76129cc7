// PrefixIndex: what pools have, joined by what engines call it.

#include <algorithm>
#include <new>

#include "lib/index/prefix_index_impl.h"

namespace conductor::index {
namespace {

auto FindBlock(NameEntry& entry, BlockRef block) {
  return std::ranges::find_if(
      entry.blocks, [block](const Joined& joined) { return joined.target.block == block; });
}

// Of a pool's name, about.
constexpr uint64_t kNameBytes =
    (sizeof(PoolName) + sizeof(NameEntry)) * 4 / 3 + sizeof(Joined) + sizeof(Claim);

// Of the byte budget, for names of pools' blocks: nothing else can be given up for them.
constexpr uint64_t kPoolShare = 2;

}  // namespace

HolderId PrefixIndex::Impl::NewHolder(Namespace* name_space, uint32_t publisher, bool visible) {
  // Ids are told apart by readers who come late, so none is used twice.
  constexpr uint32_t kMaxHolders = 1u << 30;
  if (next_holder == kMaxHolders) throw std::bad_alloc();
  const HolderId id{next_holder++};
  Holder holder{};
  holder.name_space = name_space;
  holder.publisher = publisher;
  holder.visible = visible;
  holders.emplace(id, std::move(holder));
  unpublished.insert(name_space);
  appeared = true;
  return id;
}

void PrefixIndex::Impl::EraseHolder(HolderId id) {
  const auto found = holders.find(id);
  Namespace* name_space = found->second.name_space;
  unpublished.insert(name_space);
  if (Group* group = found->second.group) {
    std::erase(group->holders, id);
    if (group->holders.empty()) {
      name_space->groups.erase({group->rank->instance_id, group->rank->dp_rank});
    }
  }
  if (found->second.pool) name_space->pool_holders.erase(*found->second.pool);
  history.Retire(found->second.source);
  holders.erase(found);
  ForgetIfEmpty(name_space);
}

Domain* PrefixIndex::Impl::FindOrAddDomain(const PoolDomain& key, PoolId pool) {
  auto& slot = domains[key];
  if (!slot) {
    slot = std::make_unique<Domain>(Domain{.key = key});
    for (const auto& [name, name_space] : namespaces) {
      if (PoolDomain{name.tenant, name.model, name.additional_salt} == key) {
        name_space->domain = slot.get();
      }
    }
  }
  if (std::ranges::find(slot->pools, pool) == slot->pools.end()) {
    slot->pools.push_back(pool);
    domains_unpublished = true;
    for (const auto& [name, name_space] : namespaces) {
      if (name_space->domain == slot.get()) unpublished.insert(name_space.get());
    }
  }
  return slot.get();
}

void PrefixIndex::Impl::JoinName(const Space& space, EngineHash name, Target target) {
  Domain* domain = NamespaceOf(target.block)->domain;
  if (domain == nullptr) return;
  const auto claimed = domain->names.find(PoolName{space.group, name});
  if (claimed == domain->names.end()) return;
  NameEntry& entry = claimed->second;
  const auto known = FindBlock(entry, target.block);
  if (known != entry.blocks.end()) {
    ++known->spaces;
    return;
  }
  if (entry.blocks.empty()) {
    for (const Claim& claim : entry.claims) ++pools.at(claim.pool).stats.joined;
  }
  entry.blocks.push_back(Joined{target, 1});
  for (const Claim& claim : entry.claims) HoldClaim(claim, target);
}

void PrefixIndex::Impl::RespanName(const Space& space, EngineHash name, Target target) {
  Domain* domain = NamespaceOf(target.block)->domain;
  if (domain == nullptr) return;
  const auto claimed = domain->names.find(PoolName{space.group, name});
  if (claimed == domain->names.end()) return;
  NameEntry& entry = claimed->second;
  FindBlock(entry, target.block)->target.span = target.span;
  for (const Claim& claim : entry.claims) {
    HoldClaim(claim, target);
    LeaveClaim(claim, target.block);
  }
}

void PrefixIndex::Impl::PartName(const Space& space, EngineHash name, Namespace* name_space,
                                 BlockRef block, bool moved) {
  Domain* domain = name_space->domain;
  if (domain == nullptr) return;
  const PoolName pool_name{space.group, name};
  const auto found = domain->names.find(pool_name);
  if (found == domain->names.end()) return;
  NameEntry& entry = found->second;
  const auto joined = FindBlock(entry, block);
  if (joined == entry.blocks.end()) return;
  if (joined->spaces > 0) --joined->spaces;
  if (joined->spaces > 0) return;
  if (moved && !entry.claims.empty()) {
    entry.blocks.erase(joined);
    if (entry.blocks.empty()) {
      for (const Claim& claim : entry.claims) --pools.at(claim.pool).stats.joined;
    }
    const std::vector<Claim> claims = entry.claims;
    for (const Claim& claim : claims) LeaveClaim(claim, block);
  }
  TidyName(domain, pool_name);
}

std::vector<Joined> PrefixIndex::Impl::BlocksCalled(const Domain& domain, PoolName name) const {
  std::vector<Joined> called;
  store.ForEachOf(name.hash, [&](uint32_t space_id, BlockRef block) {
    const Space& space = spaces.at(AliasSpace{space_id});
    if (space.group != name.group || NamespaceOf(block)->domain != &domain) return;
    const auto known = std::ranges::find_if(
        called, [block](const Joined& joined) { return joined.target.block == block; });
    if (known != called.end()) {
      ++known->spaces;
      return;
    }
    const auto span = space.spans.find(name.hash);
    called.push_back({{block, span == space.spans.end() ? 1 : span->second}, 1});
  });
  return called;
}

void PrefixIndex::Impl::HoldClaim(const Claim& claim, Target target) {
  Namespace* name_space = NamespaceOf(target.block);
  auto [slot, fresh] = name_space->pool_holders.try_emplace(claim.pool);
  if (fresh) {
    // Publishers' numbers keep names apart, and a pool has none of its own.
    slot->second = NewHolder(name_space, ~uint32_t{0}, true);
    holders.at(slot->second).pool = claim.pool;
  }
  Hold(holders.at(slot->second), slot->second, claim.tier, /*counts=*/true, target);
}

// The block may be released by it, and nameless; who calls it forgets it then.
void PrefixIndex::Impl::LeaveClaim(const Claim& claim, BlockRef block) {
  const HolderId id = NamespaceOf(block)->pool_holders.at(claim.pool);
  (void)Leave(holders.at(id), id, claim.tier, block);
}

void PrefixIndex::Impl::TidyName(Domain* domain, PoolName name) {
  const auto found = domain->names.find(name);
  if (found == domain->names.end() || !found->second.claims.empty()) return;
  domain->names.erase(found);
  --pool_names;
}

PoolId PrefixIndex::Writer::AddPool(std::string name, PoolLookup lookup,
                                    std::optional<hash::HashProfile> profile) {
  const PoolId id{impl_->next_pool++};
  if (profile) ++impl_->profiles;
  impl_->pools.emplace(id, Pool{.name = std::make_shared<const std::string>(std::move(name)),
                                .lookup = lookup,
                                .profile = std::move(profile),
                                .stats = {}});
  return id;
}

void PrefixIndex::Writer::DropPool(PoolId pool) {
  std::vector<HolderId> empty;
  for (const auto& [key, name_space] : impl_->namespaces) {
    const auto holder = name_space->pool_holders.find(pool);
    if (holder != name_space->pool_holders.end()) empty.push_back(holder->second);
  }
  for (const HolderId id : empty) impl_->EraseHolder(id);
  for (auto at = impl_->domains.begin(); at != impl_->domains.end();) {
    Domain& domain = *at->second;
    const bool spoke = std::erase(domain.pools, pool) > 0;
    const bool last = domain.pools.empty();
    for (const auto& [key, name_space] : impl_->namespaces) {
      if (!spoke || name_space->domain != &domain) continue;
      impl_->unpublished.insert(name_space.get());
      if (last) name_space->domain = nullptr;
    }
    at = last ? impl_->domains.erase(at) : std::next(at);
  }
  impl_->domains_unpublished = true;
  if (impl_->pools.at(pool).profile) --impl_->profiles;
  impl_->pools.erase(pool);
}

void PrefixIndex::Writer::SetPoolBlock(PoolId pool, const PoolDomain& key, PoolName name,
                                       std::optional<Tier> tier) {
  Domain* domain = impl_->FindOrAddDomain(key, pool);
  Pool& of = impl_->pools.at(pool);
  const auto [claimed, fresh] = domain->names.try_emplace(name);
  if (fresh && tier && impl_->options.memory_limit > 0 &&
      impl_->pool_names * kNameBytes > impl_->options.memory_limit / kPoolShare) {
    domain->names.erase(claimed);
    ++of.stats.trimmed;
    return;
  }
  if (fresh) ++impl_->pool_names;
  NameEntry& entry = claimed->second;
  if (fresh && tier) entry.blocks = impl_->BlocksCalled(*domain, name);
  const auto at = std::ranges::find(entry.claims, pool, &Claim::pool);
  const bool had = at != entry.claims.end();
  if (had && tier == at->tier) return;
  std::optional<Claim> before;
  if (had) before = *at;
  if (tier && had) {
    at->tier = *tier;
  } else if (tier) {
    entry.claims.push_back(Claim{pool, *tier});
  } else if (had) {
    entry.claims.erase(at);
  }
  if (tier && !had) ++of.stats.blocks;
  if (!tier && had) --of.stats.blocks;
  if (!entry.blocks.empty()) {
    if (tier && !had) ++of.stats.joined;
    if (!tier && had) --of.stats.joined;
  }
  // Held on the new tier before it is left on the old one, so that nothing is forgotten between.
  const std::vector<Joined> blocks = entry.blocks;
  impl_->TidyName(domain, name);
  for (const Joined& joined : blocks) {
    if (tier) impl_->HoldClaim(Claim{pool, *tier}, joined.target);
    if (before) impl_->LeaveClaim(*before, joined.target.block);
    impl_->ForgetNameless(joined.target.block);
  }
}

}  // namespace conductor::index
