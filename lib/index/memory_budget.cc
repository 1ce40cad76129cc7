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

// Not more at once, however far above the budget: pages become free as more is given up, and not
// one by one.
constexpr uint64_t kMaxExcessDivisor = 4;

// What one batch adds stands in this part of the budget until the batch ends.
constexpr uint64_t kMarginDivisor = 16;

// How many blocks lie before a run in its chain; each run is looked at once.
class Depths {
 public:
  explicit Depths(const RunStore& store) : store_(store), depths_(store.run_limit(), kUnknown) {}

  uint32_t Of(uint32_t run) {
    uint32_t known = run;
    while (depths_[known] == kUnknown) {
      const BlockRef parent(store_.run(known).parent);
      if (!parent.is_block()) {
        depths_[known] = 0;
        break;
      }
      path_.push_back(known);
      known = parent.run();
    }
    for (; !path_.empty(); path_.pop_back()) {
      const BlockRef parent(store_.run(path_.back()).parent);
      depths_[path_.back()] = depths_[parent.run()] + parent.offset() + 1;
    }
    return depths_[run];
  }

 private:
  static constexpr uint32_t kUnknown = ~0u;

  const RunStore& store_;
  std::vector<uint32_t> depths_;
  std::vector<uint32_t> path_;
};

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
    uint32_t age;  // in stamps, which begin again at their end
    uint32_t depth;
    uint32_t run;
    bool operator<(const Leaf& other) const {
      return std::tie(age, depth) < std::tie(other.age, other.depth);
    }
  };
  Depths depths(store);
  const auto leaf = [&](uint32_t run) {
    return Leaf{static_cast<uint32_t>(announced >> 6) - store.run(run).stamp, depths.Of(run), run};
  };
  std::priority_queue<Leaf> leaves;
  store.ForEachRun([&](uint32_t run) {
    if (store.run(run).first_child == RunStore::kNoRun) leaves.push(leaf(run));
  });
  const uint64_t used = store.used_bytes();
  const uint64_t excess = over && bytes > threshold ? bytes - threshold : 0;
  // What is given up leaves room that nothing else takes, even where no page becomes free by it.
  const uint64_t slack = used / kSlackDivisor + std::min(excess, used / kMaxExcessDivisor);
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
