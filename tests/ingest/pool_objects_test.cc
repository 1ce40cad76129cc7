#include "lib/ingest/pool_objects.h"

#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <string>

namespace conductor::ingest {
namespace {

constexpr ObjectTiers kCpu{.cpu = true};
constexpr ObjectTiers kDisk{.disk = true};
constexpr ObjectTiers kUnknown{};

wire::ObjectKey Key(uint64_t hash, uint32_t tp_rank, const std::string& variant = {}) {
  return wire::ObjectKey{.family = wire::KeyFamily::kVllmStore,
                         .variant = variant,
                         .model = "m",
                         .hash = EngineHash{hash},
                         .tp_rank = tp_rank};
}

// A pool, and what it has said of its blocks.
struct Pool {
  explicit Pool(std::optional<uint32_t> tensor_ranks = std::nullopt, size_t max_bytes = 1 << 20)
      : objects({.declared = {.tensor_ranks = tensor_ranks},
                 .max_bytes = max_bytes,
                 .max_families = 8}) {}

  static ObjectId Id(const wire::ObjectKey& key) {
    return {"default", std::to_string(static_cast<uint64_t>(key.hash)) + "/" +
                           std::to_string(key.tp_rank.value_or(99)) + key.variant};
  }
  bool Add(const wire::ObjectKey& key, ObjectTiers on) {
    PoolObjects::Changes changes;
    const bool added = objects.Add(Id(key), key, "model", "backend", on, true, changes);
    Take(changes);
    return added;
  }
  void Remove(const wire::ObjectKey& key) {
    PoolObjects::Changes changes;
    EXPECT_TRUE(objects.Remove(Id(key), changes));
    Take(changes);
  }
  void Take(const PoolObjects::Changes& changes) {
    for (const auto& change : changes) {
      EXPECT_EQ(change.scope->model, "model");
      EXPECT_NE(tiers[change.hash], change.tier) << "a change that changes nothing";
      tiers[change.hash] = change.tier;
    }
  }
  std::optional<Tier> TierOf(uint64_t hash) { return tiers[EngineHash{hash}]; }

  PoolObjects objects;
  std::map<EngineHash, std::optional<Tier>> tiers;
};

TEST(PoolObjects, ABlockIsWholeWhenAllDeclaredRanksAreThere) {
  Pool pool(2);
  pool.Add(Key(7, 0), kCpu);
  EXPECT_EQ(pool.TierOf(7), std::nullopt);
  EXPECT_EQ(pool.objects.partial_blocks(), 1U);
  pool.Add(Key(7, 1), kCpu);
  EXPECT_EQ(pool.TierOf(7), Tier::kCpu);
  EXPECT_EQ(pool.objects.partial_blocks(), 0U);
  pool.Remove(Key(7, 0));
  EXPECT_EQ(pool.TierOf(7), std::nullopt);
  EXPECT_EQ(pool.objects.Unsettled(10), "");
}

TEST(PoolObjects, ABlockWithAComponentOnDiskIsOnDisk) {
  Pool pool(2);
  pool.Add(Key(7, 0), kCpu);
  pool.Add(Key(7, 1), kDisk);
  EXPECT_EQ(pool.TierOf(7), Tier::kDisk);
  PoolObjects::Changes changes;
  pool.objects.AddTiers(Pool::Id(Key(7, 1)), kCpu, changes);
  pool.Take(changes);
  EXPECT_EQ(pool.TierOf(7), Tier::kCpu);
}

TEST(PoolObjects, AGreaterRankMakesBlocksPartialThatWereWhole) {
  Pool pool;
  pool.Add(Key(7, 0), kCpu);
  pool.Add(Key(8, 0), kCpu);
  EXPECT_EQ(pool.TierOf(7), Tier::kCpu);
  EXPECT_EQ(pool.objects.Unsettled(10), "tp_size");
  pool.Add(Key(7, 1), kCpu);
  EXPECT_EQ(pool.TierOf(7), Tier::kCpu);
  EXPECT_EQ(pool.TierOf(8), std::nullopt);
}

TEST(PoolObjects, ALearntSizeIsBelievedAfterEnoughObjects) {
  Pool pool;
  for (uint64_t hash = 0; hash <= 3; ++hash) pool.Add(Key(hash, 0), kCpu);
  EXPECT_EQ(pool.objects.Unsettled(4), "");
  EXPECT_EQ(pool.objects.Unsettled(5), "tp_size");
}

TEST(PoolObjects, OneHashOfTwoVariantsIsWholeWhileEitherIs) {
  Pool pool(1);
  pool.Add(Key(7, 0, "half"), kCpu);
  pool.Add(Key(7, 0, "float"), kDisk);
  EXPECT_EQ(pool.TierOf(7), Tier::kCpu);
  pool.Remove(Key(7, 0, "half"));
  EXPECT_EQ(pool.TierOf(7), Tier::kDisk);
  pool.Remove(Key(7, 0, "float"));
  EXPECT_EQ(pool.TierOf(7), std::nullopt);
}

TEST(PoolObjects, AnObjectWithoutTierIsOnDiskUntilMoreIsTold) {
  Pool pool(1);
  const ObjectId id = Pool::Id(Key(7, 0));
  pool.Add(Key(7, 0), kUnknown);
  EXPECT_EQ(pool.TierOf(7), Tier::kDisk);
  EXPECT_EQ(pool.objects.unsettled(), 1U);
  EXPECT_EQ(pool.objects.KeysWithoutTier("default", 9), std::vector{id.key});
  PoolObjects::Changes changes;
  pool.objects.AddTiers(id, kCpu, changes);
  pool.Take(changes);
  EXPECT_EQ(pool.TierOf(7), Tier::kCpu);
  EXPECT_EQ(pool.objects.unsettled(), 1U) << "it may be on disk besides";
  pool.objects.SetTiers(id, kCpu, changes = {});
  pool.Take(changes);
  EXPECT_EQ(pool.objects.unsettled(), 0U);
  pool.objects.RemoveTiers(id, kCpu, changes = {});
  pool.Take(changes);
  EXPECT_FALSE(pool.objects.Contains(id));
}

TEST(PoolObjects, AnAnswerOfTiersIsForObjectsOfWhichNothingWasToldSinceTheQuestion) {
  Pool pool(1);
  pool.Add(Key(7, 0), kUnknown);
  pool.Add(Key(8, 0), kUnknown);
  EXPECT_FALSE(pool.objects.Asked(Pool::Id(Key(7, 0))));
  EXPECT_EQ(pool.objects.AskForTiers("default", 9).size(), 2U);
  PoolObjects::Changes changes;
  pool.objects.AddTiers(Pool::Id(Key(7, 0)), kDisk, changes);
  EXPECT_FALSE(pool.objects.Asked(Pool::Id(Key(7, 0))));
  EXPECT_TRUE(pool.objects.Asked(Pool::Id(Key(8, 0))));
}

TEST(PoolObjects, WhatIsUnsettledIsTheWeakestClaimAgain) {
  Pool pool(1);
  pool.Add(Key(7, 0), kCpu);
  PoolObjects::Changes changes;
  pool.objects.Unsettle(Pool::Id(Key(7, 0)), kUnknown, changes);
  pool.Take(changes);
  EXPECT_EQ(pool.TierOf(7), Tier::kDisk);
  EXPECT_EQ(pool.objects.unsettled(), 1U);
  pool.Remove(Key(7, 0));
  EXPECT_EQ(pool.objects.unsettled(), 0U);
}

TEST(PoolObjects, WhatDoesNotFitIsRefusedAndWhatIsThereStays) {
  Pool pool(1, 250);
  EXPECT_TRUE(pool.Add(Key(1, 0), kCpu));
  EXPECT_FALSE(pool.Add(Key(2, 0), kCpu));
  EXPECT_EQ(pool.TierOf(1), Tier::kCpu);
  pool.Remove(Key(1, 0));
  EXPECT_TRUE(pool.Add(Key(2, 0), kCpu));
}

TEST(PoolObjects, ClearLeavesNothing) {
  Pool pool;
  pool.Add(Key(1, 0), kCpu);
  pool.Add(Key(1, 3), kCpu);
  pool.Add(Key(2, 0), kDisk);
  PoolObjects::Changes changes;
  pool.objects.Clear(changes);
  pool.Take(changes);
  for (const auto& [hash, tier] : pool.tiers) EXPECT_EQ(tier, std::nullopt);
  EXPECT_EQ(pool.objects.size(), 0U);
  EXPECT_EQ(pool.objects.partial_blocks(), 0U);
  pool.Add(Key(1, 0), kCpu);
  EXPECT_EQ(pool.TierOf(1), Tier::kCpu) << "what was learnt before is forgotten";
}

}  // namespace
}  // namespace conductor::ingest
