#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "lib/base/tier.h"
#include "lib/hash/block_hash.h"
#include "lib/index/prefix_index.h"

// What lookups answer while others write, judged by what was held when. A lookup counts only blocks
// that were held at some moment while it ran, and where nobody wrote meanwhile it is exact.
namespace conductor::index {
namespace {

constexpr uint32_t kRanks = 12;
constexpr uint32_t kShared = 70;  // blocks that both chains begin with
constexpr uint32_t kOwn = 90;     // that each has for itself
constexpr uint32_t kLength = kShared + kOwn;
constexpr uint32_t kBlocks = kShared + 2 * kOwn;

// The number of block `i` of a chain.
uint32_t BlockAt(uint32_t chain, uint32_t i) {
  return i < kShared ? i : kShared + chain * kOwn + (i - kShared);
}

EngineHash NameOf(uint32_t block) { return EngineHash{1000 + block}; }
LocalHash LocalOf(uint32_t block) { return LocalHash{(block + 1) * 0x9e3779b97f4a7c15u}; }

std::vector<PrefixHash> ChainOf(uint32_t chain) {
  std::vector<PrefixHash> prefixes;
  for (uint32_t i = 0; i < kLength; ++i) {
    const LocalHash local = LocalOf(BlockAt(chain, i));
    prefixes.push_back(i == 0 ? hash::FirstPrefix(local)
                              : hash::NextPrefix(prefixes.back(), local, hash::kDefaultSeed));
  }
  return prefixes;
}

RankKey KeyOf(uint32_t rank) {
  return {.name_space = {.model = "m", .block_size = 16},
          .instance_id = "i" + std::to_string(rank / 2),
          .dp_rank = rank % 2};
}
uint32_t RankOf(const RankKey& key) {
  return static_cast<uint32_t>(std::stoul(key.instance_id.substr(1))) * 2 + key.dp_rank;
}

// When one block was held by one rank on one tier. Time is a counter that is odd while something is
// being written; a change may be seen from its write's beginning on, and is seen after its end.
class Holding {
 public:
  void Become(bool held, uint64_t writing) {
    if (held == held_) return;
    held_ = held;
    if (held) {
      spans_.push_back({writing, kEver});
    } else {
      spans_.back().end = writing + 1;
    }
  }
  // At some moment from `from` to `to`.
  [[nodiscard]] bool HeldWithin(uint64_t from, uint64_t to) const {
    // Spans are in order: the last one that begins by `to`.
    auto after = std::ranges::upper_bound(spans_, to, {}, &Span::begin);
    return after != spans_.begin() && std::prev(after)->end >= from;
  }
  // Between two writes.
  [[nodiscard]] bool HeldAt(uint64_t time) const {
    auto after = std::ranges::upper_bound(spans_, time, {}, &Span::begin);
    return after != spans_.begin() && std::prev(after)->end > time;
  }
  [[nodiscard]] bool held() const { return held_; }

 private:
  static constexpr uint64_t kEver = ~uint64_t{0};
  struct Span {
    uint64_t begin;
    uint64_t end;
  };
  bool held_ = false;
  std::vector<Span> spans_;
};

// Times one apart: between writes 2k a change at 2k + 1 is not there yet, at 2k + 2 it is. HeldAt
// needs strict ends, HeldWithin closed ones: a span that ends with the write 2k + 1 ends at 2k + 2.

struct Observation {
  uint32_t chain;
  uint64_t from;
  uint64_t to;
  uint32_t top;
  struct Row {
    uint32_t rank;
    uint32_t gpu;
    uint32_t cpu;
    uint32_t disk;
  };
  std::vector<Row> rows;
};

// Hashes that come one by one, sometimes late, so that what a lookup stands on changes meanwhile.
class HesitantSource final : public PrefixSource {
 public:
  HesitantSource(const std::vector<PrefixHash>& chain, std::mt19937_64& random)
      : chain_(chain), random_(random) {}

  [[nodiscard]] size_t Next(std::span<PrefixHash> out) override {
    if (random_() % 8 == 0) std::this_thread::yield();
    const size_t count = std::min(out.size(), chain_.size() - at_);
    std::copy_n(chain_.begin() + static_cast<ptrdiff_t>(at_), count, out.begin());
    at_ += count;
    return count;
  }

 private:
  const std::vector<PrefixHash>& chain_;
  std::mt19937_64& random_;
  size_t at_ = 0;
};

class Fleet {
 public:
  explicit Fleet(PrefixIndex::Options options) : index_(options) {
    for (uint32_t rank = 0; rank < kRanks; ++rank) Add(rank);
  }

  // Writes for a while, one batch after the other; then everybody leaves.
  void Write(uint64_t seed, int batches) {
    std::mt19937_64 random(seed);
    for (int i = 0; i < batches; ++i) {
      const uint32_t rank = static_cast<uint32_t>(random() % kRanks);
      const Tier tier = kTiers[random() % kTierCount];
      const uint64_t begun = clock_ + 1;
      clock_ = begun;
      {
        auto writer = index_.Write();
        switch (random() % 16) {
          case 0:
            (void)writer.Clear(members_[rank].holder, tier);
            for (uint32_t block = 0; block < kBlocks; ++block) Become(rank, tier, block, false);
            break;
          case 1:
            writer.DropHolder(members_[rank].holder);
            writer.DropSpace(members_[rank].space);
            for (const Tier each : kTiers) {
              for (uint32_t block = 0; block < kBlocks; ++block) Become(rank, each, block, false);
            }
            members_[rank] = {writer.AddHolder(KeyOf(rank), next_, true), writer.AddSpace(next_)};
            ++next_;
            break;
          case 2:
          case 3:
          case 4:
          case 5:
          case 6:
            RemoveSome(writer, random, rank, tier);
            break;
          default:
            StoreSome(writer, random, rank, tier);
        }
      }
      clock_ = begun + 1;
      if (random() % 4 == 0) std::this_thread::yield();
    }
  }

  // One lookup.
  [[nodiscard]] Observation Look(std::mt19937_64& random, Matches& matches) {
    static const std::array<std::vector<PrefixHash>, 2> kChains = {ChainOf(0), ChainOf(1)};
    Observation seen{.chain = static_cast<uint32_t>(random() % 2)};
    seen.top = random() % 2 == 0 ? 0 : 3;
    HesitantSource source(kChains[seen.chain], random);
    seen.from = clock_;
    index_.Match(Scope{"", "m", "", 16, std::nullopt}, source, {.top = seen.top}, {}, matches);
    seen.to = clock_;
    for (const RankMatch& match : matches.ranks) {
      seen.rows.push_back({RankOf(*match.rank), match.gpu, match.cpu, match.disk});
    }
    return seen;
  }

  // The first thing wrong with it; empty: nothing. After all writes.
  [[nodiscard]] std::string Judge(const Observation& seen) const {
    std::array<bool, kRanks> listed{};
    uint32_t least = ~0u;
    for (const Observation::Row& row : seen.rows) {
      if (std::exchange(listed[row.rank], true)) return "a rank is listed twice";
      least = std::min(least, row.disk);
      if (row.gpu > row.cpu || row.cpu > row.disk || row.disk > kLength) return "out of order";
      const auto held = [&](uint32_t i, Tier tier) {
        return Of(row.rank, tier, BlockAt(seen.chain, i)).HeldWithin(seen.from, seen.to);
      };
      for (uint32_t i = 0; i < row.disk; ++i) {
        const bool had = i < row.gpu   ? held(i, Tier::kGpu)
                         : i < row.cpu ? held(i, Tier::kCpu)
                                       : held(i, Tier::kCpu) || held(i, Tier::kDisk);
        if (!had) return "block " + std::to_string(i) + " was never held meanwhile";
      }
    }
    if (seen.from != seen.to || seen.from % 2 != 0) return {};
    ++exact_;
    if (seen.top > 0 && seen.rows.size() > seen.top) return "more than were asked for";
    for (uint32_t rank = 0; rank < kRanks; ++rank) {
      const auto at = [&](uint32_t i, Tier tier) {
        return i < kLength && Of(rank, tier, BlockAt(seen.chain, i)).HeldAt(seen.from);
      };
      uint32_t gpu = 0;
      while (at(gpu, Tier::kGpu)) ++gpu;
      uint32_t cpu = gpu;
      while (at(cpu, Tier::kCpu)) ++cpu;
      uint32_t disk = cpu;
      while (at(disk, Tier::kCpu) || at(disk, Tier::kDisk)) ++disk;
      const auto row = std::ranges::find(seen.rows, rank, &Observation::Row::rank);
      if (row == seen.rows.end()) {
        const bool left_out = seen.top > 0 && seen.rows.size() == seen.top && disk <= least;
        if (disk > 0 && !left_out) return "a rank is missing";
      } else if (row->gpu != gpu || row->cpu != cpu || row->disk != disk) {
        return "figures differ though nothing was written";
      }
    }
    return {};
  }

  [[nodiscard]] PrefixIndex& index() { return index_; }
  [[nodiscard]] uint64_t exact() const { return exact_; }

 private:
  struct Member {
    HolderId holder{};
    AliasSpace space{};
  };

  void Add(uint32_t rank) {
    auto writer = index_.Write();
    members_[rank] = {writer.AddHolder(KeyOf(rank), next_, true), writer.AddSpace(next_)};
    ++next_;
  }

  [[nodiscard]] Holding& Of(uint32_t rank, Tier tier, uint32_t block) {
    return holdings_[(rank * kTierCount + static_cast<uint32_t>(tier)) * kBlocks + block];
  }
  [[nodiscard]] const Holding& Of(uint32_t rank, Tier tier, uint32_t block) const {
    return holdings_[(rank * kTierCount + static_cast<uint32_t>(tier)) * kBlocks + block];
  }
  void Become(uint32_t rank, Tier tier, uint32_t block, bool held) {
    Of(rank, tier, block).Become(held, clock_);
  }

  // A part of a chain, after a block that is known by then or from the beginning.
  void StoreSome(PrefixIndex::Writer& writer, std::mt19937_64& random, uint32_t rank, Tier tier) {
    const uint32_t chain = static_cast<uint32_t>(random() % 2);
    const uint32_t from = random() % 2 == 0 ? 0 : static_cast<uint32_t>(random() % kLength);
    const uint32_t count = 1 + static_cast<uint32_t>(random() % (kLength - from));
    std::vector<EngineHash> names;
    std::vector<LocalHash> locals;
    for (uint32_t i = from; i < from + count; ++i) {
      names.push_back(NameOf(BlockAt(chain, i)));
      locals.push_back(LocalOf(BlockAt(chain, i)));
    }
    StoreRequest request{.holder = members_[rank].holder,
                         .space = members_[rank].space,
                         .tier = tier,
                         .copies = CopyMode::kSet};
    if (from > 0) request.parent = NameOf(BlockAt(chain, from - 1));
    request.hashes = names;
    request.locals = locals;
    if (writer.Store(request) != StoreOutcome::kStored) return;
    for (uint32_t i = from; i < from + count; ++i) Become(rank, tier, BlockAt(chain, i), true);
  }

  // One block, or those of a stretch in either direction.
  void RemoveSome(PrefixIndex::Writer& writer, std::mt19937_64& random, uint32_t rank, Tier tier) {
    const uint32_t chain = static_cast<uint32_t>(random() % 2);
    const uint32_t from = static_cast<uint32_t>(random() % kLength);
    const uint32_t count =
        random() % 2 == 0 ? 1 : 1 + static_cast<uint32_t>(random() % (kLength - from));
    const bool backwards = random() % 2 == 0;
    for (uint32_t k = 0; k < count; ++k) {
      const uint32_t block = BlockAt(chain, backwards ? from + count - 1 - k : from + k);
      const bool was = Of(rank, tier, block).held();
      const auto outcome =
          writer.Remove(members_[rank].holder, members_[rank].space, tier, NameOf(block));
      EXPECT_EQ(outcome == RemoveOutcome::kRemoved, was);
      Become(rank, tier, block, false);
    }
  }

  PrefixIndex index_;
  std::atomic<uint64_t> clock_ = 0;  // odd while a batch is being written
  std::array<Member, kRanks> members_;
  uint32_t next_ = 0;
  std::vector<Holding> holdings_{kRanks * kTierCount * kBlocks};
  mutable uint64_t exact_ = 0;  // observations with nothing written meanwhile
};

void Watch(PrefixIndex::Options options, uint64_t seed, int batches) {
  Fleet fleet(options);
  std::atomic<bool> done = false;  // order does not matter: it only ends the readers
  std::vector<std::vector<Observation>> observations(2);
  std::vector<std::thread> readers;
  for (size_t reader = 0; reader < observations.size(); ++reader) {
    readers.emplace_back([&fleet, &done, &seen = observations[reader], reader] {
      std::mt19937_64 random(reader);
      Matches matches;
      constexpr size_t kMost = 50'000;
      while (!done && seen.size() < kMost) seen.push_back(fleet.Look(random, matches));
      // With nobody writing, all must be exact.
      while (!done) std::this_thread::yield();
      for (int i = 0; i < 20; ++i) seen.push_back(fleet.Look(random, matches));
    });
  }
  fleet.Write(seed, batches);
  done = true;
  for (std::thread& reader : readers) reader.join();

  size_t counted = 0;
  for (const auto& seen : observations) {
    for (const Observation& observation : seen) {
      const std::string wrong = fleet.Judge(observation);
      ASSERT_EQ(wrong, "") << "chain " << observation.chain << " from " << observation.from
                           << " to " << observation.to;
      for (const auto& row : observation.rows) counted += row.disk;
    }
  }
  EXPECT_GT(counted, 0U);
  EXPECT_GE(fleet.exact(), 40U);
  const Status valid = fleet.index().Validate();
  EXPECT_TRUE(valid) << valid.error().Message();
}

int Batches() { return std::getenv("CONDUCTOR_LONG_TESTS") != nullptr ? 100'000 : 3'000; }

TEST(Moments, AnswersBesideWritersCountOnlyWhatWasHeldMeanwhile) {
  for (uint64_t seed = 1; seed <= 3; ++seed) Watch({}, seed, Batches());
}

TEST(Moments, WhereReleasedBlocksAreForgottenAtOnce) {
  for (uint64_t seed = 4; seed <= 6; ++seed) Watch({.released_limit = 0}, seed, Batches());
}

}  // namespace
}  // namespace conductor::index
