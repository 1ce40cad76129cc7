// PrefixIndex: what one holder holds, told while others write.

#include <algorithm>
#include <bit>
#include <shared_mutex>

#include "lib/index/prefix_index_impl.h"

namespace conductor::index {

void PrefixIndex::VisitHeld(HolderId id, AliasSpace space_id,
                            const std::function<void(const HeldRun&)>& visit) const {
  constexpr size_t kRunsALock = 64;
  const RunStore& store = impl_->store;
  std::vector<uint32_t> runs;
  {
    const std::shared_lock<FairSharedMutex> lock(impl_->mutex);
    const auto holder = impl_->holders.find(id);
    if (holder == impl_->holders.end()) return;
    for (const RunList& of_tier : holder->second.runs) {
      const std::vector<uint32_t> more = of_tier.Copy();
      runs.insert(runs.end(), more.begin(), more.end());
    }
  }
  std::ranges::sort(runs);
  runs.erase(std::unique(runs.begin(), runs.end()), runs.end());

  std::vector<PrefixHash> blocks;
  std::vector<HeldRun::Special> special;
  std::vector<HeldRun::Name> names;
  // One run; false when nothing of it is held any more.
  const auto read = [&](uint32_t run_id, HeldRun& told) {
    const Run& run = store.run(run_id);
    if ((run.flags & Run::kUsed) == 0) return false;
    blocks.clear();
    special.clear();
    names.clear();
    told = HeldRun{};
    store.ForEach(run, RunStore::Set::kHolders, [&](uint64_t key, uint64_t mask) {
      if (RunStore::Upper(key) >> 2 != static_cast<uint32_t>(id)) return true;
      const auto tier = static_cast<Tier>(RunStore::Upper(key) & 3);
      told.held[static_cast<size_t>(tier)] |= mask;
      for (; mask != 0; mask &= mask - 1) {
        const auto offset = static_cast<uint32_t>(std::countr_zero(mask));
        const auto more = impl_->copies.find(Impl::CopyKey(BlockRef(run_id, offset), id, tier));
        const uint32_t copies = more == impl_->copies.end() ? 1 : 1 + more->second;
        const uint32_t span = RunStore::Lower(key);
        if (copies > 1 || span > 1) special.push_back({offset, tier, span, copies});
      }
      return true;
    });
    if (std::ranges::count(told.held, 0u) == kTierCount) return false;
    for (uint32_t i = 0; i < run.length; ++i) blocks.push_back(store.prefix(BlockRef(run_id, i)));
    const auto space = impl_->spaces.find(space_id);
    if (space != impl_->spaces.end()) {
      store.ForEachNameOf(static_cast<uint32_t>(space_id), run_id,
                          [&](uint32_t offset, EngineHash name) {
                            const auto span = space->second.spans.find(name);
                            const bool one = span == space->second.spans.end();
                            names.push_back({offset, name, one ? 1 : span->second});
                          });
    }
    const BlockRef parent(run.parent);
    if (parent.is_block()) told.parent = store.prefix(parent);
    told.blocks = blocks;
    told.special = special;
    told.names = names;
    return true;
  };
  for (size_t at = 0; at < runs.size();) {
    const std::shared_lock<FairSharedMutex> lock(impl_->mutex);
    for (size_t i = 0; i < kRunsALock && at < runs.size(); ++i, ++at) {
      HeldRun told;
      if (read(runs[at], told)) visit(told);
    }
  }
}

}  // namespace conductor::index
