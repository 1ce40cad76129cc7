// PrefixIndex: what is told of blocks that are not held.

#include <algorithm>
#include <mutex>
#include <shared_mutex>
#include <tuple>

#include "lib/index/prefix_index_impl.h"

namespace conductor::index {
namespace {

constexpr uint64_t kEntriesALock = 16384;

// Calls take(entries of a piece, newest first) piece by piece from the end of the history, until it
// returns false. The lock is given up in between.
template <typename Mutex, typename Take>
void ScanHistory(Mutex& mutex, const RemovalHistory& history, std::string_view instance_id,
                 std::span<const PrefixHash> blocks, Take take) {
  std::vector<Removal> piece;
  std::optional<uint64_t> to;
  for (;;) {
    piece.clear();
    uint64_t from = 0;
    {
      const std::shared_lock<Mutex> lock(mutex);
      if (!to) to = history.end();
      from = std::max(history.first(), *to - std::min(*to, kEntriesALock));
      if (from >= *to) return;
      history.Find(instance_id, blocks, from, *to, piece);
    }
    if (!take(piece)) return;
    to = from;
  }
}

}  // namespace

BlockView PrefixIndex::Look(const NamespaceKey& name_space,
                            std::span<const PrefixHash> chain) const {
  const std::shared_lock<FairSharedMutex> lock(impl_->mutex);
  BlockView view;
  const auto found = impl_->namespaces.find(name_space);
  if (found == impl_->namespaces.end() || chain.empty()) return view;
  const RunStore& store = impl_->store;
  BlockRef block;
  for (const PrefixHash prefix : chain) {
    block = store.FindChild(found->second->number, block, prefix);
    if (!block.is_block()) return view;
  }
  view.known = true;
  store.ForEach(store.run(block.run()), RunStore::Set::kHolders, [&](uint64_t key, uint64_t mask) {
    if ((mask & RunStore::Bit(block.offset())) == 0) return true;
    const Holder& holder = impl_->holders.at(HolderId{RunStore::Upper(key) >> 2});
    if (!holder.visible || holder.group == nullptr) return true;
    auto of_rank = std::ranges::find(view.holdings, holder.group->rank, &BlockView::Holding::rank);
    if (of_rank == view.holdings.end()) {
      of_rank = view.holdings.insert(of_rank, BlockView::Holding{holder.group->rank, {}});
    }
    of_rank->on[RunStore::Upper(key) & 3] = true;
    return true;
  });
  return view;
}

std::vector<Removal> PrefixIndex::Removals(const NamespaceKey& name_space,
                                           std::string_view instance_id,
                                           std::span<const PrefixHash> blocks) const {
  std::vector<Removal> found;
  std::vector<PrefixHash> sorted(blocks.begin(), blocks.end());
  std::ranges::sort(sorted);
  const auto same_whole = [](const Removal& a, const Removal& b) {
    return !a.block && !b.block && a.tier == b.tier && a.publisher == b.publisher &&
           a.rank->dp_rank == b.rank->dp_rank;
  };
  ScanHistory(impl_->mutex, impl_->history, instance_id, sorted, [&](std::vector<Removal>& piece) {
    for (Removal& removal : piece) {
      if (removal.rank->name_space != name_space) continue;
      const bool told = std::ranges::any_of(
          found, [&](const Removal& newer) { return same_whole(newer, removal); });
      if (!told) found.push_back(std::move(removal));
    }
    return true;
  });
  return found;
}

std::optional<Removal> PrefixIndex::LastLeft(std::string_view instance_id) const {
  std::optional<Removal> last;
  ScanHistory(impl_->mutex, impl_->history, instance_id, {}, [&](std::vector<Removal>& piece) {
    if (!piece.empty()) last = std::move(piece.front());
    return !last;
  });
  return last;
}

std::vector<std::string> PrefixIndex::PoolsWith(const PoolDomain& key, PoolName name) const {
  const std::shared_lock<FairSharedMutex> lock(impl_->mutex);
  std::vector<std::string> pools;
  const auto domain = impl_->domains.find(key);
  if (domain == impl_->domains.end()) return pools;
  const auto entry = domain->second->names.find(name);
  if (entry == domain->second->names.end()) return pools;
  for (const Claim& claim : entry->second.claims) {
    pools.push_back(*impl_->pools.at(claim.pool).name);
  }
  return pools;
}

}  // namespace conductor::index
