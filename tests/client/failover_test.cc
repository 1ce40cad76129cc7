#include "lib/client/failover.h"

#include <gtest/gtest.h>

namespace conductor::client {
namespace {

using namespace std::chrono_literals;

constexpr Failover::Options kOptions{.backoff_min = 100ms, .backoff_max = 1s};
const std::vector<size_t> kAll = {0, 1, 2};

class FailoverTest : public testing::Test {
 protected:
  // Chance says the longest back-off.
  Failover failover_{3, kOptions, [] { return 1.0; }};
  MonoTime now_;
};

TEST_F(FailoverTest, PrefersTheFirstThatIsWell) {
  EXPECT_EQ(failover_.Next(kAll, now_), 0U);
  failover_.Failed(0, now_);
  EXPECT_EQ(failover_.Next(kAll, now_), 1U);
  failover_.Failed(1, now_);
  EXPECT_EQ(failover_.Next(kAll, now_), 2U);
  failover_.Succeeded(0);
  EXPECT_EQ(failover_.Next(kAll, now_), 0U);
}

TEST_F(FailoverTest, OneThatFailedComesBackAfterAWhile) {
  failover_.Failed(0, now_);
  EXPECT_TRUE(failover_.IsLeftOut(0, now_ + 99ms));
  EXPECT_FALSE(failover_.IsLeftOut(0, now_ + 100ms));
}

TEST_F(FailoverTest, TheWhileDoublesWithEachFailureInARow) {
  for (const Duration wait : {100ms, 200ms, 400ms, 800ms, 1000ms, 1000ms}) {
    failover_.Failed(0, now_);
    EXPECT_TRUE(failover_.IsLeftOut(0, now_ + wait - 1ns));
    EXPECT_FALSE(failover_.IsLeftOut(0, now_ + wait));
  }
  for (int i = 0; i < 100; ++i) failover_.Failed(0, now_);
  EXPECT_FALSE(failover_.IsLeftOut(0, now_ + 1s));
  failover_.Succeeded(0);
  failover_.Failed(0, now_);
  EXPECT_FALSE(failover_.IsLeftOut(0, now_ + 100ms)) << "an answer makes it as good as before";
}

TEST_F(FailoverTest, JitterSpreadsItFromTheHalfToTheWhole) {
  Failover soon(1, kOptions, [] { return 0.0; });
  soon.Failed(0, now_);
  EXPECT_TRUE(soon.IsLeftOut(0, now_ + 49ms));
  EXPECT_FALSE(soon.IsLeftOut(0, now_ + 50ms));
}

TEST_F(FailoverTest, WhereAllAreLeftOutTheFirstToComeBackIsAsked) {
  failover_.Failed(0, now_);
  failover_.Failed(0, now_);
  failover_.Failed(1, now_ + 10ms);
  failover_.Failed(2, now_ + 20ms);
  EXPECT_EQ(failover_.Next(kAll, now_ + 30ms), 1U);
  EXPECT_EQ(failover_.Next({0, 2}, now_ + 30ms), 2U);
  EXPECT_EQ(failover_.Next({}, now_), std::nullopt);
}

}  // namespace
}  // namespace conductor::client
