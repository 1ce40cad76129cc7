#include "daemon/toolkit/sequence_watch.h"

#include <gtest/gtest.h>

namespace conductor::toolkit {
namespace {

using Kind = SequenceWatch::Kind;

TEST(SequenceWatch, TheFirstMessageIsNoGapWhateverItsNumber) {
  SequenceWatch watch;
  EXPECT_FALSE(watch.last());
  EXPECT_EQ(watch.Judge(41, "a", 1).kind, Kind::kNext);
  EXPECT_EQ(watch.Judge(42, "b", 2).kind, Kind::kNext);
  EXPECT_EQ(watch.last(), 42u);
}

TEST(SequenceWatch, ANumberAboveTheNextIsAGap) {
  SequenceWatch watch;
  (void)watch.Judge(0, "a", 1);
  const auto verdict = watch.Judge(5, "b", 2);
  EXPECT_EQ(verdict.kind, Kind::kGap);
  EXPECT_EQ(verdict.missing, 4u);
  EXPECT_EQ(verdict.expected, 1u);
  EXPECT_EQ(watch.Judge(6, "c", 3).kind, Kind::kNext);
}

TEST(SequenceWatch, TheSameMessageAgainIsADuplicate) {
  SequenceWatch watch;
  (void)watch.Judge(0, "a", 1);
  (void)watch.Judge(1, "b", 2);
  EXPECT_TRUE(watch.Knows(0, "a"));
  EXPECT_FALSE(watch.Knows(0, "b"));
  EXPECT_FALSE(watch.Knows(2, "c"));
  EXPECT_EQ(watch.Judge(0, "a", 1).kind, Kind::kDuplicate);
  EXPECT_EQ(watch.Judge(1, "b", 2).kind, Kind::kDuplicate);
  EXPECT_EQ(watch.last(), 1u);
}

TEST(SequenceWatch, TheSameNumberWithAnotherPayloadIsARestart) {
  SequenceWatch watch;
  (void)watch.Judge(0, "a", 1);
  (void)watch.Judge(1, "b", 2);
  const auto verdict = watch.Judge(0, "other", 3);
  EXPECT_EQ(verdict.kind, Kind::kRestart);
  EXPECT_EQ(verdict.expected, 2u);
  EXPECT_EQ(watch.last(), 0u);
  // Nothing of the old life is known any more.
  EXPECT_EQ(watch.Judge(1, "b", 2).kind, Kind::kNext);
}

TEST(SequenceWatch, AMissingNumberInAReplayIsToldFromARestartByItsTime) {
  SequenceWatch watch;
  (void)watch.Judge(0, "a", 10);
  (void)watch.Judge(3, "d", 13);
  EXPECT_EQ(watch.Judge(1, "late", 11, true).kind, Kind::kLate);
  EXPECT_EQ(watch.last(), 3u);
  EXPECT_EQ(watch.Judge(1, "new", 14, true).kind, Kind::kRestart);
}

TEST(SequenceWatch, ANumberThatNeverCameIsARestartWhateverItsTime) {
  SequenceWatch joined;
  for (uint64_t number = 575; number <= 678; ++number) (void)joined.Judge(number, "a", 100);
  const auto verdict = joined.Judge(0, "b", 50);
  EXPECT_EQ(verdict.kind, Kind::kRestart);
  EXPECT_EQ(verdict.expected, 679u);
  EXPECT_EQ(joined.Judge(1, "c", 50).kind, Kind::kNext);
  SequenceWatch with_gap;
  (void)with_gap.Judge(0, "a", 10);
  (void)with_gap.Judge(3, "d", 13);
  EXPECT_EQ(with_gap.Judge(1, "b", 11).kind, Kind::kRestart);
}

TEST(SequenceWatch, WhatIsForgottenIsADuplicateByItsTime) {
  SequenceWatch watch;
  for (uint64_t number = 10; number < 6000; ++number) {
    (void)watch.Judge(number, "a", static_cast<double>(number));
  }
  EXPECT_EQ(watch.Judge(10, "a", 10).kind, Kind::kDuplicate);
  EXPECT_EQ(watch.Judge(5500, "other", 10).kind, Kind::kRestart) << "it is remembered";
}

TEST(SequenceWatch, WithoutATimeALowerNumberIsARestart) {
  SequenceWatch watch;
  (void)watch.Judge(5, "junk", {});
  EXPECT_EQ(watch.Judge(0, "more junk", {}).kind, Kind::kRestart);
}

TEST(SequenceWatch, TheHighestNumberIsOne) {
  SequenceWatch watch;
  EXPECT_EQ(watch.Judge(UINT64_MAX, "a", 1).kind, Kind::kNext);
  EXPECT_EQ(watch.Judge(0, "b", 2).kind, Kind::kRestart);
}

}  // namespace
}  // namespace conductor::toolkit
