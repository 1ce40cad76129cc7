#include "lib/index/score.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <vector>

namespace conductor::index {
namespace {

constexpr uint64_t kPrompt = 1000;

ScoreInput Holds(uint64_t gpu, uint64_t cpu, uint64_t disk) {
  return {.gpu = gpu, .cpu = cpu, .disk = disk};
}

ScoreInput Held(uint64_t gpu, std::optional<double> waiting) {
  return {.gpu = gpu, .cpu = gpu, .disk = gpu, .waiting = waiting};
}

std::vector<size_t> Order(const std::vector<ScoreInput>& inputs, uint64_t rotation = 0) {
  std::vector<size_t> order;
  for (const Score& score : Rank(inputs, kPrompt, {}, rotation)) order.push_back(score.input);
  return order;
}

using Indices = std::vector<size_t>;

TEST(Score, WhoeverSavesMoreIsBetter) {
  EXPECT_EQ(Order({Held(0, {}), Held(640, {}), Held(320, {})}), (Indices{1, 2, 0}));
}

TEST(Score, ATokenOnALowerTierIsWorthLess) {
  EXPECT_EQ(Order({Holds(0, 0, 640), Holds(0, 640, 640), Holds(640, 640, 640)}),
            (Indices{2, 1, 0}));
  EXPECT_EQ(Order({Holds(100, 100, 100), Holds(0, 640, 640)}), (Indices{1, 0}));
}

TEST(Score, TellsItsParts) {
  ScoreInput input{.gpu = 100, .cpu = 300, .disk = 700, .trust = FigureTrust::kDoubtful};
  input.waiting = 3;
  input.kv_use = 0.5;
  ScoreInput idle;
  idle.waiting = 1;
  idle.kv_use = 0.25;
  const ScoreWeights weights{
      .gpu = 1, .cpu = 0.5, .disk = 0.25, .waiting = 0.3, .kv = 0.4, .doubtful = 0.5};
  const std::vector<Score> scores = Rank(std::vector{input, idle}, kPrompt, weights);
  const Score& score = scores[0].input == 0 ? scores[0] : scores[1];
  EXPECT_DOUBLE_EQ(score.saved_gpu, 100);
  EXPECT_DOUBLE_EQ(score.saved_cpu, 100);
  EXPECT_DOUBLE_EQ(score.saved_disk, 100);
  EXPECT_DOUBLE_EQ(score.trust, 0.5);
  EXPECT_DOUBLE_EQ(score.queue, 0.3 * 1000 * (3 - 1) / (1 + 2));
  EXPECT_DOUBLE_EQ(score.memory, 0.4 * 1000 * (0.5 - 0.25));
  EXPECT_DOUBLE_EQ(score.total, 0.5 * 300 - score.queue - score.memory);
}

TEST(Score, WhatNobodyHoldsGoesToTheLeastLoaded) {
  EXPECT_EQ(Order({Held(0, 5), Held(0, 2), Held(0, 9)}), (Indices{1, 0, 2}));
  ScoreInput full;
  full.kv_use = 0.9;
  ScoreInput empty;
  empty.kv_use = 0.1;
  EXPECT_EQ(Order({full, empty}), (Indices{1, 0}));
}

TEST(Score, AQueueOutweighsAHitInTheEnd) {
  EXPECT_EQ(Order({Held(640, 1), Held(0, 0)}), (Indices{0, 1}));
  EXPECT_EQ(Order({Held(640, 20), Held(0, 0)}), (Indices{1, 0}));
}

TEST(Score, ALoadThatIsTheSameEverywhereChangesNothing) {
  const auto with = Rank(std::vector{Held(320, 7), Held(640, 7)}, kPrompt, {});
  const auto without = Rank(std::vector{Held(320, {}), Held(640, {})}, kPrompt, {});
  for (size_t i = 0; i < 2; ++i) EXPECT_DOUBLE_EQ(with[i].total, without[i].total);
}

TEST(Score, AnUnknownLoadIsTakenForTheMean) {
  EXPECT_EQ(Order({Held(0, 9), Held(0, {}), Held(0, 1)}), (Indices{2, 1, 0}));
}

TEST(Score, FiguresThatMayBeTooHighCountLess) {
  ScoreInput doubtful = Held(640, {});
  doubtful.trust = FigureTrust::kDoubtful;
  ScoreInput stale = Held(640, {});
  stale.trust = FigureTrust::kStale;
  EXPECT_EQ(Order({stale, doubtful, Held(400, {})}), (Indices{2, 1, 0}));
}

TEST(Score, EqualOnesTakeTurns) {
  const std::vector<ScoreInput> inputs = {Held(0, 1), Held(0, 0), Held(0, 0), Held(0, 0)};
  EXPECT_EQ(Order(inputs, 0), (Indices{1, 2, 3, 0}));
  EXPECT_EQ(Order(inputs, 1), (Indices{2, 3, 1, 0}));
  EXPECT_EQ(Order(inputs, 2), (Indices{3, 1, 2, 0}));
  EXPECT_EQ(Order(inputs, 3), (Indices{1, 2, 3, 0}));
}

TEST(Score, OfEqualOnesThoseOfTheBestTrustTakeTurns) {
  std::vector<ScoreInput> inputs = {Held(0, {}), Held(0, {}), Held(0, {}), Held(0, {})};
  inputs[0].trust = FigureTrust::kStale;
  inputs[2].trust = FigureTrust::kDoubtful;
  EXPECT_EQ(Order(inputs, 0), (Indices{1, 3, 2, 0}));
  EXPECT_EQ(Order(inputs, 1), (Indices{3, 1, 2, 0}));
  EXPECT_EQ(Order(inputs, 2), (Indices{1, 3, 2, 0}));
}

TEST(Score, NothingToRankIsNothing) {
  EXPECT_TRUE(Rank({}, kPrompt, {}).empty());
  const auto empty_prompt = Rank(std::vector{Held(0, 3), Held(0, 1)}, 0, {});
  EXPECT_EQ(empty_prompt.front().input, 1U);
  for (const Score& score : empty_prompt) EXPECT_TRUE(std::isfinite(score.total));
}

}  // namespace
}  // namespace conductor::index
