#include "lib/simulate/tiered_cache.h"

#include <gtest/gtest.h>

#include <vector>

namespace conductor::simulate {
namespace {

std::vector<EngineHash> Names(std::initializer_list<uint64_t> numbers) {
  std::vector<EngineHash> names;
  for (const uint64_t number : numbers) names.push_back(EngineHash{number});
  return names;
}

// Runs a prompt from its start to its end; how far it was cached.
CacheHits Serve(TieredCache& cache, const std::vector<EngineHash>& names) {
  const CacheHits hits = cache.Find(names, UINT32_MAX);
  TieredCache::Lease lease;
  const auto missing = static_cast<uint32_t>(names.size() - hits.disk);
  EXPECT_TRUE(cache.Take(names, hits, missing, lease));
  cache.Fill(names, lease);
  cache.Finish(lease);
  return hits;
}

TEST(TieredCache, WhatIsEvictedFromTheDeviceGoesToTheHostThenToDiskThenAway) {
  TieredCache cache({1, 1, 1});
  Serve(cache, Names({1}));
  Serve(cache, Names({2}));
  EXPECT_EQ(cache.Find(Names({1}), 1).cpu, 1u);
  Serve(cache, Names({3}));
  EXPECT_EQ(cache.Find(Names({1}), 1).cpu, 0u);
  EXPECT_EQ(cache.Find(Names({1}), 1).disk, 1u);
  Serve(cache, Names({4}));
  EXPECT_EQ(cache.Find(Names({1}), 1).disk, 0u);
  EXPECT_EQ(cache.counters(Tier::kDisk).evicted, 1u);
  EXPECT_EQ(cache.Recount(), (std::array<uint64_t, 3>{1, 1, 1}));
}

TEST(TieredCache, ATierWithoutBlocksIsLeftOut) {
  TieredCache cache({1, 0, 1});
  Serve(cache, Names({1}));
  Serve(cache, Names({2}));
  const CacheHits hits = cache.Find(Names({1}), 1);
  EXPECT_EQ(hits.cpu, 0u);
  EXPECT_EQ(hits.disk, 1u);
}

TEST(TieredCache, TheEndOfAPromptIsEvictedBeforeItsStart) {
  TieredCache cache({3, 0, 0});
  Serve(cache, Names({1, 2, 3}));
  Serve(cache, Names({4}));
  EXPECT_EQ(cache.Find(Names({1, 2, 3}), 3).gpu, 2u);
}

TEST(TieredCache, AHitOnALowerTierMovesToTheDevice) {
  TieredCache cache({2, 2, 0});
  Serve(cache, Names({1, 2}));
  Serve(cache, Names({3, 4}));
  EXPECT_EQ(Serve(cache, Names({1, 2})).cpu, 2u);
  EXPECT_EQ(cache.Find(Names({1, 2}), 2).gpu, 2u);
  EXPECT_EQ(cache.counters(Tier::kCpu).moved_up, 2u);
  // Those on their way up gave their room to those on their way down.
  EXPECT_EQ(cache.Find(Names({3, 4}), 2).cpu, 2u);
  EXPECT_EQ(cache.counters(Tier::kCpu).evicted, 0u);
}

TEST(TieredCache, HitsDoNotClimbBackToTheDevice) {
  TieredCache cache({2, 2, 0});
  Serve(cache, Names({1, 2}));
  Serve(cache, Names({3}));  // 2 goes to the host
  Serve(cache, Names({4}));  // 1 too
  Serve(cache, Names({2}));
  const CacheHits hits = cache.Find(Names({1, 2}), 2);
  EXPECT_EQ(hits.gpu, 0u);
  EXPECT_EQ(hits.disk, 1u);
}

TEST(TieredCache, BlocksOfARunningRequestAreNeverEvicted) {
  TieredCache cache({3, 0, 0});
  TieredCache::Lease lease;
  ASSERT_TRUE(cache.Take(Names({1, 2}), {}, 2, lease));
  cache.Fill(Names({1, 2}), lease);
  Serve(cache, Names({3}));
  Serve(cache, Names({4}));
  EXPECT_EQ(cache.Find(Names({1, 2}), 2).gpu, 2u);
  TieredCache::Lease other;
  EXPECT_FALSE(cache.Take(Names({5, 6}), {}, 2, other));
  EXPECT_EQ(cache.owned(), 2u);
  cache.Finish(lease);
  EXPECT_TRUE(cache.Take(Names({5, 6}), {}, 2, other));
}

TEST(TieredCache, RoomThatARequestDidNotFillIsFreeAfterIt) {
  TieredCache cache({4, 0, 0});
  TieredCache::Lease lease;
  ASSERT_TRUE(cache.Take(Names({1}), {}, 4, lease));
  cache.Fill(Names({1}), lease);
  EXPECT_EQ(cache.owned(), 4u);
  cache.Finish(lease);
  EXPECT_EQ(cache.owned(), 0u);
  EXPECT_EQ(cache.counters(Tier::kGpu).held, 1u);
}

TEST(TieredCache, ABlockThatTwoRequestsRunWithIsThereOnce) {
  TieredCache cache({4, 0, 0});
  TieredCache::Lease first;
  TieredCache::Lease second;
  ASSERT_TRUE(cache.Take(Names({1}), {}, 1, first));
  ASSERT_TRUE(cache.Take(Names({1}), {}, 1, second));
  cache.Fill(Names({1}), first);
  cache.Fill(Names({1}), second);
  EXPECT_EQ(cache.owned(), 1u);
  EXPECT_EQ(cache.TakeChanges().computed.size(), 1u);
  cache.Finish(first);
  EXPECT_EQ(cache.owned(), 1u);
  cache.Finish(second);
  EXPECT_EQ(cache.owned(), 0u);
}

TEST(TieredCache, TellsWhatMoved) {
  TieredCache cache({1, 1, 0});
  Serve(cache, Names({1}));
  EXPECT_EQ(cache.TakeChanges().computed, std::vector<uint32_t>{0});
  Serve(cache, Names({2}));
  const CacheChanges changes = cache.TakeChanges();
  EXPECT_EQ(changes.removed[0], Names({1}));
  EXPECT_EQ(changes.stored[1], Names({1}));
  EXPECT_TRUE(changes.removed[1].empty());
}

}  // namespace
}  // namespace conductor::simulate
