// PrefixIndex: every invariant, for tests.

#include "lib/index/prefix_index_impl.h"

#include <fmt/format.h>

#include <map>
#include <shared_mutex>
#include <tuple>

namespace conductor::index {

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

Status PrefixIndex::Impl::ValidateDomain(const Domain& domain) const {
  std::map<std::tuple<HolderId, const Block*, Tier>, uint32_t> claimed;
  for (const auto& [name, entry] : domain.names) {
    if (entry.blocks.empty() && entry.claims.empty())
      return Fail("a pool's name stands for nothing");
    for (const Joined& joined : entry.blocks) {
      const Block& block = *joined.target.block;
      uint32_t named = 0;
      for (const Alias& alias : block.aliases) {
        const Space& space = spaces.at(alias.space);
        if (alias.name != name.hash || space.group != name.group) continue;
        ++named;
      }
      if (named != joined.spaces) return Fail("the spaces of a pool's name are counted wrongly");
      if (named == 0 && entry.claims.empty()) return Fail("a pool's name is kept for nobody");
      if (block.name_space->domain != &domain) return Fail("a pool's name left its domain");
      for (const Claim& claim : entry.claims) {
        const auto& holder_of = pools.at(claim.pool).holders;
        const auto holder = holder_of.find(block.name_space);
        if (holder == holder_of.end()) return Fail("a pool has a block and no holder for it");
        ++claimed[{holder->second, &block, claim.tier}];
      }
    }
  }
  for (const PoolId id : domain.pools) {
    for (const auto& [name_space, holder_id] : pools.at(id).holders) {
      if (name_space->domain != &domain) continue;
      const Holder& holder = holders.at(holder_id);
      for (const Tier tier : kTiers) {
        for (const Block* block : holder.blocks[static_cast<size_t>(tier)]) {
          for (const Holding& holding : block->holdings) {
            if (holding.holder != holder_id || holding.tier != tier || holding.span == kInner) {
              continue;
            }
            const auto claims = claimed.find({holder_id, block, tier});
            if (claims == claimed.end() || claims->second != holding.count) {
              return Fail("what a pool holds is not what it has by name");
            }
            claimed.erase(claims);
          }
        }
      }
    }
  }
  if (!claimed.empty()) return Fail("a pool does not hold what it has by name");
  return {};
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
  uint64_t claims = 0;
  for (const auto& [key, domain] : impl_->domains) {
    if (auto status = impl_->ValidateDomain(*domain); !status) return status;
    for (const auto& [name, entry] : domain->names) claims += entry.claims.size();
  }
  for (const auto& [id, pool] : impl_->pools) claims -= pool.stats.blocks;
  if (claims != 0) return Fail("the blocks of pools are counted wrongly");
  return {};
}

}  // namespace conductor::index
