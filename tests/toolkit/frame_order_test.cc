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
  std::vector<std::string> Order(const std::vector<SourceFrame>& frames,
                                 size_t most_waiting = FrameOrder::kMostWaiting) {
    using Kind = SourceFrame::Kind;
    std::vector<SourcePublisher> publishers = Publishers({"a"});
    for (const SourceFrame& frame : frames) {
      publishers[0].has_answers = publishers[0].has_answers || frame.kind == Kind::kAnswer;
      const auto message = frame.Message();
      const bool ends = frame.kind == Kind::kAnswerEnd || (message && message->replay_end);
      publishers[0].answer_ends += ends ? 1 : 0;
    }
    FrameOrder order(publishers, most_waiting);
    std::vector<std::string> handed_on;
    const auto out = [&](const SourceFrame& frame) {
      if (!frame.IsMessage()) {
        EXPECT_NE(frame.kind, Kind::kAnswerEnd);
        EXPECT_NE(frame.kind, Kind::kStopped);
        handed_on.emplace_back("mark");
        return;
      }
      EXPECT_EQ(frame.kind, Kind::kLive);
      const auto message = frame.Message();
      handed_on.push_back(message ? std::to_string(message->sequence) + ":" +
                                        std::string(message->payload)
                                  : message.error().what);
    };
    for (const SourceFrame& frame : frames) order.Push(frame, out);
    order.Flush(out);
    notes_ = order.Notes();
    return handed_on;
  }

  std::vector<std::string> notes_;
};

using Handed = std::vector<std::string>;

TEST_F(FrameOrderTest, LiveMessagesAloneStayAsTheyAre) {
  EXPECT_EQ(Order({Live(3, "c"), Live(3, "c"), Live(1, "a")}), (Handed{"3:c", "3:c", "1:a"}));
}

TEST_F(FrameOrderTest, AnAnswerComesBeforeTheLiveMessagesAroundIt) {
  EXPECT_EQ(Order({Live(2, "c"), Answer(0, "a"), Live(3, "d"), Answer(1, "b"), EndOfAnswer(),
                   Live(4, "e")}),
            (Handed{"0:a", "1:b", "2:c", "3:d", "4:e"}));
}

TEST_F(FrameOrderTest, WhatTheAnswerHadIsLeftOutOfTheLiveMessages) {
  EXPECT_EQ(Order({Live(1, "b"), Answer(0, "a"), Answer(1, "b"), EndOfAnswer(), Live(2, "c")}),
            (Handed{"0:a", "1:b", "2:c"}));
}

TEST_F(FrameOrderTest, ARestartUnderNumbersOfTheAnswerStays) {
  EXPECT_EQ(Order({Live(5, "e"), Live(0, "new"), Answer(0, "a"), Answer(5, "e"), Answer(6, "f"),
                   EndOfAnswer()}),
            (Handed{"0:a", "5:e", "6:f", "0:new"}));
}

TEST_F(FrameOrderTest, AnAnswerToAnEngineThatStartedAnewIsReadToo) {
  std::vector<SourceFrame> frames;
  Handed expected;
  const auto add = [&](SourceFrame frame) {
    const auto message = frame.Message();
    expected.push_back(std::to_string(message->sequence) + ":" + std::string(message->payload));
    frames.push_back(std::move(frame));
  };
  const auto name = [](const char* life, uint64_t i) { return life + std::to_string(i); };
  for (uint64_t i = 0; i < 50; ++i) add(Answer(i, name("old", i)));
  frames.push_back(Mark(SourceFrame::Kind::kAnswerEnd));
  for (uint64_t i = 50; i < 60; ++i) add(Live(i, name("old", i)));
  frames.push_back(Mark(SourceFrame::Kind::kStopped));
  for (uint64_t i = 0; i < 31; ++i) add(Answer(i, name("new", i)));
  frames.push_back(Mark(SourceFrame::Kind::kAnswerEnd));
  for (uint64_t i = 31; i < 35; ++i) add(Live(i, name("new", i)));
  EXPECT_EQ(Order(frames), expected);
  EXPECT_TRUE(notes_.empty());
}

TEST_F(FrameOrderTest, ALaterAnswerFillsAHole) {
  EXPECT_EQ(Order({Live(0, "a"), Live(1, "b"), Live(4, "e"), Live(5, "f"), Answer(1, "b"),
                   Answer(2, "c"), Answer(3, "d"), EndOfAnswer(), Live(6, "g")}),
            (Handed{"0:a", "1:b", "2:c", "3:d", "4:e", "5:f", "6:g"}));
  EXPECT_EQ(notes_, (std::vector<std::string>{
                        "a: 1 message in an answer of its replay endpoint too, and read once"}));
}

TEST_F(FrameOrderTest, WhatTheAnswerLeavesOutComesInItsPlace) {
  EXPECT_EQ(Order({Live(1, "b"), Live(3, "d"), Answer(0, "a"), Answer(2, "c"), Answer(4, "e"),
                   EndOfAnswer()}),
            (Handed{"0:a", "1:b", "2:c", "3:d", "4:e"}));
}

TEST_F(FrameOrderTest, NothingWaitsForAnAnswerThatTheRecorderDidNotSeeTheEndOf) {
  EXPECT_EQ(Order({Live(7, "h"), Mark(SourceFrame::Kind::kStopped), Answer(0, "a"), EndOfAnswer()}),
            (Handed{"7:h", "0:a"}));
}

TEST_F(FrameOrderTest, WhatComesLiveTwiceDidSo) {
  EXPECT_EQ(Order({Answer(0, "a"), EndOfAnswer(), Live(1, "b"), Live(1, "b")}),
            (Handed{"0:a", "1:b", "1:b"}));
}

TEST_F(FrameOrderTest, WhatWaitsIsBounded) {
  EXPECT_EQ(Order({Live(1, std::string(1000, 'b')), Live(2, std::string(1000, 'c')), Live(4, "e"),
                   Answer(0, "a"), EndOfAnswer()},
                  2000),
            (Handed{"1:" + std::string(1000, 'b'), "2:" + std::string(1000, 'c'), "4:e", "0:a"}));
  EXPECT_EQ(notes_.size(), 1U);
}

TEST_F(FrameOrderTest, WhatIsNoMessageStaysForWhoeverCountsIt) {
  SourceFrame odd = Answer(0, "a");
  odd.frames = {"", "short", "a"};
  EXPECT_EQ(Order({odd, Answer(0, "a"), EndOfAnswer()}), (Handed{"a sequence of 5 bytes", "0:a"}));
}

TEST_F(FrameOrderTest, ASecondAnswerBesideLiveMessagesIsLeftOut) {
  EXPECT_EQ(Order({Answer(0, "a"), EndOfAnswer(), Live(1, "b"), Answer(0, "a"), EndOfAnswer()}),
            (Handed{"0:a", "1:b"}));
}

TEST_F(FrameOrderTest, AnAnswerWithoutItsEndHoldsNothingUp) {
  EXPECT_EQ(Order({Answer(0, "a"), Live(1, "b"), Live(2, "c")}), (Handed{"0:a", "1:b", "2:c"}));
}

TEST_F(FrameOrderTest, AnAnswerNeverGoesBack) {
  EXPECT_EQ(Order({Answer(0, "a"), Answer(1, "b"), Answer(0, ""), Answer(2, "c"), EndOfAnswer()}),
            (Handed{"0:a", "1:b", "2:c"}));
  EXPECT_EQ(notes_.size(), 1U);
}

TEST_F(FrameOrderTest, MarksKeepTheirPlaceAmongLiveMessages) {
  EXPECT_EQ(Order({Mark(SourceFrame::Kind::kConnected), Live(1, "b"),
                   Mark(SourceFrame::Kind::kLost, 2), Answer(0, "a"), EndOfAnswer()}),
            (Handed{"mark", "0:a", "1:b", "mark"}));
}

}  // namespace
}  // namespace conductor::toolkit
