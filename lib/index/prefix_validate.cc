// PrefixIndex: every invariant, for tests.

#include "lib/index/prefix_index_impl.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <map>
#include <shared_mutex>
#include <tuple>

namespace conductor::index {

namespace {

bool Lists(std::map<uint32_t, std::vector<uint32_t>>& lists, uint32_t of, const RunList& list,
           uint32_t run) {
  const auto [known, fresh] = lists.try_emplace(of);
  if (fresh) known->second = list.Copy();
  return std::ranges::binary_search(known->second, run);
}

}  // namespace

Status PrefixIndex::Impl::ValidateRun(uint32_t id, ListsInOrder& lists) const {
  const Run& run = store.run(id);
  const auto fail = [&](std::string what) {
    return Fail(std::move(what), fmt::format("run {} of {} blocks", id, uint32_t{run.length}));
  };
  if (const char* wrong = store.Check(id)) return fail(wrong);
  const Namespace* name_space = by_number.at(run.name_space);
  if (name_space == nullptr) return fail("stands in no namespace");
  uint32_t retained = 0;
  std::string wrong;
  store.ForEach(run, RunStore::Set::kHolders, [&](uint64_t key, uint64_t mask) {
    retained = std::max(retained, 64 - static_cast<uint32_t>(std::countl_zero(mask)));
    const auto holder = holders.find(HolderId{RunStore::Upper(key) >> 2});
    if (holder == holders.end()) {
      wrong = "is held by a holder that left";
      return false;
    }
    if (holder->second.name_space != name_space) wrong = "is held from another namespace";
    const size_t tier = RunStore::Upper(key) & 3;
    if (!Lists(lists.of_holders, RunStore::Upper(key), holder->second.runs[tier], id)) {
      wrong = "is missing in its holder's list";
    }
    const uint32_t span = RunStore::Lower(key);
    if (span == 0 || (span > 1 && !holder->second.has_spans)) wrong = "has a wrong span";
    if (span > name_space->max_span) wrong = "has a longer span than its namespace knows";
    if (!HasRoom(BlockRef(id, static_cast<uint32_t>(std::countr_zero(mask))), span)) {
      wrong = "has a longer span than its chain";
    }
    return true;
  });
  if (!wrong.empty()) return fail(wrong);
  for (uint32_t child = run.first_child; child != RunStore::kNoRun;
       child = store.run(child).next_sibling) {
    if (store.run(child).name_space != run.name_space) return fail("has a child elsewhere");
    if (store.run(child).retained == 0) continue;
    retained = std::max(retained, BlockRef(store.run(child).parent).offset() + 1);
  }
  if (retained != run.retained) return fail("retains other blocks than it should");
  uint32_t begin = 0;
  uint32_t end = 0;
  if (!released.Check(id, begin, end)) return fail("has its released blocks in a wrong order");
  if (begin != retained || end != run.length)
    return fail("has blocks that are released and retained, or neither");
  if (IsNamelessLeaf(BlockRef(id, run.length - 1u)))
    return fail("ends in a block that leads nowhere");
  store.ForEach(run, RunStore::Set::kNames, [&](uint64_t key, uint64_t) {
    const auto space = spaces.find(AliasSpace{RunStore::Upper(key)});
    if (space == spaces.end()) {
      wrong = "has a name in a space that left";
    } else if (!Lists(lists.of_spaces, RunStore::Upper(key), space->second.runs, id)) {
      wrong = "is missing in the list of a space that names it";
    }
    return wrong.empty();
  });
  if (!wrong.empty()) return fail(wrong);
  return {};
}

Status PrefixIndex::Impl::ValidateDomain(const Domain& domain) const {
  std::map<std::tuple<HolderId, uint32_t, Tier>, uint32_t> claimed;
  for (const auto& [name, entry] : domain.names) {
    if (entry.claims.empty()) return Fail("a pool's name is kept for nobody");
    for (const Joined& called : BlocksCalled(domain, name)) {
      const bool joined = std::ranges::any_of(entry.blocks, [&](const Joined& other) {
        return other.target.block == called.target.block;
      });
      if (!joined) return Fail("a pool has a name of an engine's and is not joined to its block");
    }
    for (const Joined& joined : entry.blocks) {
      const BlockRef block = joined.target.block;
      if ((store.run(block.run()).flags & Run::kUsed) == 0 ||
          block.offset() >= store.run(block.run()).length) {
        return Fail("a pool's name stands for a block that was forgotten");
      }
      uint32_t named = 0;
      store.ForEachName(block, [&](uint32_t space, EngineHash of) {
        if (of == name.hash && spaces.at(AliasSpace{space}).group == name.group) ++named;
      });
      if (named != joined.spaces) return Fail("the spaces of a pool's name are counted wrongly");
      const Namespace* name_space = NamespaceOf(block);
      if (name_space->domain != &domain) return Fail("a pool's name left its domain");
      for (const Claim& claim : entry.claims) {
        const auto holder = name_space->pool_holders.find(claim.pool);
        if (holder == name_space->pool_holders.end()) {
          return Fail("a pool has a block and no holder for it");
        }
        ++claimed[{holder->second, block.value, claim.tier}];
      }
    }
  }
  for (const auto& [key, name_space] : namespaces) {
    if (name_space->domain != &domain) continue;
    for (const auto& [pool, id] : name_space->pool_holders) {
      for (const Tier tier : kTiers) {
        for (const uint32_t run : holders.at(id).runs[static_cast<size_t>(tier)].Copy()) {
          if ((store.run(run).flags & Run::kUsed) == 0) continue;
          for (uint32_t i = 0; i < store.run(run).length; ++i) {
            const BlockRef block(run, i);
            if (HeldSpan(holders.at(id), id, tier, block) == 0) continue;
            const auto more = copies.find(CopyKey(block, id, tier));
            const uint32_t count = 1 + (more == copies.end() ? 0 : more->second);
            const auto claims = claimed.find({id, block.value, tier});
            if (claims == claimed.end() || claims->second != count) {
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
  const RunStore& store = impl_->store;
  Impl::ListsInOrder lists;
  uint64_t blocks = 0;
  uint64_t released = 0;
  uint64_t runs = 0;
  std::map<uint32_t, uint64_t> of_namespace;
  std::map<uint32_t, uint64_t> span_entries;  // of namespaces
  std::map<uint32_t, uint64_t> names;         // of spaces
  std::map<uint32_t, uint64_t> whole;         // by holder and tier
  uint64_t copied = 0;
  for (uint32_t id = 0; id < store.run_limit(); ++id) {
    const Run& run = store.run(id);
    if ((run.flags & Run::kUsed) == 0) continue;
    ++runs;
    if (auto status = impl_->ValidateRun(id, lists); !status) return status;
    blocks += run.length;
    released += run.length - run.retained;
    of_namespace[run.name_space] += run.length;
    store.ForEach(run, RunStore::Set::kNames, [&](uint64_t key, uint64_t mask) {
      names[RunStore::Upper(key)] += static_cast<uint64_t>(std::popcount(mask));
      return true;
    });
    uint64_t twice = 0;
    std::map<uint32_t, uint64_t> seen;
    store.ForEach(run, RunStore::Set::kHolders, [&](uint64_t key, uint64_t mask) {
      const uint32_t upper = RunStore::Upper(key);
      if (RunStore::Lower(key) > 1) ++span_entries[run.name_space];
      twice |= seen[upper] & mask;
      seen[upper] |= mask;
      whole[upper] += static_cast<uint64_t>(std::popcount(mask));
      for (; mask != 0; mask &= mask - 1) {
        const BlockRef block(id, static_cast<uint32_t>(std::countr_zero(mask)));
        copied += impl_->copies.count(
            Impl::CopyKey(block, HolderId{upper >> 2}, static_cast<Tier>(upper & 3)));
      }
      return true;
    });
    if (twice != 0) return Fail("a block is held twice by one holder, with two spans");
  }
  if (runs != store.run_count()) return Fail("the runs are counted wrongly");
  if (blocks != impl_->blocks) return Fail("the blocks are counted wrongly");
  if (released != impl_->released.count()) return Fail("the released blocks are counted wrongly");
  if (copied != impl_->copies.size()) return Fail("copies are counted of what is not held");
  for (const auto& [key, name_space] : impl_->namespaces) {
    if (name_space->blocks != of_namespace[name_space->number]) {
      return Fail("a namespace's blocks are counted wrongly");
    }
    if (name_space->span_entries != span_entries[name_space->number]) {
      return Fail("a namespace's spans are counted wrongly");
    }
  }
  uint64_t aliases = 0;
  for (const auto& [id, space] : impl_->spaces) {
    aliases += space.names;
    if (space.names != names[static_cast<uint32_t>(id)]) {
      return Fail("a space's names are counted wrongly");
    }
    for (const auto& [name, span] : space.spans) {
      if (!impl_->HasRoom(store.FindName(static_cast<uint32_t>(id), name).block, span)) {
        return Fail("a name stands for more blocks than its chain has");
      }
    }
  }
  if (aliases != impl_->aliases) return Fail("the names are counted wrongly");
  for (const auto& [id, holder] : impl_->holders) {
    for (const Tier tier : kTiers) {
      if (holder.whole[static_cast<size_t>(tier)] != whole[Impl::Upper(id, tier)]) {
        return Fail("a holder's blocks are counted wrongly");
      }
    }
  }
  uint64_t claims = 0;
  uint64_t pool_names = 0;
  for (const auto& [key, domain] : impl_->domains) {
    if (auto status = impl_->ValidateDomain(*domain); !status) return status;
    pool_names += domain->names.size();
    for (const auto& [name, entry] : domain->names) claims += entry.claims.size();
  }
  for (const auto& [id, pool] : impl_->pools) claims -= pool.stats.blocks;
  if (pool_names != impl_->pool_names) return Fail("the names of pools are counted wrongly");
  if (claims != 0) return Fail("the blocks of pools are counted wrongly");
  return {};
}

}  // namespace conductor::index
