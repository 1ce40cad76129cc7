#include "lib/simulate/simulation.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "made_trace.h"

namespace conductor::simulate {
namespace {

using std::chrono::milliseconds;

// A token takes a millisecond in prefill and ten in decoding.
FleetModel Slow() {
  FleetModel fleet;
  fleet.engines = 1;
  fleet.block_size = 4;
  fleet.blocks = {64, 0, 0};
  fleet.prefill_speed = 1000;
  fleet.prefill_overhead = {};
  fleet.decode_speed = 100;
  fleet.load = {Duration{}, milliseconds(1), milliseconds(2)};
  return fleet;
}

trace::TraceRequest Request(uint64_t line, int arrival_ms, uint32_t output,
                            std::vector<uint64_t> ids) {
  return {.line = line,
          .arrival = milliseconds(arrival_ms),
          .input = static_cast<uint32_t>(4 * ids.size()),
          .output = output,
          .id_block = 4,
          .hash_ids = std::move(ids)};
}

Outcome Serve(std::vector<trace::TraceRequest> requests, const FleetModel& fleet,
              const RoutingOptions& routing = {.policy = Policy::kRoundRobin}) {
  const auto trace = Prepare(std::move(requests), fleet, 1);
  EXPECT_TRUE(trace) << trace.error().Message();
  auto outcome = Simulate(*trace, fleet, routing);
  EXPECT_TRUE(outcome) << outcome.error().Message();
  return outcome ? *std::move(outcome) : Outcome{};
}

std::vector<trace::TraceRequest> Chats(uint32_t requests = 200) {
  return trace::MakeTrace({.workload = {.seed = 2, .conversations = 40, .turns = 8},
                           .requests = requests,
                           .id_block = 16,
                           .requests_per_second = 20});
}

TEST(Simulation, TimesOfTwoRequestsAreAsByHand) {
  const Outcome outcome = Serve({Request(1, 100, 3, {1, 2}), Request(2, 101, 0, {1, 3})}, Slow());
  const RequestRecord& first = outcome.requests[0];
  EXPECT_EQ(first.arrival, milliseconds(0));
  EXPECT_EQ(first.start, milliseconds(0));
  EXPECT_EQ(first.first_token, milliseconds(8));
  EXPECT_EQ(first.end, milliseconds(28));
  EXPECT_EQ(first.computed, 8u);
  // Waits for the first one's prefill, and finds its first block.
  const RequestRecord& second = outcome.requests[1];
  EXPECT_EQ(second.start, milliseconds(8));
  EXPECT_EQ(second.hits[0], 4u);
  EXPECT_EQ(second.computed, 4u);
  EXPECT_EQ(second.first_token, milliseconds(12));
  EXPECT_EQ(second.end, milliseconds(12));
  EXPECT_EQ(outcome.wall, milliseconds(28));
  EXPECT_EQ(outcome.ranks[0].busy, milliseconds(12));
  const Summary summary = Summarize(Slow(), outcome);
  EXPECT_DOUBLE_EQ(summary.queueing.max, 0.007);
  EXPECT_DOUBLE_EQ(summary.ttft.max, 0.011);
  EXPECT_DOUBLE_EQ(summary.HitRate(), 0.25);
}

TEST(Simulation, AFullBatchHoldsTheNextRequestBack) {
  FleetModel fleet = Slow();
  fleet.max_batch = 1;
  const Outcome outcome = Serve({Request(1, 0, 3, {1, 2}), Request(2, 1, 0, {1, 3})}, fleet);
  EXPECT_EQ(outcome.requests[1].start, milliseconds(28));
}

TEST(Simulation, ADeviceWithoutRoomHoldsTheNextRequestBack) {
  FleetModel fleet = Slow();
  fleet.blocks = {4, 0, 0};  // the first takes three, of which they share one
  const auto requests = [] {
    return std::vector{Request(1, 0, 3, {1, 2}), Request(2, 1, 0, {1, 3})};
  };
  EXPECT_EQ(Serve(requests(), fleet).requests[1].start, milliseconds(8));
  fleet.blocks = {3, 0, 0};
  EXPECT_EQ(Serve(requests(), fleet).requests[1].start, milliseconds(28));
}

TEST(Simulation, ALoadFromTheHostTakesItsTimeAndCountsForItsTier) {
  FleetModel fleet = Slow();
  fleet.blocks = {2, 2, 0};
  const Outcome outcome = Serve(
      {Request(1, 0, 0, {1, 2}), Request(2, 50, 0, {5, 6}), Request(3, 100, 0, {1, 2})}, fleet);
  // The last block is computed again, for its last token's output.
  EXPECT_EQ(outcome.requests[2].hits, (std::array<uint64_t, 3>{0, 4, 0}));
  EXPECT_EQ(outcome.requests[2].first_token - outcome.requests[2].start, milliseconds(5));
  const auto& tiers = outcome.ranks[0].tiers;
  EXPECT_EQ(tiers[0].stored, 6u);
  EXPECT_EQ(tiers[0].evicted, 4u);
  EXPECT_EQ(tiers[0].held, 2u);
  EXPECT_EQ(tiers[1].stored, 4u);
  EXPECT_EQ(tiers[1].moved_up, 1u);
  EXPECT_EQ(tiers[1].evicted, 1u);
  EXPECT_EQ(tiers[1].held, 2u);
}

TEST(Simulation, RoundRobinTakesEnginesInTurn) {
  FleetModel fleet = Slow();
  fleet.engines = 2;
  fleet.ranks = 2;
  const Outcome outcome =
      Serve({Request(1, 0, 0, {1}), Request(2, 0, 0, {1}), Request(3, 0, 0, {1}),
             Request(4, 0, 0, {1}), Request(5, 0, 0, {1})},
            fleet);
  std::vector<std::pair<uint32_t, uint32_t>> sent;
  for (const RequestRecord& request : outcome.requests) {
    const Target target = TargetOf(fleet, request.target);
    sent.emplace_back(target.engine, target.rank);
  }
  EXPECT_EQ(sent,
            (std::vector<std::pair<uint32_t, uint32_t>>{{0, 0}, {1, 0}, {0, 1}, {1, 1}, {0, 0}}));
}

TEST(Simulation, LeastLoadedAvoidsWhoeverIsBusy) {
  FleetModel fleet = Slow();
  fleet.engines = 2;
  const Outcome outcome =
      Serve({Request(1, 0, 100, {1, 2, 3, 4}), Request(2, 1, 0, {9}), Request(3, 10, 0, {9})},
            fleet, {.policy = Policy::kLeastLoaded});
  EXPECT_NE(outcome.requests[1].target, outcome.requests[0].target);
  EXPECT_EQ(outcome.requests[2].target, outcome.requests[1].target);
}

TEST(Simulation, CacheAwarePoliciesFindMoreThanRoundRobin) {
  FleetModel fleet;
  fleet.engines = 6;
  fleet.blocks = {400, 0, 0};
  std::vector<double> rates;
  for (const Policy policy : kPolicies) {
    rates.push_back(Summarize(fleet, Serve(Chats(), fleet, {.policy = policy})).HitRate());
  }
  EXPECT_GT(rates[2], rates[0] + 0.1);  // longest-prefix
  EXPECT_GT(rates[3], rates[0] + 0.1);  // score
}

TEST(Simulation, TheSameSeedGivesTheSameRun) {
  FleetModel fleet;
  fleet.engines = 4;
  fleet.blocks = {300, 300, 300};
  const auto targets = [&](Policy policy, uint64_t seed) {
    std::vector<std::pair<size_t, Duration>> course;
    for (const auto& request : Serve(Chats(), fleet, {.policy = policy, .seed = seed}).requests) {
      course.emplace_back(request.target, request.end);
    }
    return course;
  };
  for (const Policy policy : kPolicies) {
    EXPECT_EQ(targets(policy, 7), targets(policy, 7)) << PolicyName(policy);
  }
  EXPECT_NE(targets(Policy::kScore, 7), targets(Policy::kScore, 8));
}

// Simulate() checks them itself; here it has a lot to get wrong.
TEST(Simulation, WhatMustBeConservedIsInFleetsOfManyShapes) {
  for (const uint32_t blocks : {60u, 150u, 1000u}) {
    for (const uint32_t lower : {0u, 20u, 300u}) {
      for (const Duration delay : {Duration{}, Duration{milliseconds(700)}}) {
        FleetModel fleet;
        fleet.engines = 3;
        fleet.ranks = 2;
        fleet.blocks = {blocks, lower, 2 * lower};
        fleet.max_batch = 4;
        for (const Policy policy : {Policy::kLongestPrefix, Policy::kScore}) {
          const Outcome outcome =
              Serve(Chats(150), fleet, {.policy = policy, .event_delay = delay});
          EXPECT_EQ(outcome.requests.size() + Prepare(Chats(150), fleet, 1)->refused.size(), 150u);
        }
      }
    }
  }
}

TEST(Simulation, ARouterThatHearsLateFindsLess) {
  FleetModel fleet;
  fleet.engines = 6;
  fleet.blocks = {4000, 0, 0};
  const auto rate = [&](Duration delay) {
    return Summarize(fleet, Serve(Chats(), fleet,
                                  {.policy = Policy::kLongestPrefix, .event_delay = delay}))
        .HitRate();
  };
  EXPECT_LT(rate(std::chrono::minutes(5)), rate(Duration{}));
}

TEST(PreparedTrace, RequestsThatNoRankHasRoomForAreRefused) {
  FleetModel fleet = Slow();
  fleet.blocks = {2, 0, 0};
  const auto trace = Prepare({Request(1, 0, 0, {1, 2}), Request(2, 5, 1, {1, 2})}, fleet, 1);
  ASSERT_TRUE(trace);
  EXPECT_EQ(trace->requests.size(), 1u);
  EXPECT_EQ(trace->refused, std::vector<uint64_t>{2});
  const auto none = Prepare({Request(2, 5, 1, {1, 2})}, fleet, 1);
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().Message(),
            "no request fits the device's blocks of a rank (expected at least 3 blocks on gpu for "
            "all of the trace)");
}

TEST(PreparedTrace, TimeIsCompressed) {
  const auto trace = Prepare({Request(1, 100, 0, {1}), Request(2, 500, 0, {1})}, Slow(), 4);
  EXPECT_EQ(trace->requests[0].arrival, milliseconds(0));
  EXPECT_EQ(trace->requests[1].arrival, milliseconds(100));
}

TEST(PreparedTrace, ARunOfAHundredYearsIsRefused) {
  FleetModel fleet = Slow();
  fleet.decode_speed = 1e-3;
  fleet.blocks = {1 << 28, 0, 0};
  std::vector<trace::TraceRequest> requests;
  for (int i = 0; i < 4; ++i) requests.push_back(Request(1, 0, trace::kMaxTraceTokens, {1}));
  EXPECT_FALSE(Prepare(requests, fleet, 1));
  EXPECT_FALSE(Prepare({Request(1, 0, 0, {1}), Request(1, 1000, 0, {1})}, fleet, 1e-12));
}

}  // namespace
}  // namespace conductor::simulate
