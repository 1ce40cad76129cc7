// A stream that begins with what another process held.

#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <vector>

#include "stream_fixture.h"

namespace conductor::stream {
namespace {

using std::chrono::minutes;
using std::chrono::seconds;
using ResumeEnd = Consumer::ResumeEnd;
using Payloads = std::vector<std::string>;
using Sequences = std::vector<uint64_t>;

// What a stream that applied a0 to a<last> leaves behind.
Resume Left(uint64_t last) {
  StreamUnderTest before({.has_replay = true});
  before.Connect();
  for (uint64_t i = 0; i <= last; ++i) before.Replayed(i, Batch('a', i));
  before.End();
  return *before.stream->resume();
}

StreamOptions Restored(bool has_replay = true) {
  return {.has_replay = has_replay, .resume = Left(5)};
}

TEST(Resume, HasTheDigestsOfTheBatchesBeforeItsCursor) {
  const Resume resume = Left(5);
  EXPECT_EQ(resume.cursor, 5u);
  EXPECT_EQ(resume.digests.size(), 5u);
  EXPECT_EQ(resume.first, 0u);
  EXPECT_EQ(resume.damage, Damage::Kind::kNone);
}

TEST(Resume, OfAStreamThatAppliedNothingThereIsNone) {
  StreamUnderTest stream({.has_replay = true});
  stream.Connect();
  stream.End();
  EXPECT_FALSE(stream.stream->resume());
}

TEST(Resume, IsProvenByTheDigestAtTheCursorAndWhatFollowsIsApplied) {
  StreamUnderTest restored(Restored());
  restored.Connect();
  restored.Live(7, "a7");
  restored.Replayed(5, "a5");
  EXPECT_EQ(restored.consumer.resume_end, ResumeEnd::kProven);
  restored.Replayed(6, "a6");
  restored.End();
  EXPECT_EQ(restored.consumer.visible, (Payloads{"a6", "a7"}));
  EXPECT_EQ(restored.consumer.new_lives, 0);
  EXPECT_EQ(restored.State(), "live");
}

TEST(Resume, IsDroppedWhereTheCursorHasAnotherDigest) {
  StreamUnderTest restored(Restored());
  restored.Connect();
  restored.Replayed(5, "b5");
  EXPECT_EQ(restored.consumer.resume_end, ResumeEnd::kDropped);
  EXPECT_EQ(restored.consumer.new_lives, 1);
  EXPECT_EQ(restored.outbox.asked, (Sequences{5, 0}));
  for (uint64_t i = 0; i < 6; ++i) restored.Replayed(i, Batch('b', i));
  restored.End();
  EXPECT_EQ(restored.State(), "live");
}

TEST(Resume, IsDroppedWhereTheEngineRestartedAndIsNotThatFarYet) {
  StreamUnderTest restored(Restored());
  restored.Connect();
  restored.End();
  EXPECT_EQ(restored.consumer.resume_end, ResumeEnd::kDropped);
  EXPECT_EQ(restored.consumer.new_lives, 1);
  restored.Replayed(0, "b0");
  restored.End();
  EXPECT_EQ(restored.consumer.visible, Payloads{"b0"});
  EXPECT_EQ(restored.State(), "live");
}

// Whether it is the same life nothing tells, even where the ring begins right behind the cursor.
TEST(Resume, IsDroppedWhereTheRingHasMovedOn) {
  for (const uint64_t begin : {6u, 9u}) {
    StreamUnderTest restored(Restored());
    restored.Connect();
    restored.Replayed(begin, Batch('a', begin));
    EXPECT_EQ(restored.consumer.resume_end, ResumeEnd::kDropped);
    EXPECT_EQ(restored.consumer.new_lives, 1);
    EXPECT_EQ(restored.outbox.asked, (Sequences{5, 0}));
    restored.Replayed(begin, Batch('a', begin));
    restored.End();
    EXPECT_EQ(restored.consumer.visible, Payloads{Batch('a', begin)});
    EXPECT_EQ(restored.State(), "degraded incomplete");
  }
}

TEST(Resume, KeepsTheDamageThatWasKnown) {
  StreamUnderTest before({});
  before.Connect();
  before.Live(3, "a3");
  ASSERT_EQ(before.State(), "degraded incomplete");
  StreamUnderTest restored({.has_replay = true, .resume = before.stream->resume()});
  restored.Connect();
  restored.Replayed(3, "a3");
  restored.End();
  EXPECT_EQ(restored.State(), "degraded incomplete");
  EXPECT_NE(restored.stream->trust().detail.find("first heard of"), std::string::npos);
}

// The replay endpoint was out of reach when it was first heard of, and then the daemon ended.
TEST(Resume, GoesOnAskingForWhatOnlyAReplayFromTheFirstSequenceCanBring) {
  StreamUnderTest before({.has_replay = true});
  before.Connect();
  before.Pass(seconds(6));
  before.Live(3, "a3");
  before.Pass(seconds(60));
  ASSERT_EQ(before.State().substr(0, 5), "stale");
  const auto left = before.stream->resume();
  ASSERT_TRUE(left);
  EXPECT_TRUE(left->needs_rebuild);

  StreamUnderTest restored({.has_replay = true, .resume = left});
  EXPECT_TRUE(restored.stream->resume()->needs_rebuild);  // saved again before it was proven
  restored.Connect();
  restored.Replayed(3, "a3");
  restored.End();
  EXPECT_EQ(restored.consumer.resume_end, ResumeEnd::kProven);
  EXPECT_EQ(restored.State(), "degraded incomplete");
  restored.Pass(seconds(1));
  ASSERT_EQ(restored.outbox.asked, (Sequences{3, 0}));
  for (uint64_t i = 0; i <= 3; ++i) restored.Replayed(i, Batch('a', i));
  restored.End();
  EXPECT_EQ(restored.consumer.visible, (Payloads{"a0", "a1", "a2", "a3"}));
  EXPECT_EQ(restored.State(), "live");
  EXPECT_FALSE(restored.stream->resume()->needs_rebuild);
}

TEST(Resume, KeepsWhatReachesFurtherBackThanTheRing) {
  Resume left = Left(5);
  left.first = 2;
  left.damage = Damage::Kind::kIncomplete;
  left.needs_rebuild = true;
  StreamUnderTest restored({.has_replay = true, .resume = left});
  restored.Connect();
  restored.Replayed(5, "a5");
  restored.End();
  restored.Pass(seconds(1));
  restored.Replayed(4, "a4");
  EXPECT_EQ(restored.consumer.commits, 0);
  EXPECT_EQ(restored.State(), "degraded incomplete");
  EXPECT_FALSE(restored.stream->resume()->needs_rebuild);
}

// The clock of the engine was set back, so that its batches do not show the new life.
TEST(Resume, KnowsTheBatchesBeforeTheCursorByTheirDigests) {
  StreamUnderTest restored(Restored());
  restored.Connect();
  restored.Replayed(5, "a5");
  restored.End();
  restored.Live(3, "a3");
  EXPECT_EQ(restored.Counters().duplicates, 1u);
  EXPECT_EQ(restored.consumer.new_lives, 0);
  restored.Live(2, "b2");
  EXPECT_EQ(restored.consumer.new_lives, 1);
}

TEST(Resume, OfAPublisherThatStaysAwayIsDroppedAfterAWhile) {
  StreamOptions options = Restored();
  options.stale_grace = minutes(2);
  StreamUnderTest restored(options);
  restored.Pass(seconds(119));
  EXPECT_FALSE(restored.consumer.resume_end);
  EXPECT_EQ(restored.State(), "stale unconfirmed");
  restored.Pass(seconds(1));
  EXPECT_EQ(restored.consumer.resume_end, ResumeEnd::kDropped);
  EXPECT_EQ(restored.consumer.new_lives, 1);
  EXPECT_EQ(restored.State(), "connecting not_connected");
  EXPECT_FALSE(restored.stream->position());
  // It is met anew.
  restored.Connect();
  EXPECT_EQ(restored.outbox.asked, Sequences{0});
  restored.Replayed(0, "a0");
  restored.End();
  EXPECT_EQ(restored.State(), "live");
}

TEST(Resume, OfAPublisherThatDoesNotAnswerIsDroppedAfterAWhile) {
  StreamOptions options = Restored();
  options.stale_grace = minutes(2);
  StreamUnderTest restored(options);
  restored.Connect();
  restored.Pass(minutes(2));
  EXPECT_EQ(restored.consumer.resume_end, ResumeEnd::kDropped);
  EXPECT_EQ(restored.outbox.asked.back(), 0u);
}

TEST(Resume, IsDoubtedWhereBatchesComeThatNothingProves) {
  StreamUnderTest restored(Restored(/*has_replay=*/false));
  restored.Connect();
  EXPECT_EQ(restored.State(), "degraded doubtful");
  restored.Live(6, "a6");
  EXPECT_EQ(restored.consumer.resume_end, ResumeEnd::kDoubted);
  EXPECT_EQ(restored.State(), "degraded doubtful");
  restored.Pass(minutes(15));
  EXPECT_EQ(restored.State(), "degraded incomplete");
  EXPECT_EQ(restored.consumer.new_lives, 1);
}

TEST(Resume, OfASilentPublisherWithoutReplayIsDroppedWithItsDoubt) {
  StreamUnderTest restored(Restored(/*has_replay=*/false));
  restored.Connect();
  restored.Pass(minutes(14));
  EXPECT_FALSE(restored.consumer.resume_end);
  restored.Pass(minutes(1));
  EXPECT_EQ(restored.consumer.resume_end, ResumeEnd::kDropped);
  EXPECT_EQ(restored.State(), "degraded incomplete");
}

}  // namespace
}  // namespace conductor::stream
