// Publishers without replay that can be listed: what mends a pool's stream, and when.

#include <gtest/gtest.h>

#include <chrono>
#include <string>

#include "stream_fixture.h"

namespace conductor::stream {
namespace {

using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

StreamOptions Master() { return {.first_sequence = 1, .has_listing = true}; }

class WithListing : public testing::Test, public StreamUnderTest {
 protected:
  WithListing() : StreamUnderTest(Master()) {}
  ~WithListing() override {
    EXPECT_FALSE(consumer.misuse);
    EXPECT_TRUE(outbox.asked.empty());
  }
  // Live at sequence 8 of a running master, everything listed and confirmed.
  void Settled() {
    Connect();
    Live(8, "8 m8");
    List();
    List();
    ASSERT_EQ(State(), "live");
    ASSERT_FALSE(consumer.listing);
    consumer.listings = 0;
  }
  [[nodiscard]] const std::string& Detail() const { return stream->trust().detail; }
};

TEST_F(WithListing, FirstContactIsListedAndReplayingUntilThen) {
  EXPECT_FALSE(consumer.listing);
  Connect();
  EXPECT_TRUE(consumer.listing);
  EXPECT_EQ(State(), "replaying");
  List();
  EXPECT_EQ(State(), "live");
  EXPECT_EQ(Counters().lives, 1u);
}

TEST_F(WithListing, WhatASlowJoinerMissedIsFoundByASecondListing) {
  Connect();
  List();
  Pass(milliseconds(999));
  EXPECT_FALSE(consumer.listing);
  Pass(milliseconds(1));
  EXPECT_TRUE(consumer.listing);
  EXPECT_EQ(State(), "live");
  List();
  Pass(minutes(60));
  EXPECT_EQ(State(), "live");
  EXPECT_EQ(consumer.listings, 2) << "silence is no reason to list it again";
}

TEST_F(WithListing, AConfirmationThatFailsIsTriedAgainAndCastsNoDoubt) {
  Connect();
  List();
  Pass(seconds(1));
  FailListing("the master answers 503");
  EXPECT_EQ(State(), "live");
  Pass(seconds(1));
  ASSERT_TRUE(consumer.listing);
  List();
  EXPECT_EQ(State(), "live");
  EXPECT_EQ(Counters().listings_failed, 1u);
}

TEST_F(WithListing, LiveFramesAreAppliedWhileItIsOpen) {
  Connect();
  Live(8, "m8");
  Live(9, "m9");
  EXPECT_EQ(consumer.visible.size(), 2u);
  EXPECT_EQ(State(), "replaying");
}

TEST_F(WithListing, AFirstFrameInMidStreamIsListedAgainBecauseTheFirstAnswerMayBeOlder) {
  Connect();
  Live(8, "m8");
  List();
  EXPECT_EQ(State(), "degraded incomplete");
  ASSERT_TRUE(consumer.listing) << "at once";
  List();
  EXPECT_EQ(State(), "live");
  Pass(seconds(60));
  EXPECT_EQ(consumer.listings, 2);
}

TEST_F(WithListing, AFirstFrameInMidStreamAfterTheListingMayHaveMissedRemovals) {
  Connect();
  List();
  Live(8, "m8");
  EXPECT_EQ(State(), "degraded doubtful");
  ASSERT_TRUE(consumer.listing);
  List();
  EXPECT_EQ(State(), "live");
}

TEST_F(WithListing, OneSeenFromItsFirstSequenceIsLiveAndListedAfterThat) {
  Connect();
  const uint64_t before = *consumer.listing;
  Live(1, "m1");
  EXPECT_EQ(State(), "live");
  ASSERT_TRUE(consumer.listing);
  EXPECT_NE(*consumer.listing, before) << "that one may be answered by a former life";
  FailListing("no connection");
  EXPECT_EQ(State(), "degraded incomplete") << "it may have begun with what it had stored before";
  Pass(seconds(1));
  List();
  EXPECT_EQ(State(), "live");
}

TEST_F(WithListing, AFirstSequenceAfterAListingProvesNothingOfWhatWasListed) {
  Connect();
  List();
  Live(1, "m1");
  EXPECT_EQ(State(), "degraded doubtful");
  List();
  EXPECT_EQ(State(), "live");
}

TEST_F(WithListing, AGapIsListedAndHealed) {
  Settled();
  Live(11, "m11");
  EXPECT_EQ(State(), "degraded doubtful");
  EXPECT_NE(Detail().find("sequences 9 to 10"), std::string::npos) << Detail();
  EXPECT_NE(Detail().find("is asked for"), std::string::npos) << Detail();
  ASSERT_TRUE(consumer.listing);
  EXPECT_EQ(Counters().gaps_healed, 0u);
  List();
  EXPECT_EQ(State(), "live");
  EXPECT_EQ(Counters().gaps, 1u);
  EXPECT_EQ(Counters().gaps_healed, 1u);
}

TEST_F(WithListing, AGapDuringAListingNeedsAnotherOne) {
  Settled();
  Live(11, "m11");
  Live(14, "m14");
  List();
  EXPECT_EQ(State(), "degraded doubtful");
  EXPECT_NE(Detail().find("sequences 12 to 13"), std::string::npos) << Detail();
  EXPECT_EQ(Counters().gaps_healed, 1u);
  ASSERT_TRUE(consumer.listing) << "at once";
  List();
  EXPECT_EQ(State(), "live");
  EXPECT_EQ(Counters().gaps_healed, 2u);
}

TEST_F(WithListing, OneThatLosesWithoutEndIsListedWithBackOff) {
  Settled();
  uint64_t next = 11;
  const auto lose = [&] { Live(std::exchange(next, next + 2), "m"); };
  lose();
  for (int i = 0; i < 200; ++i) {
    lose();
    if (consumer.listing) List();
    lose();
    Pass(milliseconds(100));
  }
  EXPECT_NE(State(), "live");
  EXPECT_LT(consumer.listings, 20) << "in 20 s";
  EXPECT_GT(consumer.listings, 4);
  while (consumer.listing) List();
  Pass(seconds(4));
  if (consumer.listing) List();
  EXPECT_EQ(State(), "live");
  EXPECT_EQ(Counters().gaps, Counters().gaps_healed);
}

TEST_F(WithListing, OneThatFailsIsTriedAgainWithBackOffAndJitter) {
  Connect();
  Live(8, "m8");
  std::vector<Duration> waits;
  for (int i = 0; i < 8; ++i) {
    FailListing("http://master:9003/get_all_keys answers 503");
    EXPECT_EQ(State(), "degraded incomplete");
    EXPECT_NE(Detail().find("answers 503"), std::string::npos) << Detail();
    const MonoTime failed = now;
    while (!consumer.listing) Pass(milliseconds(10));
    waits.push_back(now - failed);
  }
  EXPECT_GE(waits[0], milliseconds(300));
  EXPECT_LE(waits[0], milliseconds(510));
  EXPECT_GT(waits[3], waits[0]);
  for (const Duration wait : waits) EXPECT_LE(wait, seconds(4) + milliseconds(10));
  EXPECT_EQ(Counters().listings_failed, 8u);
  List();
  EXPECT_EQ(State(), "live");
  EXPECT_EQ(Detail(), "");
}

TEST_F(WithListing, AFailedOneHealsNothingButItsGapsWaitForTheNext) {
  Settled();
  Live(11, "m11");
  FailListing("no connection");
  EXPECT_EQ(State(), "degraded doubtful");
  Pass(seconds(1));
  List();
  EXPECT_EQ(State(), "live");
  EXPECT_EQ(Counters().gaps_healed, 1u);
}

TEST_F(WithListing, NoAnswerIsAFailure) {
  Connect();
  const uint64_t request = *consumer.listing;
  Pass(seconds(30));
  EXPECT_EQ(State(), "degraded incomplete");
  EXPECT_NE(Detail().find("no answer for 30s"), std::string::npos) << Detail();
  stream->ListingDone(now, request);
  EXPECT_EQ(State(), "degraded incomplete") << "it was closed";
  Pass(seconds(1));
  List();
  EXPECT_EQ(State(), "live");
}

TEST_F(WithListing, AReconnectIsListed) {
  Settled();
  Disconnect();
  EXPECT_EQ(State(), "stale unreachable");
  Connect();
  EXPECT_EQ(State(), "degraded doubtful");
  ASSERT_TRUE(consumer.listing);
  Live(9, "m9");
  EXPECT_EQ(State(), "degraded doubtful") << "the next number proves nothing";
  List();
  EXPECT_EQ(State(), "degraded doubtful") << "its answer may be older than that frame";
  List();
  EXPECT_EQ(State(), "live");
}

TEST_F(WithListing, AReconnectDuringAListingStartsItAgain) {
  Connect();
  const uint64_t first = *consumer.listing;
  Disconnect();
  EXPECT_FALSE(consumer.listing);
  Connect();
  EXPECT_EQ(State(), "replaying");
  stream->ListingDone(now, first);
  EXPECT_EQ(State(), "replaying");
  List();
  EXPECT_EQ(State(), "live");
}

TEST_F(WithListing, WhatFailedBeforeADisconnectIsNotAskedForUntilItIsBack) {
  Connect();
  FailListing("no connection");
  Disconnect();
  Pass(minutes(1));
  EXPECT_FALSE(consumer.listing);
  Connect();
  EXPECT_TRUE(consumer.listing);
}

TEST_F(WithListing, ARestartInPlaceIsListedFromNothing) {
  Settled();
  Live(3, "9 n3");
  EXPECT_EQ(consumer.visible, (std::vector<std::string>{"9 n3"}));
  EXPECT_EQ(consumer.new_lives, 1);
  EXPECT_EQ(Counters().lives, 2u);
  EXPECT_EQ(State(), "replaying");
  List();
  EXPECT_EQ(State(), "live");
}

TEST_F(WithListing, ANewLifeDropsAnOpenListingAndItsGapsAreLost) {
  Settled();
  Live(11, "m11");
  const uint64_t old = *consumer.listing;
  Live(1, "12 n1");
  ASSERT_TRUE(consumer.listing);
  EXPECT_NE(*consumer.listing, old);
  EXPECT_EQ(State(), "live") << "seen from its first sequence";
  EXPECT_EQ(Counters().gaps_lost, 1u);
}

TEST_F(WithListing, AnIncarnationFromElsewhereIsListedFromNothing) {
  Settled();
  stream->NewIncarnation(now);
  EXPECT_TRUE(consumer.visible.empty());
  EXPECT_EQ(State(), "replaying");
  List();
  EXPECT_EQ(State(), "live");
}

TEST_F(WithListing, AnIncarnationToldWhileItIsAwayIsListedOnItsReturn) {
  Settled();
  Disconnect();
  stream->NewIncarnation(now);
  EXPECT_FALSE(consumer.listing);
  EXPECT_EQ(State(), "stale unreachable");
  Connect();
  EXPECT_EQ(State(), "replaying");
  List();
  EXPECT_EQ(State(), "live");
}

TEST_F(WithListing, AResyncListsItAgainAndKeepsWhatIsHeldUntilThen) {
  Settled();
  stream->Resync(now);
  EXPECT_TRUE(consumer.listing);
  EXPECT_EQ(consumer.visible.size(), 1u);
  EXPECT_EQ(State(), "live");
  List();
  EXPECT_EQ(State(), "live");
}

TEST_F(WithListing, AResyncDoesNotWaitForTheBackOff) {
  Connect();
  for (int i = 0; i < 6; ++i) {
    FailListing("no connection");
    if (i < 5) Pass(seconds(4));
  }
  ASSERT_FALSE(consumer.listing);
  stream->Resync(now);
  EXPECT_TRUE(consumer.listing);
}

TEST_F(WithListing, WhatIsLostMeanwhileIsNotMendedThoughSomethingAlikeWasLostBefore) {
  Settled();
  Live(9, "m9 lost stores");
  stream->Resync(now);
  Live(10, "m10 lost stores");
  List();
  EXPECT_EQ(State(), "degraded incomplete");
}

TEST_F(WithListing, WhatTheConsumerLostBeforeIsMendedAndWhatItLosesMeanwhileIsNot) {
  Settled();
  Live(9, "m9 lost stores");
  EXPECT_EQ(State(), "degraded incomplete");
  EXPECT_NE(Detail().find("A resync ends it"), std::string::npos) << Detail();
  EXPECT_FALSE(consumer.listing) << "some publishers lose something with every batch";
  stream->Resync(now);
  List();
  EXPECT_EQ(State(), "live");
  stream->Resync(now);
  Live(10, "m10 lost removals");
  List();
  EXPECT_EQ(State(), "degraded doubtful");
  EXPECT_FALSE(consumer.listing);
}

TEST_F(WithListing, DoubtIsDroppedAfterTheGraceOnlyWhileNoListingIsOpen) {
  Settled();
  Live(11, "m11");
  for (int i = 0; i < 400; ++i) {
    if (consumer.listing) FailListing("no connection");
    Pass(seconds(3));
  }
  EXPECT_EQ(State(), "degraded incomplete");
  EXPECT_EQ(consumer.new_lives, 1);
  while (!consumer.listing) Pass(milliseconds(100));
  List();
  EXPECT_EQ(State(), "live");
}

TEST_F(WithListing, DroppedLiveFramesAreAHole) {
  Settled();
  stream->LiveLost(now, 3);
  EXPECT_EQ(State(), "degraded doubtful");
  EXPECT_EQ(Counters().pending_dropped, 3u);
  List();
  EXPECT_EQ(State(), "live");
  EXPECT_EQ(Counters().gaps_healed, 1u);
}

TEST(RestoredPool, IsStaleUntilItIsListed) {
  StreamOptions options = Master();
  options.resume = Position{.cursor = 40, .digest = 1};
  StreamUnderTest pool(options);
  EXPECT_EQ(pool.State(), "stale unconfirmed");
  pool.Connect();
  EXPECT_EQ(pool.State(), "stale unconfirmed");
  pool.List();
  EXPECT_EQ(pool.State(), "live");
  pool.Live(41, "m41");
  pool.List();
  EXPECT_EQ(pool.State(), "live");
}

TEST(RestoredPool, ThatCannotBeListedIsDoubtfulAndThenIncomplete) {
  StreamOptions options = Master();
  options.resume = Position{.cursor = 40, .digest = 1};
  StreamUnderTest pool(options);
  pool.Connect();
  pool.FailListing("no connection");
  pool.Live(41, "m41");
  EXPECT_EQ(pool.State(), "degraded doubtful");
  EXPECT_NE(pool.stream->trust().detail.find("no connection"), std::string::npos);
}

TEST(PoolWithoutListing, IsIncompleteUnlessSeenFromItsFirstSequence) {
  StreamUnderTest late({.first_sequence = 1, .remedy = "Register its admin_endpoint"});
  late.Connect();
  late.Live(2, "m2");
  EXPECT_EQ(late.State(), "degraded incomplete");
  EXPECT_EQ(late.consumer.listings, 0);
  EXPECT_NE(late.stream->trust().detail.find("Register its admin_endpoint"), std::string::npos);
  StreamUnderTest early({.first_sequence = 1});
  early.Connect();
  early.Live(1, "m1");
  EXPECT_EQ(early.State(), "live");
}

TEST(Listing, MeansNothingWhereThereIsReplay) {
  StreamUnderTest both({.has_replay = true, .has_listing = true});
  both.Connect();
  both.End();
  EXPECT_EQ(both.State(), "live");
  EXPECT_EQ(both.consumer.listings, 0);
}

}  // namespace
}  // namespace conductor::stream
