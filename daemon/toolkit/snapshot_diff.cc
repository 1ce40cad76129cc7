#include "daemon/toolkit/snapshot_diff.h"

#include <algorithm>
#include <bit>
#include <iterator>
#include <tuple>

#include "lib/ingest/saved_life.h"

namespace conductor::toolkit {
namespace {

struct Entry {
  PrefixHash hash{};
  uint32_t run = 0;
  uint32_t copies = 1;
  uint32_t span = 1;
  uint8_t block = 0;
};

// The holders of each rank: several publishers may speak of one.
std::map<index::RankKey, std::vector<size_t>> RanksOf(const SnapshotContent& content) {
  std::map<index::RankKey, std::vector<size_t>> ranks;
  for (size_t i = 0; i < content.holders().size(); ++i) {
    const SnapshotHolder& holder = content.holders()[i];
    ranks[{content.namespaces()[holder.name_space], holder.instance_id, holder.dp_rank}].push_back(
        i);
  }
  return ranks;
}

void AddEntries(const SnapshotContent& content, size_t holder, Tier tier,
                std::vector<Entry>& entries) {
  const SnapshotContent::Held& held = content.held(holder);
  auto special = held.special.begin();
  for (const auto& holding : held.holdings) {
    if (holding.tier != tier) continue;
    const auto blocks = content.Blocks(holding.run);
    for (uint64_t mask = holding.blocks; mask != 0; mask &= mask - 1) {
      Entry entry{.run = holding.run, .block = static_cast<uint8_t>(std::countr_zero(mask))};
      entry.hash = blocks[entry.block];
      const auto at = std::tuple(holding.run, tier, entry.block);
      while (special != held.special.end() &&
             std::tuple(special->run, special->tier, special->block) < at) {
        ++special;
      }
      if (special != held.special.end() &&
          std::tuple(special->run, special->tier, special->block) == at) {
        entry.copies = special->copies;
        entry.span = special->span;
      }
      entries.push_back(entry);
    }
  }
}

// What a rank holds on a tier, each block once, by hash.
std::vector<Entry> EntriesOf(const SnapshotContent& content, const std::vector<size_t>& holders,
                             Tier tier) {
  std::vector<Entry> entries;
  for (const size_t holder : holders) AddEntries(content, holder, tier, entries);
  std::ranges::sort(entries, [](const Entry& a, const Entry& b) {
    return std::tuple(a.hash, b.copies, b.span) < std::tuple(b.hash, a.copies, a.span);
  });
  const auto rest = std::ranges::unique(entries, {}, &Entry::hash);
  entries.erase(rest.begin(), rest.end());
  return entries;
}

// Compares one rank on one tier.
class Comparison {
 public:
  Comparison(SnapshotDiff& diff, const SnapshotContent& a, const SnapshotContent& b,
             SnapshotDiff::Key key)
      : diff_(diff), a_(a), b_(b), key_(std::move(key)) {}

  void Run(const std::vector<Entry>& a, const std::vector<Entry>& b) {
    if (a.empty() && b.empty()) return;
    auto left = a.begin();
    auto right = b.begin();
    while (left != a.end() || right != b.end()) {
      if (right == b.end() || (left != a.end() && left->hash < right->hash)) {
        ++counts_.only_a;
        Differs(SnapshotDiff::Kind::kOnlyA, a_, *left++);
      } else if (left == a.end() || right->hash < left->hash) {
        ++counts_.only_b;
        Differs(SnapshotDiff::Kind::kOnlyB, b_, *right++);
      } else {
        ++counts_.both;
        if (left->copies != right->copies || left->span != right->span) {
          ++counts_.otherwise;
          Differs(SnapshotDiff::Kind::kOtherwise, a_, *left);
        }
        ++left, ++right;
      }
    }
    diff_.ranks.emplace(key_, counts_);
  }

  // The first of what differs, by position.
  [[nodiscard]] std::vector<SnapshotDiff::Block> First(size_t most) {
    const auto order = [](const SnapshotDiff::Block& block) {
      return std::tuple(block.position, block.hash);
    };
    const auto end = blocks_.begin() + static_cast<ptrdiff_t>(std::min(most, blocks_.size()));
    std::ranges::partial_sort(blocks_, end, {}, order);
    blocks_.erase(end, blocks_.end());
    return std::move(blocks_);
  }

 private:
  void Differs(SnapshotDiff::Kind kind, const SnapshotContent& content, const Entry& entry) {
    const SnapshotContent::Run& run = content.runs()[entry.run];
    const uint32_t position = run.position + entry.block;
    blocks_.push_back({key_, kind, position, entry.hash, run.root});
    const std::pair of(key_.rank.name_space, run.root);
    auto found = diff_.prefixes.find(of);
    if (found == diff_.prefixes.end()) {
      if (diff_.prefixes.size() == SnapshotDiff::kMostPrefixes) {
        diff_.more_prefixes = true;
        return;
      }
      found = diff_.prefixes.emplace(of, SnapshotDiff::Prefix()).first;
    }
    SnapshotDiff::Prefix& prefix = found->second;
    prefix.only_a += kind == SnapshotDiff::Kind::kOnlyA ? 1 : 0;
    prefix.only_b += kind == SnapshotDiff::Kind::kOnlyB ? 1 : 0;
    prefix.otherwise += kind == SnapshotDiff::Kind::kOtherwise ? 1 : 0;
    prefix.first = std::min(prefix.first, position);
    prefix.instances.insert(key_.rank.instance_id);
  }

  SnapshotDiff& diff_;
  const SnapshotContent& a_;
  const SnapshotContent& b_;
  const SnapshotDiff::Key key_;
  SnapshotDiff::Counts counts_;
  std::vector<SnapshotDiff::Block> blocks_;
};

using Objects = std::set<std::tuple<std::string, uint64_t, Tier>>;

Objects ObjectsOf(const store::SavedPublisher& publisher) {
  Objects objects;
  if (!publisher.pool) return objects;
  for (const auto& object : publisher.pool->objects) {
    const auto component = static_cast<uint64_t>(object.component);
    if (object.cpu) objects.emplace(object.key, component, Tier::kCpu);
    if (object.disk) objects.emplace(object.key, component, Tier::kDisk);
  }
  return objects;
}

std::optional<uint64_t> CursorOf(const store::SavedPublisher& publisher) {
  if (!publisher.resume) return std::nullopt;
  return publisher.resume->cursor;
}

void ComparePublishers(const SnapshotContent& a, const SnapshotContent& b, SnapshotDiff& diff) {
  std::map<std::string, std::pair<const store::SavedPublisher*, const store::SavedPublisher*>> all;
  for (const auto& publisher : a.publishers()) all[publisher.key].first = &publisher;
  for (const auto& publisher : b.publishers()) all[publisher.key].second = &publisher;
  for (const auto& [key, of] : all) {
    SnapshotDiff::Publisher& told = diff.publishers.emplace_back();
    told.key = key;
    Objects in_a;
    Objects in_b;
    if (of.first != nullptr) {
      told.in_a = true;
      told.cursor_a = CursorOf(*of.first);
      in_a = ObjectsOf(*of.first);
    }
    if (of.second != nullptr) {
      told.in_b = true;
      told.cursor_b = CursorOf(*of.second);
      in_b = ObjectsOf(*of.second);
    }
    told.objects_both = static_cast<uint64_t>(
        std::ranges::count_if(in_a, [&in_b](const auto& object) { return in_b.contains(object); }));
    told.objects_only_a = in_a.size() - told.objects_both;
    told.objects_only_b = in_b.size() - told.objects_both;
  }
}

}  // namespace

SnapshotDiff::Counts SnapshotDiff::total() const {
  Counts total;
  for (const auto& [key, counts] : ranks) {
    total.both += counts.both;
    total.only_a += counts.only_a;
    total.only_b += counts.only_b;
    total.otherwise += counts.otherwise;
  }
  return total;
}

bool SnapshotDiff::same() const {
  return total().differing() == 0 && std::ranges::all_of(publishers, [](const Publisher& of) {
           return of.objects_only_a + of.objects_only_b == 0;
         });
}

SnapshotDiff CompareSnapshots(const SnapshotContent& a, const SnapshotContent& b, size_t most) {
  SnapshotDiff diff{.name_a = a.info().path, .name_b = b.info().path};
  const auto ranks_a = RanksOf(a);
  const auto ranks_b = RanksOf(b);
  auto ranks = ranks_a;  // for the keys of both
  ranks.insert(ranks_b.begin(), ranks_b.end());
  const std::vector<size_t> none;
  const auto holders = [&none](const auto& of, const index::RankKey& key) {
    const auto found = of.find(key);
    return found == of.end() ? none : found->second;
  };
  for (const auto& [rank, unused] : ranks) {
    for (const Tier tier : kTiers) {
      Comparison comparison(diff, a, b, {rank, tier});
      comparison.Run(EntriesOf(a, holders(ranks_a, rank), tier),
                     EntriesOf(b, holders(ranks_b, rank), tier));
      if (diff.first.size() < most) {
        std::ranges::move(comparison.First(most - diff.first.size()),
                          std::back_inserter(diff.first));
      }
    }
  }
  ComparePublishers(a, b, diff);
  return diff;
}

}  // namespace conductor::toolkit
