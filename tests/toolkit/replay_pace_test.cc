#include "daemon/toolkit/replay_pace.h"

#include <gtest/gtest.h>

#include <chrono>
#include <vector>

#include "daemon/toolkit/frame_order.h"
#include "tests/toolkit/source_frames.h"

namespace conductor::toolkit {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

SourceFrame LiveAt(double at) {
  SourceFrame frame = Live(0, Payload({}, 5));
  frame.at = at;
  return frame;
}

// As FrameOrder hands it on.
SourceFrame AnsweredAt(double at, double stamped) {
  SourceFrame frame = LiveAt(at);
  frame.answered = true;
  frame.frames.back() = Payload({}, stamped);
  return frame;
}

TEST(PublishedAt, OfALiveMessageIsItsReceipt) { EXPECT_EQ(PublishedAt(LiveAt(1000)), 1000); }

TEST(PublishedAt, OfAnAnswerIsItsBatchsOwnTime) {
  EXPECT_EQ(PublishedAt(AnsweredAt(1000, 400)), 400);
}

TEST(PublishedAt, ATimeThatCannotBeIsNone) {
  const double now = 1.7e9;
  EXPECT_EQ(PublishedAt(AnsweredAt(now, now + 1)), now) << "a clock that is ahead";
  EXPECT_EQ(PublishedAt(AnsweredAt(now, 12345)), now) << "seconds since the machine began";
  SourceFrame no_batch = AnsweredAt(now, 1);
  no_batch.frames.back() = "what";
  EXPECT_EQ(PublishedAt(no_batch), now);
}

TEST(Pace, IsThatOfTheSourceTimesTheSpeed) {
  Pace pace(2);
  EXPECT_EQ(pace.Due(LiveAt(1000)), seconds(0));
  EXPECT_EQ(pace.Due(LiveAt(1001)), milliseconds(500));
  EXPECT_EQ(pace.Due(LiveAt(1010)), seconds(5));
}

TEST(Pace, AsFastAsItGoesWaitsForNothing) {
  Pace pace(0);
  EXPECT_EQ(pace.Due(LiveAt(1000)), seconds(0));
  EXPECT_EQ(pace.Due(LiveAt(2000)), seconds(0));
}

TEST(Pace, NothingIsDueBeforeWhatIsInFrontOfIt) {
  Pace pace(1);
  EXPECT_EQ(pace.Due(LiveAt(1000)), seconds(0));
  EXPECT_EQ(pace.Due(LiveAt(1002)), seconds(2));
  EXPECT_EQ(pace.Due(LiveAt(900)), seconds(2));
  EXPECT_EQ(pace.Due(LiveAt(1003)), seconds(3));
}

// A connection is made when the ring is recorded, which is after all that is in it.
TEST(Pace, OnlyMessagesBeginIt) {
  Pace pace(1);
  SourceFrame connected = Mark(SourceFrame::Kind::kConnected);
  EXPECT_EQ(pace.Due(connected), seconds(0));
  EXPECT_EQ(pace.Due(AnsweredAt(1000, 400)), seconds(0));
  EXPECT_EQ(pace.Due(AnsweredAt(1000, 407)), seconds(7));
  EXPECT_EQ(pace.Due(connected), seconds(7));
}

TEST(Pace, ARecordedRingAndWhatCameLiveBehindItHaveOneTime) {
  auto publishers = Publishers({"p"});
  publishers[0].has_answers = true;
  publishers[0].answer_ends = 1;
  FrameOrder order(publishers);
  Pace pace(1);
  std::vector<Duration> due;
  const auto out = [&](const SourceFrame& frame) { due.push_back(pace.Due(frame)); };
  SourceFrame live = Live(2, Payload({}, 1002));
  order.Push(live, out);  // received at 1002
  order.Push(Answer(0, Payload({}, 990)), out);
  order.Push(Answer(1, Payload({}, 994)), out);
  order.Push(EndOfAnswer(), out);
  EXPECT_EQ(due, (std::vector<Duration>{seconds(0), seconds(4), seconds(12)}));
}

}  // namespace
}  // namespace conductor::toolkit
