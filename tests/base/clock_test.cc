#include "lib/base/clock.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <chrono>

namespace conductor {
namespace {

using std::chrono::hours;
using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::nanoseconds;
using std::chrono::seconds;

TEST(Duration, ReadsANumberAndAUnit) {
  const struct {
    const char* text;
    Duration duration;
  } cases[] = {
      {"100us", microseconds(100)},
      {"500ms", milliseconds(500)},
      {"5s", seconds(5)},
      {"15m", minutes(15)},
      {"1h", hours(1)},
      {"1.5s", milliseconds(1500)},
      {"0s", seconds(0)},
      {"0.25m", seconds(15)},
      {"8760h", hours(8760)},
  };
  for (const auto& [text, duration] : cases) {
    const auto parsed = ParseDuration(text);
    ASSERT_TRUE(parsed) << text;
    EXPECT_EQ(*parsed, duration) << text;
  }
}

TEST(Duration, RefusesWhatIsNoTimeAndSaysWhatIs) {
  for (const char* text : {"", "5", "s", "-1s", "5 s", "5S", "5d", "5sec", "1e400s", "nans", "infs",
                           "8761h", "0x5s", "5s "}) {
    const auto parsed = ParseDuration(text);
    ASSERT_FALSE(parsed) << text;
    EXPECT_EQ(
        parsed.error().Message(),
        fmt::format("'{}' is not a time (expected a number and a unit: 500ms, 5s, 15m)", text));
  }
}

TEST(Duration, IsWrittenInTheLargestUnitThatFits) {
  EXPECT_EQ(FormatDuration(seconds(0)), "0s");
  EXPECT_EQ(FormatDuration(microseconds(1)), "1us");
  EXPECT_EQ(FormatDuration(milliseconds(1500)), "1500ms");
  EXPECT_EQ(FormatDuration(seconds(90)), "90s");
  EXPECT_EQ(FormatDuration(minutes(15)), "15m");
  EXPECT_EQ(FormatDuration(hours(24)), "24h");
}

TEST(Duration, IsRoundedToMicroseconds) {
  EXPECT_EQ(FormatDuration(nanoseconds(1400)), "1us");
  EXPECT_EQ(FormatDuration(nanoseconds(1600)), "2us");
}

TEST(Duration, WhatIsWrittenReadsAsTheSame) {
  for (const Duration duration : {Duration(seconds(0)), Duration(microseconds(1234567)),
                                  Duration(milliseconds(10)), Duration(minutes(61))}) {
    const auto parsed = ParseDuration(FormatDuration(duration));
    ASSERT_TRUE(parsed);
    EXPECT_EQ(*parsed, duration);
  }
}

}  // namespace
}  // namespace conductor
