#include "lib/simulate/outcome.h"

#include <gtest/gtest.h>

#include <functional>
#include <string>

namespace conductor::simulate {
namespace {

FleetModel OneEngine() {
  FleetModel fleet;
  fleet.engines = 1;
  fleet.blocks = {8, 4, 0};
  return fleet;
}

// One request on one rank, all as it must be.
Outcome Sound() {
  Outcome outcome;
  outcome.wall = Duration{30};
  outcome.requests = {{.line = 5,
                       .target = 0,
                       .arrival = Duration{1},
                       .start = Duration{2},
                       .first_token = Duration{10},
                       .end = Duration{30},
                       .prompt = 40,
                       .answer = 3,
                       .hits = {16, 8, 0},
                       .computed = 16,
                       .starts = 1,
                       .ends = 1}};
  RankRecord rank;
  rank.requests = 1;
  rank.busy = Duration{8};
  rank.tiers[0] = {.stored = 9, .evicted = 5, .moved_up = 0, .held = 4};
  rank.tiers[1] = {.stored = 5, .evicted = 1, .moved_up = 1, .held = 3};
  rank.recounted = {4, 3, 0};
  rank.indexed = {{4, 3, 0}};
  outcome.ranks = {rank};
  return outcome;
}

TEST(Conservation, HoldsForASoundRun) { EXPECT_TRUE(CheckConservation(OneEngine(), Sound())); }

TEST(Conservation, WhatBreaksItIsTold) {
  struct Case {
    std::string says;
    std::function<void(Outcome&)> breaks;
  };
  const std::vector<Case> cases = {
      {"line 5: started 1 times and ended 2 times", [](Outcome& o) { o.requests[0].ends = 2; }},
      {"started 0 times", [](Outcome& o) { o.requests[0].starts = 0; }},
      {"in this order", [](Outcome& o) { o.requests[0].start = Duration{0}; }},
      {"24 tokens hit and 15 computed (expected together 40",
       [](Outcome& o) { o.requests[0].computed = 15; }},
      {"rank 0: got 2 requests", [](Outcome& o) { o.ranks[0].requests = 2; }},
      {"the wall time", [](Outcome& o) { o.ranks[0].busy = Duration{31}; }},
      {"gpu: 9 blocks stored, 4 evicted", [](Outcome& o) { o.ranks[0].tiers[0].evicted = 4; }},
      {"cpu: 5 blocks stored", [](Outcome& o) { o.ranks[0].recounted[1] = 2; }},
      {"cpu: 2 blocks in the router's index",
       [](Outcome& o) {
         o.ranks[0].indexed = {{4, 2, 0}};
       }},
      {"disk: 1 blocks held (expected at most 0)",
       [](Outcome& o) {
         o.ranks[0].tiers[2] = {.stored = 1, .evicted = 0, .moved_up = 0, .held = 1};
         o.ranks[0].recounted[2] = 1;
       }},
      {"3 events without a place", [](Outcome& o) { o.unplaced = 3; }},
  };
  for (const Case& broken : cases) {
    Outcome outcome = Sound();
    broken.breaks(outcome);
    const Status status = CheckConservation(OneEngine(), outcome);
    ASSERT_FALSE(status) << broken.says;
    EXPECT_NE(status.error().Message().find(broken.says), std::string::npos)
        << status.error().Message();
  }
}

TEST(Spread, PercentilesAreTimesThatOccurred) {
  std::vector<double> seconds;
  for (int i = 200; i >= 1; --i) seconds.push_back(i);
  const Spread spread = SpreadOf(seconds);
  EXPECT_EQ(spread.p50, 100);
  EXPECT_EQ(spread.p90, 180);
  EXPECT_EQ(spread.p99, 198);
  EXPECT_EQ(spread.max, 200);
  EXPECT_EQ(spread.mean, 100.5);
  EXPECT_EQ(SpreadOf({3}).p99, 3);
  EXPECT_EQ(SpreadOf({}).max, 0);
}

TEST(Balance, IsOneAndZeroWhereWorkIsEven) {
  const std::vector<double> even = {2, 2, 2};
  EXPECT_EQ(BalanceOf(even).max_over_mean, 1);
  EXPECT_EQ(BalanceOf(even).variation, 0);
  const std::vector<double> one = {4, 0};
  EXPECT_EQ(BalanceOf(one).max_over_mean, 2);
  EXPECT_EQ(BalanceOf(one).variation, 1);
  const std::vector<double> none = {0, 0};
  EXPECT_EQ(BalanceOf(none).max_over_mean, 1);
}

TEST(Summary, AddsUpWhatHappened) {
  const Summary summary = Summarize(OneEngine(), Sound());
  EXPECT_EQ(summary.prompt_tokens, 40u);
  EXPECT_EQ(summary.answer_tokens, 3u);
  EXPECT_DOUBLE_EQ(summary.HitRate(), 0.6);
  EXPECT_DOUBLE_EQ(summary.HitRate(Tier::kCpu), 0.2);
  EXPECT_EQ(summary.evicted_blocks, (std::array<uint64_t, 3>{5, 1, 0}));
  EXPECT_DOUBLE_EQ(summary.busy_share, 8.0 / 30);
}

}  // namespace
}  // namespace conductor::simulate
