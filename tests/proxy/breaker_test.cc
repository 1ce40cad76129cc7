#include "daemon/proxy/breaker.h"

#include <gtest/gtest.h>

namespace conductor::proxy {
namespace {

using std::chrono::seconds;
using State = Breaker::State;

constexpr Breaker::Options kOptions{.failures = 2, .pause = seconds(5), .max_pause = seconds(12)};

class BreakerTest : public testing::Test {
 protected:
  void Fail() { breaker_.Failed(now_, breaker_.Begin(now_)); }
  void Open() {
    Fail();
    Fail();
  }

  MonoTime now_{seconds(100)};
  Breaker breaker_{kOptions};
};

TEST_F(BreakerTest, FailuresInARowOpenIt) {
  Fail();
  EXPECT_EQ(breaker_.state(now_), State::kClosed);
  breaker_.Succeeded();
  Fail();
  EXPECT_TRUE(breaker_.Admits(now_));
  Fail();
  EXPECT_EQ(breaker_.state(now_), State::kOpen);
  EXPECT_FALSE(breaker_.Admits(now_));
  EXPECT_EQ(breaker_.Left(now_), seconds(5));
}

TEST_F(BreakerTest, AfterThePauseOneProbeGoesThere) {
  Open();
  now_ += seconds(5);
  EXPECT_EQ(breaker_.state(now_), State::kHalfOpen);
  EXPECT_TRUE(breaker_.Admits(now_));
  EXPECT_TRUE(breaker_.Begin(now_));
  EXPECT_FALSE(breaker_.Admits(now_));
  breaker_.Succeeded();
  EXPECT_EQ(breaker_.state(now_), State::kClosed);
  EXPECT_FALSE(breaker_.Begin(now_));
}

TEST_F(BreakerTest, AProbeThatFailsDoublesThePauseUpToALimit) {
  Open();
  for (const int pause : {10, 12, 12}) {
    now_ += breaker_.Left(now_);
    Fail();
    EXPECT_EQ(breaker_.Left(now_), seconds(pause));
  }
}

TEST_F(BreakerTest, AProbeOfWhichNothingWasLearntMakesRoomForAnother) {
  Open();
  now_ += seconds(5);
  breaker_.Undecided(breaker_.Begin(now_));
  EXPECT_TRUE(breaker_.Admits(now_));
  EXPECT_EQ(breaker_.state(now_), State::kHalfOpen);
}

TEST_F(BreakerTest, OneThatWasOnItsWayWhenItOpenedSaysNothingNew) {
  Open();
  now_ += seconds(4);
  breaker_.Failed(now_, false);
  EXPECT_EQ(breaker_.Left(now_), seconds(1));
}

}  // namespace
}  // namespace conductor::proxy
