#include "lib/stream/publisher_stream.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <string>
#include <vector>

#include "stream_fixture.h"

namespace conductor::stream {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;
using Payloads = std::vector<std::string>;
using Sequences = std::vector<uint64_t>;

class WithReplay : public testing::Test, public StreamUnderTest {
 protected:
  WithReplay() : StreamUnderTest({.has_replay = true}) {}
  ~WithReplay() override {
    EXPECT_FALSE(consumer.misuse);
    EXPECT_FALSE(outbox.misuse);
  }
  // Live, with a0 a1 a2 applied and the first probe answered.
  void Settled() {
    Connect();
    Replayed(0, "a0");
    Replayed(1, "a1");
    Replayed(2, "a2");
    End();
    Pass(seconds(1));
    Replayed(2, "a2");
    End();
    ASSERT_EQ(State(), "live");
    ASSERT_FALSE(outbox.open);
    outbox.asked.clear();
  }
};

class WithoutReplay : public testing::Test, public StreamUnderTest {
 protected:
  WithoutReplay() : StreamUnderTest({}) {}
};

// First contact.

TEST_F(WithReplay, IsConnectingUntilHeardOf) {
  EXPECT_EQ(State(), "connecting not_connected");
  stream->ConnectFailed(now, "unreachable", "nothing listens on tcp://engine:5557");
  EXPECT_EQ(State(), "connecting unreachable");
  EXPECT_EQ(stream->trust().detail, "nothing listens on tcp://engine:5557");
  Connect();
  EXPECT_EQ(State(), "connecting no_events_yet");
  EXPECT_NE(stream->trust().detail.find("tcp://engine:5558"), std::string::npos);
}

TEST_F(WithReplay, FirstContactReplaysFromZeroHiddenAndThenAllAtOnce) {
  Connect();
  EXPECT_EQ(outbox.asked, Sequences{0});
  Replayed(0, "a0");
  Replayed(1, "a1");
  EXPECT_EQ(State(), "replaying");
  EXPECT_TRUE(consumer.visible.empty());
  EXPECT_EQ(consumer.hidden, (Payloads{"a0", "a1"}));
  End();
  EXPECT_EQ(consumer.visible, (Payloads{"a0", "a1"}));
  EXPECT_EQ(State(), "live");
  EXPECT_EQ(Counters().cursor, 1u);
  EXPECT_EQ(Counters().lives, 1u);
}

TEST_F(WithReplay, TheNewerReplyFormWithATopicIsReadTheSame) {
  Connect();
  const auto zero = StoreBigEndian64(0);
  const auto end = StoreBigEndian64(kEnd);
  const std::array<std::string_view, 4> batch = {"", "topic", {zero.data(), 8}, "a0"};
  const std::array<std::string_view, 4> marker = {"", "", {end.data(), 8}, ""};
  stream->ReplayMessage(now, *outbox.open, batch);
  stream->ReplayMessage(now, *outbox.open, marker);
  EXPECT_EQ(consumer.visible, Payloads{"a0"});
  EXPECT_EQ(State(), "live");
}

TEST_F(WithReplay, LiveFramesWaitInOrderForTheFirstReplayAndOverlapOnce) {
  Connect();
  Live(1, "a1");
  Live(2, "a2");
  Replayed(0, "a0");
  Live(3, "a3");
  Replayed(1, "a1");
  EXPECT_TRUE(consumer.visible.empty());
  End();
  EXPECT_EQ(consumer.visible, (Payloads{"a0", "a1", "a2", "a3"}));
  EXPECT_EQ(State(), "live");
  EXPECT_EQ(Counters().duplicates, 1u);
}

TEST_F(WithReplay, ALiveRemovalDuringTheReplayIsAppliedAfterTheStoreThatItRemoves) {
  Connect();
  Live(1, "remove X");
  Replayed(0, "store X");
  End();
  EXPECT_EQ(consumer.visible, (Payloads{"store X", "remove X"}));
}

TEST_F(WithReplay, AnEngineThatHoldsNothingAndSaysSoIsLive) {
  Connect();
  End();
  EXPECT_EQ(State(), "live");
  Live(0, "a0");
  EXPECT_EQ(State(), "live");
  EXPECT_EQ(consumer.visible, Payloads{"a0"});
}

TEST_F(WithReplay, ARingThatStartsLaterIsCommittedIncomplete) {
  Connect();
  Replayed(7, "a7");
  Replayed(8, "a8");
  End();
  EXPECT_EQ(consumer.visible, (Payloads{"a7", "a8"}));
  EXPECT_EQ(State(), "degraded incomplete");
  Pass(seconds(60));
  EXPECT_EQ(Counters().replays, 1u) << "the ring is known to start later: no second replay";
}

TEST_F(WithReplay, AFirstReplayWithoutAnswerGivesWayToLiveFramesAndIsTriedAgain) {
  Connect();
  Live(4, "a4");
  Pass(seconds(4));
  EXPECT_TRUE(consumer.visible.empty());
  Pass(milliseconds(1100));
  EXPECT_EQ(consumer.visible, Payloads{"a4"});
  EXPECT_EQ(State(), "degraded incomplete");
  EXPECT_EQ(Counters().replays_failed, 1u);
  Pass(milliseconds(600));
  ASSERT_TRUE(outbox.open) << "asked again after the shortest back-off";
  Live(5, "a5");
  EXPECT_EQ(consumer.visible, (Payloads{"a4", "a5"})) << "a retry does not hold live frames up";
  EXPECT_EQ(State(), "degraded incomplete");
  for (uint64_t i = 0; i < 5; ++i) Replayed(i, Batch('a', i));
  EXPECT_EQ(consumer.visible, (Payloads{"a4", "a5"}));
  Live(6, "a6");
  End();
  EXPECT_EQ(consumer.visible, (Payloads{"a0", "a1", "a2", "a3", "a4", "a5", "a6"}));
  EXPECT_EQ(State(), "live");
  EXPECT_EQ(Counters().duplicates, 0u);
}

TEST_F(WithReplay, AFirstReplayWithoutAnswerIsNoHarmWhereTheFirstFrameIsSeen) {
  Connect();
  Live(0, "a0");
  Pass(seconds(6));
  EXPECT_EQ(consumer.visible, Payloads{"a0"});
  EXPECT_EQ(State(), "live");
}

TEST_F(WithReplay, RetriesBackOffWithJitterAndStayBelowFiveSeconds) {
  Connect();
  Pass(minutes(5));
  // 5 s of waiting and at most 4 s of back-off each.
  EXPECT_GE(outbox.asked.size(), 33u);
  EXPECT_LE(outbox.asked.size(), 50u);
  StreamUnderTest other({.has_replay = true, .jitter_seed = 99});
  other.Connect();
  other.Pass(seconds(6));
  Pass(seconds(6));
  EXPECT_NE(stream->NextDeadline(), other.stream->NextDeadline());
}

TEST_F(WithReplay, ARetryDoesNotTradeALongerHistoryForAShorterRing) {
  Connect();
  Live(4, "a4");
  Pass(milliseconds(5700));
  ASSERT_TRUE(outbox.open);
  Live(5, "a5");
  Replayed(5, "a5");
  EXPECT_FALSE(outbox.open);
  EXPECT_EQ(consumer.visible, (Payloads{"a4", "a5"}));
  EXPECT_EQ(State(), "degraded incomplete");
  Live(6, "a6");
  EXPECT_EQ(consumer.visible, (Payloads{"a4", "a5", "a6"}));
}

TEST_F(WithReplay, AReplayThatKnowsNothingOfWhatWasSentDoesNotPretendToBeLive) {
  Connect();
  End();
  Live(5, "a5");
  End();
  End();
  EXPECT_EQ(consumer.visible, Payloads{"a5"});
  EXPECT_EQ(State(), "degraded incomplete");
  for (int i = 0; i < 10; ++i) {
    Pass(seconds(5));
    End();
  }
  EXPECT_EQ(consumer.visible, Payloads{"a5"});
  EXPECT_EQ(State(), "degraded incomplete");
}

// Gaps.

TEST_F(WithReplay, AGapIsReplayedFromTheCursorInclusive) {
  Settled();
  Live(5, "a5");
  EXPECT_EQ(State(), "replaying");
  EXPECT_EQ(outbox.asked, Sequences{2});
  Replayed(2, "a2");
  Replayed(3, "a3");
  Live(6, "a6");
  Replayed(4, "a4");
  Replayed(5, "a5");
  End();
  EXPECT_EQ(consumer.visible, (Payloads{"a0", "a1", "a2", "a3", "a4", "a5", "a6"}));
  EXPECT_EQ(State(), "live");
  EXPECT_EQ(Counters().gaps, 1u);
  EXPECT_EQ(Counters().gaps_healed, 1u);
}

TEST_F(WithReplay, AGapThatTheRingNoLongerCoversIsDoubtful) {
  Settled();
  Live(9, "a9");
  Replayed(8, "a8");
  Replayed(9, "a9");
  End();
  EXPECT_EQ(State(), "degraded doubtful");
  EXPECT_EQ(consumer.visible, (Payloads{"a0", "a1", "a2", "a8", "a9"}));
  EXPECT_EQ(Counters().gaps_partial, 1u);
  EXPECT_EQ(Counters().replays, 2u);
}

TEST_F(WithReplay, ARingThatStartsRightAfterTheCursorLostNothing) {
  Settled();
  Live(4, "a4");
  Replayed(3, "a3");
  Replayed(4, "a4");
  End();
  EXPECT_EQ(State(), "live");
  EXPECT_EQ(Counters().gaps_healed, 1u);
}

TEST_F(WithReplay, AHoleThatLostOnlyStoresIsIncomplete) {
  Settled();
  Live(3, "clear");
  Live(9, "a9");
  Replayed(8, "a8");
  End();
  EXPECT_EQ(State(), "degraded incomplete");
}

TEST_F(WithReplay, AHoleIsAskedAgainAsLongAsAnswersMoveTheCursor) {
  Settled();
  Live(9, "a9");
  Replayed(2, "a2");
  Replayed(3, "a3");
  End();  // truncated
  ASSERT_TRUE(outbox.open);
  Replayed(3, "a3");
  Replayed(4, "a4");
  End();
  ASSERT_TRUE(outbox.open);
  Replayed(4, "a4");
  for (uint64_t i = 5; i <= 9; ++i) Replayed(i, Batch('a', i));
  End();
  EXPECT_EQ(outbox.asked, (Sequences{2, 3, 4}));
  EXPECT_EQ(State(), "live");
  EXPECT_EQ(consumer.visible.size(), 10u);
  EXPECT_EQ(Counters().gaps, 1u);
  EXPECT_EQ(Counters().gaps_healed, 1u);
}

TEST_F(WithReplay, TheSameHoleTwiceIsPermanent) {
  Settled();
  Live(4, "a4");
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(outbox.open);
    Replayed(2, "a2");
    Replayed(4, "a4");
  }
  End();
  EXPECT_EQ(outbox.asked, (Sequences{2, 2}));
  EXPECT_EQ(State(), "degraded doubtful");
  EXPECT_EQ(consumer.visible, (Payloads{"a0", "a1", "a2", "a4"}));
  EXPECT_EQ(Counters().gaps_partial, 1u);
  Live(5, "a5");
  EXPECT_EQ(consumer.visible.back(), "a5");
  EXPECT_FALSE(outbox.open);
}

TEST_F(WithReplay, AHoleInsideTheFirstReplayIsAskedAgainAndThenDoubtful) {
  Connect();
  Replayed(0, "a0");
  Replayed(2, "a2");
  EXPECT_EQ(outbox.asked, (Sequences{0, 0}));
  Replayed(0, "a0");
  Replayed(2, "a2");
  Replayed(3, "a3");
  End();
  EXPECT_EQ(consumer.visible, (Payloads{"a0", "a2", "a3"}));
  EXPECT_EQ(consumer.commits, 1);
  EXPECT_EQ(State(), "degraded doubtful");
}

TEST_F(WithReplay, AGapWithoutAnswerIsDoubtfulAndHealsByAFullReplay) {
  Settled();
  Live(5, "a5");
  Pass(milliseconds(5010));
  EXPECT_EQ(State(), "degraded doubtful");
  EXPECT_EQ(consumer.visible, (Payloads{"a0", "a1", "a2", "a5"}));
  EXPECT_EQ(Counters().gaps_lost, 1u);
  Pass(milliseconds(500));
  ASSERT_TRUE(outbox.open);
  EXPECT_EQ(outbox.asked.back(), 0u);
  EXPECT_EQ(State(), "degraded doubtful") << "what is visible may still be too high";
  for (uint64_t i = 0; i <= 5; ++i) Replayed(i, Batch('a', i));
  End();
  EXPECT_EQ(State(), "live");
  EXPECT_EQ(consumer.visible, (Payloads{"a0", "a1", "a2", "a3", "a4", "a5"}));
}

TEST_F(WithReplay, AQueueThatOverflowsIsDroppedAndHealsByAnotherReplay) {
  options.max_pending_bytes = 400;
  stream.emplace(options, consumer, outbox);
  Connect();
  for (uint64_t i = 3; i < 20; ++i) Live(i, Batch('a', i));
  EXPECT_GT(Counters().pending_dropped, 0u);
  for (uint64_t i = 0; i < 3; ++i) Replayed(i, Batch('a', i));
  End();
  EXPECT_EQ(State(), "replaying");
  ASSERT_EQ(outbox.asked, (Sequences{0, 2}));
  for (uint64_t i = 2; i < 20; ++i) Replayed(i, Batch('a', i));
  End();
  EXPECT_EQ(consumer.visible.size(), 20u);
  EXPECT_EQ(State(), "live");
}

TEST_F(WithoutReplay, AGapIsDoubtful) {
  Connect();
  Live(0, "a0");
  Live(2, "a2");
  EXPECT_EQ(State(), "degraded doubtful");
  EXPECT_EQ(consumer.visible, (Payloads{"a0", "a2"}));
  EXPECT_EQ(Counters().gaps, 1u);
  EXPECT_EQ(Counters().gaps_lost, 1u);
}

TEST_F(WithoutReplay, OneThatWasLostIsToldByItsNumber) {
  Connect();
  Live(0, "a0");
  Live(2, "a2");
  EXPECT_TRUE(
      stream->trust().detail.starts_with("sequence 1 of tcp://engine:5557 was lost and it "))
      << stream->trust().detail;
}

TEST_F(WithoutReplay, SeveralThatWereLostAreToldByTheirNumbers) {
  Connect();
  Live(0, "a0");
  Live(3, "a3");
  EXPECT_TRUE(stream->trust().detail.starts_with("sequences 1 to 2 of tcp://engine:5557 were lost"))
      << stream->trust().detail;
}

// The exits of degraded.

TEST_F(WithoutReplay, ABatchThatLeavesNothingEndsDoubt) {
  Connect();
  Live(0, "a0");
  Live(2, "a2");
  Live(3, "clear");
  EXPECT_EQ(State(), "live");
}

TEST_F(WithoutReplay, ANewLifeFromItsFirstSequenceEndsDoubt) {
  Connect();
  Live(0, "a0");
  Live(2, "a2");
  Live(0, "b0");
  EXPECT_EQ(State(), "live");
  EXPECT_EQ(consumer.visible, Payloads{"b0"});
  EXPECT_EQ(Counters().lives, 2u);
}

TEST_F(WithoutReplay, DoubtfulHoldingsAreDroppedAfterTheGrace) {
  Connect();
  Live(0, "a0");
  Live(2, "a2");
  Pass(minutes(14));
  EXPECT_EQ(State(), "degraded doubtful");
  Pass(minutes(2));
  EXPECT_EQ(State(), "degraded incomplete");
  EXPECT_TRUE(consumer.visible.empty());
  EXPECT_EQ(Counters().lives, 1u);
  Live(3, "a3");
  EXPECT_EQ(consumer.visible, Payloads{"a3"});
  EXPECT_EQ(State(), "degraded incomplete");
}

// Batches of which something could not be used.

TEST_F(WithoutReplay, LostRemovalsAreDoubtfulAndToldWithTheirBatch) {
  Connect();
  Live(0, "lost removals");
  EXPECT_EQ(State(), "degraded doubtful");
  EXPECT_EQ(stream->trust().detail,
            "removals may be lost with what could not be used of sequence 0 of tcp://engine:5557: "
            "an event that nobody can read. Clearing the engine's cache ends it");
  EXPECT_EQ(Counters().lossy_batches, 1u);
}

TEST_F(WithoutReplay, LostStoresAreIncompleteAndToldWithTheirBatch) {
  Connect();
  Live(0, "a0");
  Live(1, "lost stores");
  EXPECT_EQ(State(), "degraded incomplete");
  EXPECT_EQ(stream->trust().detail,
            "stored blocks are missing from sequence 1 of tcp://engine:5557: an event that nobody "
            "can read. Clearing the engine's cache ends it");
  EXPECT_EQ(Counters().lossy_batches, 1u);
}

TEST_F(WithoutReplay, StoresThatAreLostAgainAndAgainAreToldOnce) {
  Connect();
  for (uint64_t sequence = 0; sequence < 100; ++sequence) {
    Live(sequence, sequence % 2 == 0 ? "lost stores" : "good");
  }
  EXPECT_EQ(State(), "degraded incomplete");
  EXPECT_EQ(Counters().lossy_batches, 50u);
  EXPECT_EQ(std::ranges::count(consumer.told, TrustState::kDegraded, &Trust::state), 1);
  EXPECT_EQ(consumer.told.back().state, TrustState::kDegraded);
}

TEST_F(WithoutReplay, LostRemovalsAreWorseThanLostStores) {
  Connect();
  Live(0, "lost stores");
  Live(1, "lost removals");
  EXPECT_EQ(State(), "degraded doubtful");
  Live(2, "lost stores");
  EXPECT_EQ(State(), "degraded doubtful");
}

TEST_F(WithoutReplay, HoldingNothingEndsWhatWasLostBeforeAndNotWhatIsLostWithIt) {
  struct Case {
    const char* before;
    const char* clearing;
    const char* state;
  };
  const Case cases[] = {
      {"lost stores", "clear", "live"},
      {"lost removals", "clear", "live"},
      {"lost removals", "clear, lost stores", "degraded incomplete"},
      {"lost removals", "clear, lost removals", "degraded doubtful"},
      {"good", "clear, lost stores", "degraded incomplete"},
      {"good", "clear, lost removals", "degraded doubtful"},
  };
  Connect();
  uint64_t sequence = 0;
  for (const Case& test : cases) {
    Live(sequence++, test.before);
    Live(sequence++, test.clearing);
    EXPECT_EQ(State(), test.state) << test.before << "; " << test.clearing;
    Live(sequence++, "clear");
    EXPECT_EQ(State(), "live");
  }
}

TEST_F(WithReplay, WhatIsLostInAReplayCountsForTheSetThatItBuilds) {
  Connect();
  Replayed(0, "lost stores");
  Replayed(1, "a1");
  End();
  EXPECT_EQ(State(), "degraded incomplete");
}

TEST_F(WithReplay, WhyARequestCouldNotBeMadeIsToldUntilOneIsAnswered) {
  Connect();
  stream->ReplayLost(now, *outbox.open, "cannot resolve host 'engine'");
  EXPECT_TRUE(stream->trust().detail.ends_with("Also: cannot resolve host 'engine'"))
      << stream->trust().detail;
  Pass(seconds(1));
  End();
  EXPECT_EQ(State(), "live");
  EXPECT_EQ(stream->trust().detail, "");
  Reconnect();
  EXPECT_EQ(stream->trust().detail.find("resolve"), std::string::npos);
}

// First contact without replay.

TEST_F(WithoutReplay, AnEngineSeenFromItsFirstFrameIsLive) {
  Connect();
  EXPECT_EQ(State(), "connecting no_events_yet");
  Live(0, "a0");
  EXPECT_EQ(State(), "live");
  Pass(hours(1));
  EXPECT_EQ(State(), "live") << "an idle engine is silent and exact";
  EXPECT_TRUE(outbox.asked.empty());
}

TEST_F(WithoutReplay, AnEngineMetLateIsIncomplete) {
  Connect();
  Live(17, "a17");
  EXPECT_EQ(State(), "degraded incomplete");
  EXPECT_NE(stream->trust().detail.find("sequence 17"), std::string::npos);
}

TEST(FirstSequence, OfAMooncakeMasterIsOne) {
  StreamUnderTest master({.first_sequence = 1});
  master.Connect();
  master.Live(1, "m1");
  EXPECT_EQ(master.State(), "live");
  StreamUnderTest with_replay({.has_replay = true, .first_sequence = 1});
  with_replay.Connect();
  with_replay.Replayed(1, "m1");
  with_replay.End();
  EXPECT_EQ(with_replay.State(), "live");
}

// Duplicates, late frames, restarts.

TEST_F(WithReplay, ADuplicateIsIgnored) {
  Settled();
  Live(1, "a1");
  Live(2, "a2");
  EXPECT_EQ(consumer.visible.size(), 3u);
  EXPECT_EQ(Counters().duplicates, 2u);
  EXPECT_EQ(State(), "live");
}

TEST(DigestWindow, FramesOlderThanTheWindowAreJudgedByTheirTime) {
  StreamUnderTest test({.digest_window = 2});
  test.Connect();
  for (uint64_t i = 0; i < 6; ++i) test.Live(i, std::to_string(100 + i));
  test.Live(1, "101");
  EXPECT_EQ(test.Counters().late, 1u);
  EXPECT_EQ(test.Counters().lives, 1u);
  test.Live(0, "200");
  EXPECT_EQ(test.Counters().lives, 2u);
  EXPECT_EQ(test.consumer.visible, Payloads{"200"});
  EXPECT_EQ(test.State(), "live");
}

TEST(DigestWindow, FramesOlderThanTheWindowAfterAReconnectAreANewLife) {
  StreamUnderTest test({.digest_window = 2});
  test.Connect();
  for (uint64_t i = 0; i < 6; ++i) test.Live(i, Batch('n', i));
  test.Reconnect();
  test.Live(0, "no time either");
  EXPECT_EQ(test.consumer.visible, Payloads{"no time either"});
  EXPECT_EQ(test.State(), "live");
}

TEST(DigestWindow, AFrameThatFillsAPassedHoleIsLate) {
  StreamUnderTest test({});
  test.Connect();
  test.Live(0, "1");
  test.Live(2, "3");
  test.Live(1, "2");
  EXPECT_EQ(test.Counters().late, 1u);
  EXPECT_EQ(test.consumer.visible, (Payloads{"1", "3"}));
}

// A restart in place, seen only by its numbers.
class RestartAt : public testing::TestWithParam<uint64_t> {};

TEST_P(RestartAt, WithReplayDropsTheOldLifeAndReplaysTheNewOne) {
  StreamUnderTest test({.has_replay = true});
  test.Connect();
  for (uint64_t i = 0; i < 5; ++i) test.Replayed(i, Batch('a', i));
  test.End();
  const uint64_t reached = GetParam();
  test.Live(reached, Batch('b', reached));
  if (reached > 5) {
    EXPECT_EQ(test.outbox.asked.back(), 4u);
    test.Replayed(4, "b4");
  }
  EXPECT_EQ(test.outbox.asked.back(), 0u);
  EXPECT_TRUE(test.consumer.visible.empty()) << "nothing of the old life survives";
  EXPECT_EQ(test.State(), "replaying");
  Payloads expected;
  for (uint64_t i = 0; i <= reached; ++i) {
    expected.push_back(Batch('b', i));
    test.Replayed(i, expected.back());
  }
  test.End();
  EXPECT_EQ(test.consumer.visible, expected);
  EXPECT_EQ(test.State(), "live");
  EXPECT_EQ(test.Counters().lives, 2u);
}

TEST_P(RestartAt, WithoutReplayIsNeverLiveUnlessSeenFromItsStart) {
  StreamUnderTest test({});
  test.Connect();
  for (uint64_t i = 0; i < 5; ++i) test.Live(i, Batch('a', i));
  const uint64_t reached = GetParam();
  test.Live(reached, Batch('b', reached));
  if (reached == 0) {
    EXPECT_EQ(test.State(), "live");
  } else if (reached <= 4) {
    EXPECT_EQ(test.State(), "degraded incomplete");
    EXPECT_EQ(test.consumer.visible.size(), 1u);
  } else {
    EXPECT_EQ(test.State(), "degraded doubtful");
  }
}

INSTANTIATE_TEST_SUITE_P(LowerEqualAndHigherThanTheCursor, RestartAt, testing::Values(0, 2, 4, 9));

TEST_F(WithReplay, AfterAReconnectTheSameDigestProvesTheSameLife) {
  Settled();
  Disconnect();
  EXPECT_EQ(State(), "stale unreachable");
  Connect();
  EXPECT_EQ(State(), "replaying");
  EXPECT_EQ(outbox.asked, Sequences{2});
  Replayed(2, "a2");
  Replayed(3, "a3");
  End();
  EXPECT_EQ(State(), "live");
  EXPECT_EQ(consumer.new_lives, 0);
  EXPECT_EQ(consumer.visible, (Payloads{"a0", "a1", "a2", "a3"}));
}

TEST_F(WithReplay, AfterAReconnectAnotherDigestIsANewLife) {
  Settled();
  Reconnect();
  Replayed(2, "b2");
  EXPECT_EQ(consumer.new_lives, 1);
  EXPECT_EQ(outbox.asked, (Sequences{2, 0}));
  Replayed(0, "b0");
  Replayed(1, "b1");
  Replayed(2, "b2");
  End();
  EXPECT_EQ(State(), "live");
  EXPECT_EQ(consumer.visible, (Payloads{"b0", "b1", "b2"}));
}

TEST_F(WithReplay, AfterAReconnectAnEndMarkerAloneIsANewLife) {
  Settled();
  Reconnect();
  End();
  EXPECT_EQ(consumer.new_lives, 1);
  EXPECT_TRUE(consumer.visible.empty());
  End();
  EXPECT_EQ(State(), "live");
}

TEST_F(WithReplay, AfterAReconnectARingThatStartsLaterIsDoubtfulEvenWithoutAHole) {
  Settled();
  Reconnect();
  Replayed(3, "a3");
  End();
  EXPECT_EQ(State(), "degraded doubtful");
}

TEST_F(WithReplay, AfterAReconnectLiveFramesWaitForTheProof) {
  Settled();
  Reconnect();
  Live(3, "b3");
  EXPECT_EQ(consumer.visible.size(), 3u);
  Replayed(2, "b2");
  for (uint64_t i = 0; i <= 3; ++i) Replayed(i, Batch('b', i));
  End();
  EXPECT_EQ(consumer.visible, (Payloads{"b0", "b1", "b2", "b3"}));
  EXPECT_EQ(State(), "live");
}

TEST_F(WithReplay, AReconnectWithoutAnswerIsDoubtfulUntilTheLifeIsProven) {
  Settled();
  Reconnect();
  Pass(milliseconds(5010));
  EXPECT_EQ(State(), "degraded doubtful");
  Pass(milliseconds(500));
  EXPECT_EQ(outbox.asked.back(), 2u);
  Replayed(2, "a2");
  End();
  EXPECT_EQ(State(), "live");
}

TEST_F(WithReplay, FramesAppliedOnAnUnprovenLifeNeedAFullReplay) {
  Settled();
  Reconnect();
  Live(3, "a3");
  Pass(milliseconds(5600));
  EXPECT_EQ(consumer.visible.size(), 4u);
  EXPECT_EQ(State(), "degraded doubtful");
  EXPECT_EQ(outbox.asked.back(), 0u);
  for (uint64_t i = 0; i <= 3; ++i) Replayed(i, Batch('a', i));
  End();
  EXPECT_EQ(State(), "live");
  EXPECT_EQ(consumer.visible.size(), 4u);
}

TEST_F(WithoutReplay, AfterAReconnectAnyNumberIsDoubtful) {
  Connect();
  Live(0, "a0");
  Disconnect();
  EXPECT_EQ(State(), "stale unreachable");
  Connect();
  EXPECT_EQ(State(), "degraded doubtful");
  Live(1, "a1");
  EXPECT_EQ(State(), "degraded doubtful");
  Live(2, "clear");
  EXPECT_EQ(State(), "live");
}

TEST_F(WithReplay, ADisconnectDuringTheFirstReplayStartsItAgain) {
  Connect();
  Replayed(0, "a0");
  const uint64_t old = *outbox.open;
  Reconnect();
  Replayed(1, "a1", old);
  EXPECT_TRUE(consumer.hidden.empty());
  Replayed(0, "b0");
  End();
  EXPECT_EQ(consumer.visible, Payloads{"b0"});
  EXPECT_EQ(State(), "live");
}

TEST_F(WithReplay, TwoRestartsWithinOneReplayEndAtTheLast) {
  Settled();
  Live(0, "b0");
  Replayed(0, "b0");
  Live(1, "b1");
  Live(0, "c0");
  End();
  EXPECT_EQ(State(), "replaying");
  Replayed(0, "c0");  // at the cursor, where b0 was
  Replayed(0, "c0");  // of the whole
  End();
  EXPECT_EQ(consumer.visible, Payloads{"c0"});
  EXPECT_EQ(State(), "live");
  EXPECT_EQ(Counters().lives, 3u);
}

TEST_F(WithReplay, WhatWaitedInAnOldLifeIsNotTakenForTheNextBatchOfTheNew) {
  Settled();
  Live(5, "a5");  // a gap
  Replayed(2, "b2");
  for (uint64_t i = 0; i < 5; ++i) Replayed(i, Batch('b', i));
  End();
  EXPECT_EQ(consumer.visible, (Payloads{"b0", "b1", "b2", "b3", "b4"}));
  EXPECT_EQ(State(), "live");
}

TEST_F(WithReplay, WaitingFramesThatGoBackAreAskedForInstead) {
  Connect();
  Live(1, "a1");
  Live(0, "b0");  // a restart, while life a's 1 would fit behind b0
  Replayed(0, "b0");
  End();
  EXPECT_EQ(consumer.visible, Payloads{"b0"});
  EXPECT_EQ(outbox.asked, (Sequences{0, 0}));
  Replayed(0, "b0");
  End();
  EXPECT_EQ(State(), "live");
  EXPECT_EQ(consumer.visible, Payloads{"b0"});
}

TEST_F(WithReplay, ARestartWhileAHoleIsAskedAgainStartsTheRebuildAnew) {
  Connect();
  Replayed(0, "a0");
  Replayed(2, "a2");  // a hole: asked again
  Replayed(0, "b0");
  EXPECT_EQ(consumer.new_lives, 1);
  Replayed(0, "b0");
  End();
  EXPECT_EQ(consumer.visible, Payloads{"b0"});
  EXPECT_EQ(State(), "live");
}

TEST_F(WithReplay, EnginesThatContradictEachOtherAreNotReplayedWithoutEnd) {
  Settled();
  for (uint64_t i = 0; i < 20; ++i) {
    if (!outbox.open) Live(0, Batch('x', i));
    if (!outbox.open) break;
    Replayed(0, Batch('y', i));
    End();
  }
  EXPECT_FALSE(outbox.open) << "the next attempt waits for its back-off";
  EXPECT_LE(outbox.asked.size(), 5u);
  EXPECT_EQ(State(), "degraded incomplete");
  EXPECT_NE(stream->trust().detail.find("share one of these addresses"), std::string::npos);
}

TEST_F(WithReplay, WhatIsClearedIsNotAskedForAgainAndTheLifeGoesOn) {
  Settled();
  const uint64_t cursor = *Counters().cursor;
  stream->Clear(now);
  EXPECT_TRUE(consumer.visible.empty());
  EXPECT_FALSE(outbox.open);
  EXPECT_EQ(State(), "degraded incomplete");
  Live(cursor + 1, "next");
  EXPECT_EQ(consumer.visible, Payloads{"next"});
  EXPECT_EQ(Counters().lives, 1u);
  EXPECT_EQ(State(), "degraded incomplete");
}

TEST_F(WithReplay, AClearInTheMiddleOfACatchUpLosesNothingThatComesAfterIt) {
  Settled();
  const uint64_t cursor = *Counters().cursor;
  Live(cursor + 2, "c");
  ASSERT_TRUE(outbox.open);
  stream->Clear(now);
  ASSERT_TRUE(outbox.open);
  EXPECT_EQ(outbox.asked.back(), cursor);
}

TEST_F(WithReplay, AResyncEndsWhatAClearLeft) {
  Settled();
  stream->Clear(now);
  stream->Resync(now);
  EXPECT_EQ(outbox.asked.back(), 0u);
  Replayed(0, "a0");
  End();
  EXPECT_EQ(consumer.visible, Payloads{"a0"});
  EXPECT_EQ(State(), "live");
}

TEST_F(WithoutReplay, AClearIsIncompleteUntilANewLife) {
  Connect();
  Live(0, "a0");
  stream->Clear(now);
  EXPECT_TRUE(consumer.visible.empty());
  EXPECT_EQ(State(), "degraded incomplete");
  Live(1, "a1");
  EXPECT_EQ(State(), "degraded incomplete");
  EXPECT_EQ(consumer.visible, Payloads{"a1"});
}

TEST_F(WithReplay, AnIncarnationFromElsewhereIsANewLifeAtOnce) {
  Settled();
  stream->NewIncarnation(now);
  EXPECT_TRUE(consumer.visible.empty());
  EXPECT_EQ(outbox.asked, Sequences{0});
  End();
  EXPECT_EQ(State(), "live");
}

TEST_F(WithReplay, AnIncarnationFromElsewhereDuringAReplayStartsItAgainFromNothing) {
  Connect();
  Replayed(0, "a0");
  Live(1, "a1");
  const uint64_t old = *outbox.open;
  stream->NewIncarnation(now);
  ASSERT_TRUE(outbox.open);
  EXPECT_NE(*outbox.open, old);
  Replayed(2, "a2", old);
  Replayed(0, "b0");
  End();
  EXPECT_EQ(consumer.visible, Payloads{"b0"});
  EXPECT_EQ(State(), "live");
}

TEST_F(WithReplay, AnIncarnationToldWhileItIsAwayOwnsNothingOfTheOldOne) {
  Settled();
  Disconnect();
  stream->NewIncarnation(now);
  EXPECT_TRUE(consumer.visible.empty());
  EXPECT_EQ(State(), "stale unreachable");
  Connect();
  EXPECT_EQ(outbox.asked.back(), 0u);
  Replayed(0, "b0");
  End();
  EXPECT_EQ(consumer.visible, Payloads{"b0"});
  EXPECT_EQ(State(), "live");
}

TEST_F(WithReplay, IncarnationsToldManyTimesContradictNobody) {
  Settled();
  for (int i = 0; i < 20; ++i) stream->NewIncarnation(now);
  ASSERT_TRUE(outbox.open);
  Replayed(0, "b0");
  End();
  EXPECT_EQ(consumer.visible, Payloads{"b0"});
  EXPECT_EQ(State(), "live");
  EXPECT_EQ(Counters().lives, 21u);
}

TEST_F(WithoutReplay, AnIncarnationFromElsewhereIsExactOnlyFromItsFirstSequence) {
  Connect();
  Live(0, "a0");
  stream->NewIncarnation(now);
  EXPECT_TRUE(consumer.visible.empty());
  Live(4, "b4");
  EXPECT_EQ(State(), "degraded incomplete");
  stream->NewIncarnation(now);
  Live(0, "c0");
  EXPECT_EQ(State(), "live");
  EXPECT_EQ(consumer.visible, Payloads{"c0"});
}

// Live messages that the transport had to drop.

TEST_F(WithReplay, DroppedLiveFramesAreAskedForAtOnce) {
  Settled();
  stream->LiveLost(now, 5);
  EXPECT_EQ(State(), "replaying");
  EXPECT_EQ(outbox.asked, Sequences{2});
  Replayed(2, "a2");
  Replayed(3, "a3");
  End();
  EXPECT_EQ(State(), "live");
  EXPECT_EQ(consumer.visible, (Payloads{"a0", "a1", "a2", "a3"}));
  EXPECT_EQ(Counters().pending_dropped, 5u);
}

TEST_F(WithReplay, LiveFramesDroppedDuringAReplayAreAskedForAtItsEnd) {
  Connect();
  Replayed(0, "a0");
  stream->LiveLost(now, 1);
  End();
  EXPECT_EQ(State(), "replaying") << "the answer may be older than what was dropped";
  EXPECT_EQ(outbox.asked, (Sequences{0, 0}));
  Replayed(0, "a0");
  Replayed(1, "a1");
  End();
  EXPECT_EQ(consumer.visible, (Payloads{"a0", "a1"}));
  EXPECT_EQ(State(), "live");
}

TEST_F(WithReplay, LiveFramesDroppedDuringAProbeAreAskedForAtOnce) {
  Settled();
  Pass(seconds(5));
  ASSERT_TRUE(outbox.open);
  const uint64_t probe = *outbox.open;
  stream->LiveLost(now, 1);
  EXPECT_NE(*outbox.open, probe);
  EXPECT_EQ(State(), "replaying");
}

TEST_F(WithReplay, LiveFramesDroppedWhileNoReplayIsAnsweredAreDoubtfulUntilOneIs) {
  Connect();
  Pass(seconds(6));
  Live(0, "a0");
  ASSERT_EQ(State(), "live");
  stream->LiveLost(now, 1);
  EXPECT_EQ(State(), "degraded doubtful");
  while (!outbox.open) Pass(milliseconds(10));
  Replayed(0, "a0");
  End();
  EXPECT_EQ(outbox.asked.back(), 0u) << "that answer may have been on its way when it was lost";
  Replayed(0, "a0");
  Replayed(1, "a1");
  End();
  EXPECT_EQ(consumer.visible, (Payloads{"a0", "a1"}));
  EXPECT_EQ(State(), "live");
}

TEST_F(WithoutReplay, DroppedLiveFramesAreDoubtful) {
  Connect();
  Live(0, "a0");
  stream->LiveLost(now, 2);
  EXPECT_EQ(State(), "degraded doubtful");
  EXPECT_NE(stream->trust().detail.find("2 messages"), std::string::npos);
  EXPECT_EQ(Counters().gaps_lost, 1u);
}

TEST_F(WithoutReplay, FramesDroppedOfALostConnectionAreTheReconnectsBusiness) {
  Connect();
  Live(0, "a0");
  Disconnect();
  stream->LiveLost(now, 2);
  EXPECT_EQ(State(), "stale unreachable");
  EXPECT_EQ(Counters().gaps, 0u);
}

// Publishers that cannot be told apart.

TEST_F(WithReplay, ASharedEndpointIsToldWhateverElseIsTrue) {
  stream->Shared(now, "two engines connect to tcp://*:5557 from 10.0.0.1");
  EXPECT_EQ(State(), "degraded shared_endpoint");
  stream->Shared(now, "");
  EXPECT_EQ(State(), "connecting not_connected");
  Settled();
  stream->Shared(now, "two engines connect to tcp://*:5557 from 10.0.0.1");
  EXPECT_EQ(State(), "degraded shared_endpoint");
  EXPECT_EQ(stream->trust().detail, "two engines connect to tcp://*:5557 from 10.0.0.1");
  stream->Shared(now, "");
  EXPECT_EQ(State(), "live");
}

// Replays that misbehave.

TEST_F(WithReplay, AnAnswerThatStallsIsAskedForTheRest) {
  Connect();
  Replayed(0, "a0");
  Replayed(1, "a1");
  Pass(milliseconds(5010));
  EXPECT_EQ(outbox.asked, (Sequences{0, 1}));
  EXPECT_EQ(consumer.abandons, 0);
  Replayed(1, "a1");
  Replayed(2, "a2");
  End();
  EXPECT_EQ(consumer.visible, (Payloads{"a0", "a1", "a2"}));
  EXPECT_EQ(State(), "live");
}

TEST_F(WithReplay, AMissingEndMarkerIsATimeLimitAndNotAnEnd) {
  Connect();
  Replayed(0, "a0");
  Pass(milliseconds(5010));
  Replayed(0, "a0");
  EXPECT_NE(State(), "live");
  Pass(milliseconds(5010));
  EXPECT_EQ(consumer.abandons, 1);
  EXPECT_EQ(State(), "degraded incomplete");
}

TEST_F(WithReplay, ASlowAnswerIsNotAStalledOne) {
  Connect();
  Pass(seconds(4));
  for (uint64_t i = 0; i < 10; ++i) {
    Replayed(i, Batch('a', i));
    Pass(milliseconds(1400));
  }
  End();
  EXPECT_EQ(consumer.visible.size(), 10u);
  EXPECT_EQ(Counters().replays, 1u);
}

TEST_F(WithReplay, AnAnswerThatStopsInTheMiddleIsAskedForAgainSoon) {
  Connect();
  Replayed(0, "a0");
  Replayed(1, "a1");
  Pass(milliseconds(1600));
  EXPECT_EQ(outbox.asked, (Sequences{0, 1}));
  Replayed(1, "a1");
  Replayed(2, "a2");
  End();
  EXPECT_EQ(consumer.visible, (Payloads{"a0", "a1", "a2"}));
  EXPECT_EQ(State(), "live");
}

TEST_F(WithReplay, AnAnswerThatRepeatsItselfMakesNoProgress) {
  Connect();
  Replayed(0, "a0");
  for (int i = 0; i < 3; ++i) {
    Pass(milliseconds(600));
    Replayed(0, "a0");
  }
  EXPECT_EQ(outbox.asked, (Sequences{0, 0}));
}

TEST_F(WithReplay, ALateAnswerToAClosedRequestIsIgnored) {
  Connect();
  const uint64_t first = *outbox.open;
  Pass(milliseconds(5600));
  ASSERT_TRUE(outbox.open);
  ASSERT_NE(*outbox.open, first);
  Replayed(0, "late", first);
  Replayed(kEnd, "", first);
  EXPECT_TRUE(consumer.visible.empty());
  EXPECT_EQ(State(), "connecting no_events_yet");
}

TEST_F(WithReplay, AnAnswerThatComesTwiceIsAppliedOnce) {
  Connect();
  const uint64_t first = *outbox.open;
  Replayed(0, "a0");
  End();
  Replayed(0, "a0", first);
  Replayed(kEnd, "", first);
  EXPECT_EQ(consumer.visible, Payloads{"a0"});
  EXPECT_EQ(consumer.commits, 1);
}

TEST_F(WithReplay, AnAnswerThatWasCutOffIsAskedForTheRestAtOnce) {
  Connect();
  Replayed(0, "a0");
  stream->ReplayLost(now, *outbox.open, "");
  EXPECT_EQ(outbox.asked, (Sequences{0, 0}));
}

// Silence.

TEST_F(WithReplay, TheFirstProbeFindsWhatASlowJoinerMissed) {
  Connect();
  Replayed(0, "a0");
  End();
  Pass(milliseconds(999));
  EXPECT_FALSE(outbox.open);
  Pass(milliseconds(1));
  EXPECT_EQ(outbox.asked, (Sequences{0, 0}));
  EXPECT_EQ(State(), "live") << "a probe is no reason for doubt";
  Replayed(0, "a0");
  Replayed(1, "a1");
  End();
  EXPECT_EQ(consumer.visible, (Payloads{"a0", "a1"}));
  EXPECT_EQ(Counters().probes, 1u);
}

TEST_F(WithReplay, ALostTailIsFoundByTheNextProbe) {
  Settled();
  Pass(seconds(5));
  ASSERT_TRUE(outbox.open);
  Replayed(2, "a2");
  Replayed(3, "a3");
  End();
  EXPECT_EQ(consumer.visible.back(), "a3");
  EXPECT_EQ(State(), "live");
}

TEST_F(WithReplay, ARestartInSilenceIsFoundByTheNextProbe) {
  Settled();
  Pass(seconds(5));
  End();
  EXPECT_EQ(consumer.new_lives, 1);
  End();
  EXPECT_EQ(State(), "live");
  EXPECT_TRUE(consumer.visible.empty());
}

TEST_F(WithReplay, AnIdleEngineStaysLiveForAnHour) {
  Settled();
  for (int i = 0; i < 3600; ++i) {
    Pass(seconds(1));
    if (!outbox.open) continue;
    ASSERT_EQ(State(), "live");
    Replayed(2, "a2");
    End();
    ASSERT_EQ(State(), "live");
  }
  EXPECT_GE(Counters().probes, 3600u / 6);
  EXPECT_EQ(consumer.visible.size(), 3u);
}

TEST_F(WithReplay, AnIdleEngineWithNothingStaysLiveWithoutBeingRebuilt) {
  Connect();
  End();
  const int commits = consumer.commits;
  for (int i = 0; i < 60; ++i) {
    Pass(seconds(1));
    if (outbox.open) End();
    ASSERT_EQ(State(), "live");
  }
  EXPECT_EQ(consumer.commits, commits);
}

TEST_F(WithReplay, ThreeUnansweredProbesAreStaleAndAnAnswerHeals) {
  Settled();
  Pass(seconds(25));
  EXPECT_EQ(State(), "live");
  Pass(seconds(6));
  EXPECT_EQ(State(), "stale no_answer");
  Pass(seconds(9));
  for (int i = 0; i < 10 && !outbox.open; ++i) Pass(seconds(1));
  Replayed(2, "a2");
  End();
  EXPECT_EQ(State(), "live");
}

TEST_F(WithReplay, AReplayEndpointThatNeverAnsweredIsSuspectedAndNotTheEngine) {
  Connect();
  Live(0, "a0");
  Pass(seconds(60));
  EXPECT_EQ(State(), "stale no_answer");
  EXPECT_NE(stream->trust().detail.find("has never answered"), std::string::npos)
      << stream->trust().detail;
}

TEST_F(WithReplay, ALiveFrameHealsStaleAndEndsAProbe) {
  Settled();
  Pass(seconds(40));
  ASSERT_EQ(State(), "stale no_answer");
  while (!outbox.open) Pass(milliseconds(100));
  Live(3, "a3");
  EXPECT_EQ(State(), "live");
  EXPECT_FALSE(outbox.open);
  EXPECT_EQ(consumer.visible.back(), "a3");
}

TEST_F(WithReplay, ABusyEngineIsNotProbed) {
  Settled();
  for (uint64_t i = 3; i < 100; ++i) {
    Pass(seconds(1));
    Live(i, Batch('a', i));
  }
  EXPECT_TRUE(outbox.asked.empty());
}

TEST_F(WithReplay, AnUnreachableEngineIsNotProbed) {
  Settled();
  Disconnect();
  Pass(minutes(1));
  EXPECT_TRUE(outbox.asked.empty());
  EXPECT_FALSE(stream->NextDeadline());
}

// Malformed input.

TEST_F(WithReplay, MalformedMessagesAreCountedToldAndIgnored) {
  Settled();
  const std::array<std::string_view, 1> one = {"x"};
  const std::array<std::string_view, 3> short_sequence = {"topic", "1234567", "payload"};
  const std::array<std::string_view, 4> four = {"a", "b", "c", "d"};
  stream->LiveMessage(now, one);
  EXPECT_NE(stream->trust().detail.find("a message of 1 frames"), std::string::npos);
  stream->LiveMessage(now, short_sequence);
  EXPECT_NE(stream->trust().detail.find("7 bytes instead of 8"), std::string::npos);
  stream->LiveMessage(now, four);
  stream->LiveMessage(now, {});
  Live(kEnd, "payload");
  EXPECT_EQ(Counters().malformed_frames, 5u);
  EXPECT_EQ(Counters().frames, 5u);
  EXPECT_EQ(State(), "live");
  EXPECT_EQ(consumer.visible.size(), 3u);
}

TEST_F(WithReplay, MalformedReplayMessagesAreNoProgress) {
  Connect();
  const std::array<std::string_view, 2> two = {"a", "b"};
  const std::array<std::string_view, 3> short_sequence = {"", "1234567", "payload"};
  for (int i = 0; i < 6; ++i) {
    if (outbox.open) stream->ReplayMessage(now, *outbox.open, two);
    if (outbox.open) stream->ReplayMessage(now, *outbox.open, short_sequence);
    if (outbox.open) Replayed(kEnd, "not empty");
    Pass(seconds(1));
  }
  EXPECT_EQ(Counters().replays_failed, 1u);
  EXPECT_GE(Counters().malformed_frames, 15u);
}

// Resync and restored positions.

TEST_F(WithReplay, ResyncReplaysFromZeroAndKeepsTheOldSetUntilThen) {
  Settled();
  stream->Resync(now);
  EXPECT_EQ(outbox.asked, Sequences{0});
  EXPECT_EQ(consumer.visible.size(), 3u);
  EXPECT_EQ(State(), "replaying");
  Replayed(0, "a0");
  End();
  EXPECT_EQ(consumer.visible, Payloads{"a0"});
}

TEST_F(WithoutReplay, ResyncDropsEverythingAndCollectsAnew) {
  Connect();
  Live(0, "a0");
  stream->Resync(now);
  EXPECT_TRUE(consumer.visible.empty());
  EXPECT_EQ(State(), "degraded incomplete");
  Live(1, "a1");
  EXPECT_EQ(consumer.visible, Payloads{"a1"});
  EXPECT_EQ(State(), "degraded incomplete");
}

TEST_F(WithReplay, ARestoredCursorIsStaleUntilItsDigestIsFoundAgain) {
  Settled();
  const Position position = *stream->position();
  EXPECT_EQ(position.cursor, 2u);
  for (const bool same : {true, false}) {
    StreamUnderTest restored({.has_replay = true, .resume = position});
    EXPECT_EQ(restored.State(), "stale unconfirmed");
    restored.Connect();
    EXPECT_EQ(restored.State(), "stale unconfirmed");
    EXPECT_EQ(restored.outbox.asked, Sequences{2});
    restored.Replayed(2, same ? "a2" : "b2");
    EXPECT_EQ(restored.consumer.new_lives, same ? 0 : 1);
    restored.End();
    EXPECT_EQ(restored.State(), "live");
  }
}

TEST_F(WithReplay, ARestoredCursorWithoutReplayIsNeverLiveBySequenceAlone) {
  Settled();
  StreamUnderTest restored({.resume = stream->position()});
  restored.Connect();
  restored.Live(3, "a3");
  EXPECT_EQ(restored.State(), "degraded doubtful");
}

TEST(Trust, OrdersStatesFromLiveToStale) {
  const std::vector<Trust> order = {
      {TrustState::kLive, "", ""},
      {TrustState::kReplaying, "", ""},
      {TrustState::kDegraded, "incomplete", ""},
      {TrustState::kConnecting, "unreachable", ""},
      {TrustState::kDegraded, "doubtful", ""},
      {TrustState::kStale, "", ""},
  };
  for (size_t i = 0; i < order.size(); ++i) {
    for (size_t j = 0; j < order.size(); ++j) EXPECT_EQ(Worse(order[i], order[j]), i > j);
  }
}

}  // namespace
}  // namespace conductor::stream
