#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "lib/hash/block_hash.h"
#include "lib/index/prefix_index.h"

// PrefixIndex::Options::memory_limit.
namespace conductor::index {
namespace {

class MemoryBudget : public testing::Test {
 protected:
  explicit MemoryBudget(uint64_t limit = 4 << 20)
      : index_({.released_limit = 1024, .memory_limit = limit}) {
    auto writer = index_.Write();
    for (uint32_t i = 0; i < 2; ++i) {
      RankKey rank{.name_space = {.model = "m", .block_size = 16}, .instance_id = "i"};
      rank.dp_rank = i;
      holders_[i] = writer.AddHolder(rank, i, true);
      spaces_[i] = writer.AddSpace(i);
    }
  }

  struct Stored {
    std::vector<EngineHash> names;
    std::vector<LocalHash> locals;
  };
  // `count` blocks of nobody else's after `parent`.
  Stored Store(size_t count, std::optional<EngineHash> parent = std::nullopt, uint32_t rank = 0) {
    Stored stored;
    for (size_t i = 0; i < count; ++i) {
      stored.names.push_back(EngineHash{random_()});
      stored.locals.push_back(LocalHash{random_()});
    }
    Again(stored, parent, rank);
    return stored;
  }
  void Again(const Stored& stored, std::optional<EngineHash> parent = std::nullopt,
             uint32_t rank = 0) {
    auto writer = index_.Write();
    StoreRequest request{.holder = holders_[rank], .space = spaces_[rank], .tier = Tier::kGpu};
    request.copies = CopyMode::kSet;
    request.parent = parent;
    request.hashes = stored.names;
    request.locals = stored.locals;
    EXPECT_EQ(writer.Store(request), StoreOutcome::kStored);
  }
  bool Knows(EngineHash name, uint32_t rank = 0) {
    return index_.Write().Knows(spaces_[rank], name);
  }
  // Stores until something was given up.
  void Fill() {
    const uint64_t trims = index_.Trims();
    while (index_.Trims() == trims) Store(64);
  }
  void Check() {
    const Status valid = index_.Validate();
    EXPECT_TRUE(valid) << valid.error().Message();
  }

  PrefixIndex index_;
  HolderId holders_[2];
  AliasSpace spaces_[2];
  std::mt19937_64 random_{1};
};

// What the tables grow by at once is little beside this one.
class LargerMemoryBudget : public MemoryBudget {
 protected:
  static constexpr uint64_t kLimit = 16 << 20;

  LargerMemoryBudget() : MemoryBudget(kLimit) {}
};

TEST_F(LargerMemoryBudget, IsKeptHoweverMuchComes) {
  for (int i = 0; i < 10'000; ++i) {
    Store(1 + random_() % 200);
    if (i % 16 != 0) continue;
    ASSERT_LE(index_.Stats().bytes, kLimit);
  }
  const IndexStats stats = index_.Stats();
  EXPECT_GT(stats.blocks, 100'000U);
  EXPECT_GT(stats.trims, 3U);
  EXPECT_GT(stats.trimmed, 100'000U);
  EXPECT_EQ(index_.TrimmedOf(holders_[0]), stats.trimmed);
  EXPECT_EQ(index_.HeldBlocks(holders_[0], Tier::kGpu), stats.holdings);
}

TEST_F(MemoryBudget, TheLeastRecentlyAnnouncedGoFirst) {
  const Stored early = Store(64);
  const Stored announced_again = Store(64);
  for (int i = 0; i < 500; ++i) Store(64);
  Again(announced_again);
  Fill();
  EXPECT_FALSE(Knows(early.names.front()));
  EXPECT_TRUE(Knows(announced_again.names.front()));
  EXPECT_TRUE(Knows(announced_again.names.back()));
  Check();
}

TEST_F(MemoryBudget, NothingGoesThatSomethingKeptFollows) {
  const Stored root = Store(64);
  for (int i = 0; i < 500; ++i) Store(64);
  // Announced long ago, and what follows it a moment ago.
  const Stored child = Store(64, root.names.back());
  Fill();
  EXPECT_TRUE(Knows(root.names.front()));
  EXPECT_TRUE(Knows(child.names.back()));
  Check();
}

TEST_F(MemoryBudget, WhereNothingIsYoungerTheDeepestGoes) {
  // One event, so one age; cut into runs of 64.
  const Stored chain = Store(64 * 800);
  Fill();
  Fill();
  size_t left = 0;
  while (left < chain.names.size() && Knows(chain.names[left])) ++left;
  EXPECT_LT(left, chain.names.size());
  EXPECT_GT(left, 0U);
  for (size_t i = left; i < chain.names.size(); ++i) ASSERT_FALSE(Knows(chain.names[i])) << i;
  Check();
}

TEST_F(MemoryBudget, WhatOnlyLedToWhatWasGivenUpGoesWithIt) {
  // A name for 100 blocks stands at the last one, in the second run; the first run has no names.
  constexpr uint32_t kSpan = 100;
  std::vector<LocalHash> locals(kSpan);
  auto store_filler_spans = [&] {
    for (int i = 0; i < 100; ++i) {
      for (LocalHash& local : locals) local = LocalHash{random_()};
      const EngineHash name{random_()};
      auto writer = index_.Write();
      StoreRequest request{.holder = holders_[1], .space = spaces_[1], .tier = Tier::kGpu};
      request.hashes = {&name, 1};
      request.locals = locals;
      request.span = kSpan;
      ASSERT_EQ(writer.Store(request), StoreOutcome::kStored);
    }
  };
  while (index_.Trims() < 8) {
    const uint64_t trims = index_.Trims();
    store_filler_spans();
    if (index_.Trims() != trims) Check();
  }
  EXPECT_GT(index_.Stats().trimmed, 0U);
}

TEST_F(MemoryBudget, WhoLosesIsTold) {
  const Stored of_other = Store(64, std::nullopt, 1);
  EXPECT_EQ(index_.TrimmedOf(holders_[1]), 0U);
  Fill();
  EXPECT_EQ(index_.TrimmedOf(holders_[1]), 64U);
  EXPECT_FALSE(Knows(of_other.names.front(), 1));
  Again(of_other, std::nullopt, 1);
  EXPECT_TRUE(Knows(of_other.names.front(), 1));
  // Who holds nothing misses nothing.
  (void)index_.Write().Clear(holders_[1], Tier::kGpu);
  EXPECT_EQ(index_.TrimmedOf(holders_[1]), 0U);
  Check();
}

TEST_F(MemoryBudget, NamesOfPoolsDoNotDriveOutWhatEnginesHold) {
  const Stored stored = Store(64);
  for (int i = 0; i < 100; ++i) Store(64);
  auto writer = index_.Write();
  const PoolId pool = writer.AddPool("pool", PoolLookup::kFromStart, std::nullopt);
  constexpr uint64_t kNames = 200'000;
  for (uint64_t name = 0; name < kNames; ++name) {
    writer.SetPoolBlock(pool, {"", "m", ""}, {0, EngineHash{name}}, Tier::kCpu);
  }
  { const auto done = std::move(writer); }
  EXPECT_TRUE(Knows(stored.names.front()));
  const PoolStats stats = index_.StatsOf(pool);
  EXPECT_LT(stats.blocks, kNames);
  EXPECT_EQ(stats.blocks + stats.trimmed, kNames) << "what has no room is counted";
  EXPECT_LE(index_.Stats().bytes, uint64_t{4} << 20);
  Check();
}

TEST_F(MemoryBudget, PoolsLoseWhatTheyHeldAndJoinItAnew) {
  const Stored stored = Store(64);
  PoolId pool{};
  {
    auto writer = index_.Write();
    pool = writer.AddPool("pool", PoolLookup::kFromStart, std::nullopt);
    for (const EngineHash name : stored.names) {
      writer.SetPoolBlock(pool, {"", "m", ""}, {0, name}, Tier::kCpu);
    }
  }
  EXPECT_EQ(index_.StatsOf(pool).joined, 64U);
  Fill();
  EXPECT_EQ(index_.StatsOf(pool).blocks, 64U);
  EXPECT_EQ(index_.StatsOf(pool).joined, 0U);
  EXPECT_EQ(index_.StatsOf(pool).trimmed, 64U);
  Check();
  Again(stored);
  EXPECT_EQ(index_.StatsOf(pool).joined, 64U);
  Check();
  auto writer = index_.Write();
  for (const EngineHash name : stored.names) {
    writer.SetPoolBlock(pool, {"", "m", ""}, {0, name}, std::nullopt);
  }
  EXPECT_EQ(index_.Trims(), 1U);
  writer.DropPool(pool);
}

}  // namespace
}  // namespace conductor::index
