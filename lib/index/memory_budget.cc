// PrefixIndex: what is given up when there is no room.

#include <algorithm>
#include <bit>
#include <queue>
#include <tuple>

#include "lib/index/prefix_index_impl.h"

namespace conductor::index {
namespace {

// Of what is limited by the way blocks are numbered. What one batch adds must fit above it.
constexpr double kFullness = 0.9;

// Trimming goes so far below the budget that it is not needed again at once: a pass looks at every
// run.
constexpr uint64_t kSlackDivisor = 32;

// What one batch adds stands in this part of the budget until the batch ends.
constexpr uint64_t kMarginDivisor = 16;

}  // namespace

uint64_t PrefixIndex::Impl::Bytes() const {
  // Of hash maps an entry with its share of free places is counted, of maps a node.
  uint64_t bytes = store.bytes() + released.bytes() + copies.capacity() * 17;
  for (const auto& [id, holder] : holders) {
    bytes += sizeof(Holder);
    for (const RunList& runs : holder.runs) bytes += runs.bytes();
  }
  for (const auto& [id, space] : spaces) {
    bytes += sizeof(Space) + space.runs.bytes() + space.spans.capacity() * 17;
  }
  for (const auto& [key, domain] : domains) {
    bytes += domain->names.capacity() * (sizeof(PoolName) + sizeof(NameEntry) + 1) +
             domain->names.size() * (sizeof(Joined) + sizeof(Claim));
  }
  return bytes;
}

void PrefixIndex::Impl::GiveUp(uint32_t id) {
  Run& run = store.run(id);
  struct Entry {
    uint64_t key;
    uint64_t mask;
  };
  std::vector<Entry> entries;
  store.ForEach(run, RunStore::Set::kHolders, [&](uint64_t key, uint64_t mask) {
    entries.push_back({key, mask});
    return true;
  });
  for (const Entry& entry : entries) {
    const HolderId holder_id{RunStore::Upper(entry.key) >> 2};
    const auto tier = static_cast<Tier>(RunStore::Upper(entry.key) & 3);
    Holder& holder = holders.at(holder_id);
    // Runs are given up whole: where a chain breaks is the first block that was held of one.
    const auto first = static_cast<uint32_t>(std::countr_zero(entry.mask));
    Note(holder, tier, BlockRef(id, first), RemovalCause::kTrimmed,
         static_cast<uint64_t>(std::popcount(entry.mask)));
    for (uint64_t rest = entry.mask; rest != 0; rest &= rest - 1) {
      const BlockRef block(id, static_cast<uint32_t>(std::countr_zero(rest)));
      if (!copies.empty()) copies.erase(CopyKey(block, holder_id, tier));
      EraseHolding(holder, holder_id, tier, Target{block, RunStore::Lower(entry.key)});
      --holder.whole[static_cast<size_t>(tier)];
      ++holder.trimmed;
      if (holder.pool) ++pools.at(*holder.pool).stats.trimmed;
    }
  }
  if (run.retained > 0) ReleaseIfUnheld(BlockRef(id, run.retained - 1u));
  const uint32_t length = run.length;
  for (uint32_t left = length; left > 0; --left) Forget(BlockRef(id, left - 1));
  trimmed += length;
}

// Pools' names that stand for blocks which are gone.
void PrefixIndex::Impl::PartGivenUp() {
  for (const auto& [key, domain] : domains) {
    for (auto& [name, entry] : domain->names) {
      const size_t gone = std::erase_if(entry.blocks, [this](const Joined& joined) {
        return (store.run(joined.target.block.run()).flags & Run::kUsed) == 0;
      });
      if (gone == 0 || !entry.blocks.empty()) continue;
      for (const Claim& claim : entry.claims) --pools.at(claim.pool).stats.joined;
    }
  }
  for (const auto& [key, domain] : domains) {
    if (domain->names.capacity() > 4 * domain->names.size() + 64) domain->names.rehash(0);
  }
  std::vector<HolderId> empty;
  for (const auto& [id, holder] : holders) {
    if (holder.pool && std::ranges::count(holder.whole, 0u) == kTierCount) empty.push_back(id);
  }
  for (const HolderId id : empty) EraseHolder(id);
}

void PrefixIndex::Impl::KeepBudget() {
  // Counting looks at every holder.
  if (options.memory_limit > 0 && ++batches % (64 + holders.size() / 4) == 0) {
    bytes_beside_store = Bytes() - store.bytes();
  }
  const bool crowded = store.fullness() > kFullness;
  // Pages that are partly free take in what comes after something was given up. So when that left
  // more than the threshold in use it is not done again before the index has grown; and then the
  // more is given up, the further it is above the threshold.
  const uint64_t threshold = options.memory_limit - options.memory_limit / kMarginDivisor;
  const uint64_t bytes = store.bytes() + bytes_beside_store;
  const bool over = options.memory_limit > 0 && bytes > std::max(threshold, bytes_kept);
  if (!crowded && !over) return;
  ++trims;
  // What is only remembered first.
  while (released.count() > 0) {
    ForgetOldest();
  }
  // Runs without children: the least recently announced first, of those the deepest.
  struct Leaf {
    uint32_t stamp;
    uint32_t depth;
    uint32_t run;
    bool operator<(const Leaf& other) const {
      return std::tie(other.stamp, depth) < std::tie(stamp, other.depth);
    }
  };
  const auto leaf = [&](uint32_t run) {
    uint32_t depth = 0;
    for (BlockRef at(store.run(run).parent); at.is_block();
         at = BlockRef(store.run(at.run()).parent)) {
      depth += at.offset() + 1;
    }
    return Leaf{store.run(run).stamp, depth, run};
  };
  std::priority_queue<Leaf> leaves;
  for (uint32_t run = 0; run < store.run_limit(); ++run) {
    const Run& it = store.run(run);
    if ((it.flags & Run::kUsed) != 0 && it.first_child == RunStore::kNoRun) leaves.push(leaf(run));
  }
  const uint64_t used = store.used_bytes();
  const uint64_t excess = over && bytes > threshold ? bytes - threshold : 0;
  const uint64_t slack = used / kSlackDivisor + excess;
  const uint64_t wanted = used > slack ? used - slack : 0;
  while (store.used_bytes() > wanted && !leaves.empty()) {
    const uint32_t run = leaves.top().run;
    leaves.pop();
    BlockRef parent(store.run(run).parent);
    GiveUp(run);
    parent = ForgetNameless(parent);
    if (!parent.is_block()) continue;
    if (store.run(parent.run()).first_child == RunStore::kNoRun) leaves.push(leaf(parent.run()));
  }
  PartGivenUp();
  TrimReleased();  // ancestors of what was given up among them
  bytes_kept = store.bytes() + bytes_beside_store;
}

}  // namespace conductor::index
