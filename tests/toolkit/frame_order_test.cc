#include "daemon/toolkit/frame_order.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/toolkit/source_frames.h"

namespace conductor::toolkit {
namespace {

class FrameOrderTest : public testing::Test {
 protected:
  // What is handed on for these frames and the end, as "sequence:payload".
  std::vector<std::string> Order(const std::vector<SourceFrame>& frames, bool live, bool whole) {
    std::vector<SourcePublisher> publishers = Publishers({"a"});
    publishers[0].has_live = live;
    publishers[0].has_whole_answer = whole;
    FrameOrder order(publishers);
    std::vector<std::string> handed_on;
    const auto out = [&](const SourceFrame& frame) {
      EXPECT_NE(frame.kind, SourceFrame::Kind::kAnswer);
      if (!frame.IsMessage()) return handed_on.emplace_back("mark"), void();
      EXPECT_EQ(frame.frames.size(), 3U);
      handed_on.push_back(std::to_string(frame.Sequence().value_or(99)) + ":" +
                          std::string(frame.Payload()));
    };
    for (const SourceFrame& frame : frames) order.Push(frame, out);
    order.Flush(out);
    return handed_on;
  }
};

using Handed = std::vector<std::string>;

TEST_F(FrameOrderTest, LiveMessagesAloneStayAsTheyAre) {
  EXPECT_EQ(Order({Live(3, "c"), Live(3, "c"), Live(1, "a")}, true, false),
            (Handed{"3:c", "3:c", "1:a"}));
}

TEST_F(FrameOrderTest, AnAnswerComesBeforeTheLiveMessagesAroundIt) {
  EXPECT_EQ(Order({Live(2, "c"), Answer(0, "a"), Live(3, "d"), Answer(1, "b"), EndOfAnswer(),
                   Live(4, "e")},
                  true, true),
            (Handed{"0:a", "1:b", "2:c", "3:d", "4:e"}));
}

TEST_F(FrameOrderTest, WhatTheAnswerHadIsLeftOutOfTheLiveMessages) {
  EXPECT_EQ(Order({Live(1, "b"), Answer(0, "a"), Answer(1, "b"), EndOfAnswer(), Live(2, "c")}, true,
                  true),
            (Handed{"0:a", "1:b", "2:c"}));
}

TEST_F(FrameOrderTest, ARestartUnderNumbersOfTheAnswerStays) {
  EXPECT_EQ(Order({Live(0, "new"), Answer(0, "a"), EndOfAnswer()}, true, true),
            (Handed{"0:a", "0:new"}));
}

TEST_F(FrameOrderTest, ASecondAnswerBesideLiveMessagesIsLeftOut) {
  EXPECT_EQ(Order({Answer(0, "a"), EndOfAnswer(), Live(1, "b"), Answer(0, "a"), EndOfAnswer()},
                  true, true),
            (Handed{"0:a", "1:b"}));
}

TEST_F(FrameOrderTest, AnAnswerWithoutItsEndHoldsNothingUp) {
  EXPECT_EQ(Order({Answer(0, "a"), Live(1, "b"), Live(2, "c")}, true, false),
            (Handed{"0:a", "1:b", "2:c"}));
}

TEST_F(FrameOrderTest, AnAnswerNeverGoesBack) {
  EXPECT_EQ(Order({Answer(0, "a"), Answer(1, "b"), Answer(0, ""), Answer(2, "c"), EndOfAnswer()},
                  false, true),
            (Handed{"0:a", "1:b", "2:c"}));
}

TEST_F(FrameOrderTest, MarksKeepTheirPlaceAmongLiveMessages) {
  EXPECT_EQ(Order({Mark(SourceFrame::Kind::kConnected), Live(1, "b"),
                   Mark(SourceFrame::Kind::kLost, 2), Answer(0, "a"), EndOfAnswer()},
                  true, true),
            (Handed{"0:a", "mark", "1:b", "mark"}));
}

}  // namespace
}  // namespace conductor::toolkit
