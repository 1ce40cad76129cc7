#include "lib/simulate/router.h"

#include <gtest/gtest.h>

#include "lib/simulate/engine_rank.h"
#include "made_trace.h"

namespace conductor::simulate {
namespace {

TEST(Policies, AreReadBackByTheirNames) {
  for (const Policy policy : kPolicies) EXPECT_EQ(ParsePolicy(PolicyName(policy)), policy);
  EXPECT_EQ(ParsePolicy("random").error().Message(),
            "'random' is no policy (expected round-robin, least-loaded, longest-prefix or score)");
}

TEST(ScoreWeights, ThoseThatAreNamedTakeThePlaceOfTheDefaults) {
  const auto weights = ParseScoreWeights("waiting=2,cpu=0.25");
  ASSERT_TRUE(weights);
  EXPECT_EQ(weights->waiting, 2);
  EXPECT_EQ(weights->cpu, 0.25);
  EXPECT_EQ(weights->disk, index::ScoreWeights{}.disk);
}

TEST(ScoreWeights, WhatIsNoWeightIsTold) {
  EXPECT_EQ(ParseScoreWeights("gpu=-1").error().Message(),
            "gpu: '-1' is no weight (expected a number of 0 or more)");
  EXPECT_EQ(ParseScoreWeights("gpu=1,").error().Message(),
            "'' is no part of a score (expected gpu, cpu, disk, waiting, kv, each with =NUMBER, "
            "parted by commas)");
  EXPECT_FALSE(ParseScoreWeights("gpu"));
  EXPECT_FALSE(ParseScoreWeights("gpu=nan"));
}

class RouterViewTest : public testing::Test {
 protected:
  RouterViewTest() {
    fleet_.engines = 1;
    fleet_.blocks = {250, 100, 100};
    auto trace = Prepare(trace::MakeTrace({.requests = 200, .id_block = 16}), fleet_, 1);
    EXPECT_TRUE(trace);
    trace_ = *std::move(trace);
  }

  FleetModel fleet_;
  PreparedTrace trace_;
};

// Events, ingest, index and lookup against the cache itself.
TEST_F(RouterViewTest, FindsForEachPromptWhatTheEngineFinds) {
  RouterView view(fleet_, {});
  EngineRank rank(fleet_, trace_);
  Duration now{};
  uint64_t lower = 0;
  for (size_t number = 0; number < trace_.requests.size(); ++number) {
    const std::vector<PrefixHash>& chain = trace_.requests[number].chain;
    const index::RankMatch match = view.Look(now, chain)[0];
    rank.Enqueue(number);
    const auto start = rank.TryStart(now);
    ASSERT_TRUE(start);
    const uint32_t most = (trace_.requests[number].request.input - 1) / fleet_.block_size;
    ASSERT_EQ(start->hits.gpu, std::min(match.gpu, most)) << number;
    ASSERT_EQ(start->hits.cpu, std::min(match.cpu, most)) << number;
    ASSERT_EQ(start->hits.disk, std::min(match.disk, most)) << number;
    lower += start->hits.disk - start->hits.gpu;
    now = rank.FinishPrefill(start->prefill_end).end;
    rank.Finish(number);
    view.Publish(0, now, rank.TakeEvents());
  }
  EXPECT_GT(lower, 0u);
  EXPECT_EQ(view.Unplaced(), 0u);
}

TEST_F(RouterViewTest, HearsOfABlockAfterTheDelay) {
  const Duration delay = std::chrono::seconds(1);
  RouterView view(fleet_, delay);
  EngineRank rank(fleet_, trace_);
  rank.Enqueue(0);
  const Duration end = rank.TryStart({})->prefill_end;
  (void)rank.FinishPrefill(end);
  view.Publish(0, end, rank.TakeEvents());
  EXPECT_EQ(view.Look(end + delay - Duration{1}, trace_.requests[0].chain)[0].gpu, 0u);
  EXPECT_EQ(view.Look(end + delay, trace_.requests[0].chain)[0].gpu,
            trace_.requests[0].chain.size());
}

}  // namespace
}  // namespace conductor::simulate
