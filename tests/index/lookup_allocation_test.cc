#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "allocation_count.h"
#include "lib/hash/block_hash.h"
#include "lib/index/prefix_index.h"

// A lookup into memory that earlier ones have grown allocates nothing.
namespace conductor::index {
namespace {

constexpr uint32_t kBlocks = 300;

class LookupAllocation : public testing::Test {
 protected:
  LookupAllocation() {
    for (uint32_t i = 0; i < kBlocks * 16; ++i) tokens_.push_back(i * 7);
    for (uint32_t i = 0; i < kBlocks; ++i) names_.push_back(EngineHash{i + 1});
    locals_.resize(kBlocks);
    hash::HashBlocks(tokens_, 16, hash::kDefaultSeed, locals_);
  }

  // A rank that holds the first `blocks` on the tier.
  void Hold(uint32_t rank, uint32_t blocks, Tier tier = Tier::kGpu, uint32_t span = 1) {
    auto writer = index_.Write();
    const RankKey key{.name_space = {.tenant = "a tenant of more than a few letters",
                                     .model = "a model with a name that fits no small string",
                                     .block_size = 16},
                      .instance_id = "instance " + std::to_string(rank)};
    const HolderId holder = writer.AddHolder(key, rank, true);
    const AliasSpace space = writer.AddSpace(rank);
    StoreRequest request{.holder = holder, .space = space, .tier = tier};
    request.hashes = std::span(names_).first(blocks / span);
    request.locals = std::span(locals_).first(blocks);
    request.span = span;
    EXPECT_EQ(writer.Store(request), StoreOutcome::kStored);
  }

  void AddPool(PoolLookup lookup) {
    auto writer = index_.Write();
    const PoolId pool = writer.AddPool("a pool with a long name, too", lookup, std::nullopt);
    const PoolDomain domain{"a tenant of more than a few letters",
                            "a model with a name that fits no small string", ""};
    for (const EngineHash name : names_) writer.SetPoolBlock(pool, domain, {0, name}, Tier::kCpu);
  }

  // Bytes that the second of two lookups asks for.
  size_t Look(uint32_t top = 0) {
    const Scope scope{"a tenant of more than a few letters",
                      "a model with a name that fits no small string", "", 16, std::nullopt};
    for (int i = 0; i < 2; ++i) {
      TokenChain chain(tokens_, 16, hash::kDefaultSeed);
      wire::allocated_bytes = 0;
      index_.Match(scope, chain, {.top = top}, {}, matches_);
    }
    return wire::allocated_bytes;
  }

  std::vector<TokenId> tokens_;
  std::vector<EngineHash> names_;
  std::vector<LocalHash> locals_;
  PrefixIndex index_{PrefixIndex::Options{}};
  Matches matches_;
};

TEST_F(LookupAllocation, IsCountedHere) {
  wire::allocated_bytes = 0;
  const std::vector<int> some(100);
  EXPECT_GE(wire::allocated_bytes, some.size() * sizeof(int));
}

TEST_F(LookupAllocation, OfAPromptThatNobodyHolds) {
  EXPECT_EQ(Look(), 0U);
  Hold(0, 100);
  tokens_[0] = 99;
  EXPECT_EQ(Look(), 0U);
  EXPECT_TRUE(matches_.ranks.empty());
}

TEST_F(LookupAllocation, OfManyRanksThatHoldAsMuchAsEachOther) {
  for (const uint32_t ranks : {1u, 64u, 1000u}) {
    while (matches_.ranks.size() < ranks) {
      Hold(static_cast<uint32_t>(matches_.ranks.size()), kBlocks);
      Look();
    }
    EXPECT_EQ(Look(), 0U) << ranks;
    EXPECT_EQ(Look(8), 0U) << ranks;
    EXPECT_EQ(matches_.ranks.size(), std::min(ranks, 8u));
    Look();
  }
}

TEST_F(LookupAllocation, OfRanksThatHoldDifferentPartsOnDifferentTiers) {
  for (uint32_t rank = 0; rank < 60; ++rank) Hold(rank, 1 + rank * 4, kTiers[rank % kTierCount]);
  EXPECT_EQ(Look(), 0U);
  EXPECT_FALSE(matches_.ranks.empty());
}

TEST_F(LookupAllocation, BesideAPool) {
  Hold(0, kBlocks);
  Hold(1, 10);
  AddPool(PoolLookup::kFromStart);
  EXPECT_EQ(Look(), 0U);
  ASSERT_EQ(matches_.pools.size(), 1U);
  EXPECT_EQ(matches_.pools[0].cpu, kBlocks);
}

TEST_F(LookupAllocation, WhereAPoolFillsGaps) {
  Hold(0, kBlocks);
  Hold(1, 10);
  AddPool(PoolLookup::kContinue);
  EXPECT_EQ(Look(), 0U);
  ASSERT_EQ(matches_.ranks.size(), 2U);
  EXPECT_EQ(matches_.ranks[1].cpu, kBlocks);
}

TEST_F(LookupAllocation, WhereNamesStandForSeveralBlocks) {
  Hold(0, kBlocks, Tier::kGpu, 4);
  Hold(1, 10);
  EXPECT_EQ(Look(), 0U);
  EXPECT_EQ(matches_.ranks.size(), 2U);
}

}  // namespace
}  // namespace conductor::index
