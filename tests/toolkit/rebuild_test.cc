#include "daemon/toolkit/rebuild.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "lib/wire/mooncake_encoder.h"
#include "tests/toolkit/source_frames.h"

namespace conductor::toolkit {
namespace {

Rebuild::PublisherResult Only(const Rebuild& rebuild) { return rebuild.Results().at(0); }

uint64_t Held(const Rebuild& rebuild, Tier tier = Tier::kGpu) {
  uint64_t blocks = 0;
  for (const auto& rank : rebuild.index().Ranks()) blocks += rank.blocks[static_cast<size_t>(tier)];
  return blocks;
}

TEST(Rebuild, BatchesBecomeAnIndexAndCounts) {
  Rebuild rebuild({}, Publishers({"tcp://a:1"}));
  rebuild.Feed(Live(0, Payload({Stored(1, 3)})));
  rebuild.Feed(Live(1, Payload({Removed(3), Stored(2, 1, 1, "CPU")})));
  EXPECT_EQ(Held(rebuild), 2U);
  EXPECT_EQ(Held(rebuild, Tier::kCpu), 1U);
  const auto result = Only(rebuild);
  EXPECT_EQ(result.trust.state, stream::TrustState::kLive);
  EXPECT_EQ(result.counts.batches, 2U);
  EXPECT_EQ(result.counts.by_type.at({"stored", "gpu"}), (Tally{1, 3}));
  EXPECT_EQ(result.counts.by_type.at({"stored", "cpu"}), (Tally{1, 1}));
  EXPECT_EQ(result.counts.by_type.at({"removed", "gpu"}), (Tally{1, 1}));
  EXPECT_EQ(result.counts.by_rank.at({0, "stored"}), (Tally{2, 4}));
  EXPECT_EQ(result.counts.first_at, 1000);
  EXPECT_EQ(result.counts.last_at, 1001);
}

TEST(Rebuild, AHoleIsAGapAndNoReplayIsWaitedFor) {
  Rebuild rebuild({}, Publishers({"tcp://a:1"}));
  rebuild.Feed(Live(0, Payload({Stored(1, 1)})));
  rebuild.Feed(Live(3, Payload({Stored(5, 1)})));
  const auto result = Only(rebuild);
  EXPECT_EQ(result.stream.gaps, 1U);
  EXPECT_EQ(result.trust.reason, "doubtful");
  EXPECT_EQ(Held(rebuild), 2U);
}

TEST(Rebuild, MessagesThatTheRecorderLostAreAGapToo) {
  Rebuild rebuild({}, Publishers({"tcp://a:1"}));
  rebuild.Feed(Live(0, Payload({Stored(1, 1)})));
  rebuild.Feed(Mark(SourceFrame::Kind::kLost, 2));
  EXPECT_EQ(Only(rebuild).trust.state, stream::TrustState::kDegraded);
}

TEST(Rebuild, ARestartLeavesNothingOfTheOldLife) {
  Rebuild rebuild({}, Publishers({"tcp://a:1"}));
  rebuild.Feed(Live(0, Payload({Stored(1, 3)})));
  rebuild.Feed(Live(0, Payload({Stored(7, 1)})));
  EXPECT_EQ(Held(rebuild), 1U);
  EXPECT_EQ(Only(rebuild).stream.lives, 2U);
}

TEST(Rebuild, PublishersShareOneIndex) {
  Rebuild rebuild({}, Publishers({"a", "b"}));
  rebuild.Feed(Live(0, Payload({Stored(1, 2)}), 0));
  rebuild.Feed(Live(0, Payload({Stored(1, 2)}), 1));
  EXPECT_EQ(rebuild.index().Stats().blocks, 2U);
  EXPECT_EQ(rebuild.index().Stats().holdings, 4U);
  EXPECT_EQ(rebuild.index().Ranks("b").size(), 1U);
}

TEST(Rebuild, WhatIsNoBatchIsCountedAndTold) {
  Rebuild rebuild({}, Publishers({"a"}));
  rebuild.Feed(Live(0, "\xc1"));
  rebuild.Feed({.at = 1, .frames = {"", "short", ""}});
  rebuild.Feed(Live(1, Payload({Stored(1, 1)})));
  const auto result = Only(rebuild);
  EXPECT_EQ(result.counts.not_batches, 1U);
  EXPECT_EQ(result.stream.malformed_frames, 1U);
  EXPECT_TRUE(result.counts.first_problem.starts_with("sequence 0: "));
  EXPECT_EQ(Held(rebuild), 1U);
}

TEST(Rebuild, AStreamOfObjectsIsAPoolUnlessItsTypeIsKnown) {
  wire::MasterEvent object{.key = "7", .backend = "b", .medium = "cpu", .hashes = {EngineHash{7}}};
  const std::string payload =
      wire::EncodeMooncakeBatch({.timestamp_ms = 1, .events = {std::move(object)}});
  Rebuild rebuild({}, Publishers({"a"}));
  rebuild.Feed(Live(1, payload));
  EXPECT_EQ(Only(rebuild).publisher.read_as.type, serve::PublisherType::kMooncake);
  EXPECT_EQ(Only(rebuild).ingest.objects, 1U);
  EXPECT_EQ(Only(rebuild).counts.by_type.at({"object_stored", "cpu"}), (Tally{1, 1}));

  auto publishers = Publishers({"a"});
  Override(publishers[0], {.type = serve::PublisherType::kVllm});
  Rebuild as_engine({}, publishers);
  as_engine.Feed(Live(1, payload));
  EXPECT_EQ(Only(as_engine).publisher.read_as.type, serve::PublisherType::kVllm);
}

TEST(Rebuild, TimesOfARecordingMayBeAnyNumber) {
  Rebuild rebuild({}, Publishers({"a"}));
  for (const double at : {5.0, -1e300, 1e300, 2.0}) {
    SourceFrame frame = Live(0, Payload({}));
    frame.at = at;
    rebuild.Feed(frame);
  }
  EXPECT_EQ(Only(rebuild).stream.duplicates, 3U);
}

TEST(ReadAs, FlagsComeBeforeWhatIsKnown) {
  SourcePublisher publisher = Described("tcp://a|b:1", {});
  EXPECT_EQ(publisher.read_as.instance_id, "a_b:1");
  EXPECT_EQ(publisher.read_as.model, "replayed");
  EXPECT_FALSE(publisher.type_known);
  Override(publisher, {.type = serve::PublisherType::kSglang,
                       .model = "m",
                       .instance = "i",
                       .block_size = 8,
                       .copies_are_a_set = true});
  EXPECT_TRUE(publisher.type_known);
  EXPECT_EQ(publisher.read_as.type, serve::PublisherType::kSglang);
  EXPECT_EQ(publisher.read_as.model, "m");
  EXPECT_EQ(publisher.read_as.instance_id, "i");
  EXPECT_EQ(publisher.read_as.block_size, 8U);
  EXPECT_EQ(publisher.read_as.copies, index::CopyMode::kSet);
}

}  // namespace
}  // namespace conductor::toolkit
