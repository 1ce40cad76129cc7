#include "daemon/serve/churn.h"

#include <gtest/gtest.h>

namespace conductor::serve {
namespace {

using namespace std::chrono_literals;

constexpr MonoTime kBegin{1000s};

TEST(Churn, IsARateOverTheWindow) {
  Churn churn(kBegin);
  // 10 blocks a second for five minutes, then none for one.
  for (int i = 1; i <= 60; ++i) churn.Look(kBegin + i * 5s, {uint64_t(i) * 50, uint64_t(i) * 10});
  EXPECT_EQ(churn.Over(1min, kBegin + 300s, {3000, 600}).stored, 10);
  EXPECT_EQ(churn.Over(5min, kBegin + 300s, {3000, 600}).removed, 2);
  for (int i = 61; i <= 72; ++i) churn.Look(kBegin + i * 5s, {3000, 600});
  EXPECT_EQ(churn.Over(1min, kBegin + 360s, {3000, 600}).stored, 0);
  EXPECT_EQ(churn.Over(5min, kBegin + 360s, {3000, 600}).stored, 8);
}

TEST(Churn, OfAYoungPublisherIsOverItsLife) {
  const Churn churn(kBegin);
  EXPECT_EQ(churn.Over(1min, kBegin + 10s, {50, 0}).stored, 5);
  EXPECT_EQ(churn.Over(5min, kBegin + 10s, {50, 0}).stored, 5);
}

TEST(Churn, IsOverASecondAtLeast) {
  const Churn churn(kBegin);
  EXPECT_EQ(churn.Over(1min, kBegin, {50, 7}).stored, 50);
  EXPECT_EQ(churn.Over(1min, kBegin + 1ms, {50, 7}).removed, 7);
}

TEST(Churn, BetweenTwoLooksTheEarlierOneCounts) {
  Churn churn(kBegin);
  churn.Look(kBegin + 5s, {100, 0});
  churn.Look(kBegin + 10s, {200, 0});
  // A minute before is between the beginning and the first look.
  EXPECT_EQ(churn.Over(1min, kBegin + 64s, {640, 0}).stored, 10);
}

}  // namespace
}  // namespace conductor::serve
