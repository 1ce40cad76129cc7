#include "daemon/toolkit/replay.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "daemon/toolkit/replay_engine_source.h"
#include "daemon/toolkit/replay_progress.h"
#include "daemon/toolkit/replay_recording_source.h"
#include "daemon/toolkit/replay_trace_source.h"
#include "tests/toolkit/source_frames.h"

namespace conductor::toolkit {
namespace {

TEST(ReplayFlags, ASpeedIsAFactorOrMax) {
  EXPECT_EQ(ParseSpeed("max").value(), 0);
  EXPECT_EQ(ParseSpeed("10").value(), 10);
  EXPECT_EQ(ParseSpeed("0.5").value(), 0.5);
  for (const char* text : {"", "0", "-1", "fast", "1x", "nan", "inf", "1e9"}) {
    EXPECT_FALSE(ParseSpeed(text).has_value()) << text;
  }
}

TEST(ReplayFlags, WhatIsForASinkNeedsIt) {
  const auto message = [](const ReplayOptions& options) {
    const Status status = CheckReplay(options);
    return status ? "" : status.error().Message();
  };
  EXPECT_EQ(message({.sources = {"a.rec", "b.rec"}}), "");
  EXPECT_EQ(message({.sources = {"a.rec"}, .replay_endpoint = "tcp://*:2"}),
            "--replay-endpoint: means nothing here (expected --publish beside it)");
  EXPECT_EQ(message({.sources = {"a.rec"}, .from_sequence = 1}),
            "--from-seq: means nothing here (expected a replay endpoint beside it)");
  EXPECT_EQ(message({.sources = {"tcp://a:1"}, .from_sequence = 1}), "");
  EXPECT_NE(message({.sources = {"a.rec", "tcp://a:1"}}), "");
  EXPECT_NE(message({.sources = {"a"}, .publish = "tcp://*:1", .replay_endpoint = "tcp://*:1"}),
            "");
  EXPECT_EQ(message({.sources = {"a"}, .publish = "28701"}),
            "--publish: 28701: has no scheme (expected tcp://*:28701)");
  EXPECT_EQ(message({.sources = {"127.0.0.1:5558"}}),
            "127.0.0.1:5558: there is no such file, and an endpoint has a scheme (expected "
            "tcp://127.0.0.1:5558)");
}

TEST(ProgressBar, FitsItsWidth) {
  EXPECT_EQ(ProgressLine(0.5, 1234, 40), "[#######........]   50 %  1,234 messages");
  EXPECT_EQ(ProgressLine(std::nullopt, 7, 40), "7 messages");
  EXPECT_EQ(ProgressLine(std::nullopt, 1, 40), "1 message");
  EXPECT_EQ(ProgressLine(2, 7, 20), "100 %  7 messages");
  for (size_t width = 1; width < 100; ++width) {
    EXPECT_LE(WidthOf(ProgressLine(0.3, 1'000'000, width)), width);
  }
}

// Notes of an answer that had these messages.
std::vector<std::string> Notes(uint64_t from, const std::vector<SourceFrame>& frames, bool sound) {
  AnswerCheck check("tcp://a:1", from);
  for (const SourceFrame& frame : frames) check.Take(frame);
  if (!check.ended()) check.CutOff("nothing came for 5s");
  EXPECT_EQ(check.sound(), sound);
  return check.Notes();
}

SourceFrame Plain(uint64_t sequence) {
  SourceFrame frame = Answer(sequence, "x");
  frame.frames.erase(frame.frames.begin());
  return frame;
}

TEST(AnswerCheck, TellsItsRangeAndForm) {
  EXPECT_EQ(Notes(2, {Answer(2, "x"), Answer(3, "x"), EndOfAnswer()}, true),
            (std::vector<std::string>{"tcp://a:1 answered with 2 batches, sequences 2 to 3, with a "
                                      "topic (vLLM from v0.26 on)"}));
  EXPECT_EQ(
      Notes(0, {Plain(0), EndOfAnswer()}, true),
      (std::vector<std::string>{"tcp://a:1 answered with 1 batch, sequences 0 to 0, without a "
                                "topic (vLLM up to v0.25, SGLang)"}));
  EXPECT_EQ(Notes(9, {EndOfAnswer()}, true),
            (std::vector<std::string>{"tcp://a:1 has no batch from 9 on"}));
}

TEST(AnswerCheck, TellsWhatIsWrong) {
  const auto notes =
      Notes(1, {Answer(3, "x"), Answer(7, "x"), Answer(7, "x"), Answer(0, "x")}, false);
  ASSERT_EQ(notes.size(), 6U);
  EXPECT_EQ(notes[1],
            "its ring begins at 3: 2 batches from 1 on are gone. Raise the engine's buffer_steps");
  EXPECT_EQ(notes[2], "it is not contiguous: 1 hole of 3 batches, the first from 4 to 6");
  EXPECT_EQ(notes[3], "1 batch of before 1, which was asked for");
  EXPECT_EQ(notes[4], "2 batches out of order or twice");
  EXPECT_EQ(notes[5], "its end marker is missing: nothing came for 5s");
}

TEST(AnswerCheck, CountsWhatIsNoReply) {
  SourceFrame no_sequence = Answer(0, "x");
  no_sequence.frames[2] = "short";
  const auto notes = Notes(0, {no_sequence, Answer(kEnd, "payload"), EndOfAnswer()}, false);
  ASSERT_EQ(notes.size(), 2U);
  EXPECT_TRUE(notes[1].starts_with("2 messages that are no reply"));
}

TEST(EngineSource, AnAddressThatCanNeverWorkIsAnError) {
  EXPECT_FALSE(EngineSource::Open({.endpoint = "tcp://nowhere"}).has_value());
}

std::vector<SourceFrame> FramesOf(TraceSource& source) {
  std::vector<SourceFrame> frames;
  SourceFrame frame;
  while (source.Next(frame).value_or(false)) frames.push_back(frame);
  return frames;
}

TraceSource Trace(const std::string& text, uint32_t capacity = 100) {
  return TraceSource(trace::TraceReader::OfText("t", text, {}),
                     {.engine = {.block_size = 512, .capacity_blocks = capacity}});
}

TEST(TraceSource, ABatchForEachPromptThatChangedTheCache) {
  TraceSource source = Trace(
      R"({"timestamp": 0, "input_length": 1024, "output_length": 1, "hash_ids": [1, 2]}
         {"timestamp": 500, "input_length": 1024, "output_length": 1, "hash_ids": [1, 2]}
         {"timestamp": 1500, "input_length": 1536, "output_length": 1, "hash_ids": [1, 2, 3]})");
  const auto frames = FramesOf(source);
  ASSERT_EQ(frames.size(), 2U);
  EXPECT_EQ(frames[0].Message()->sequence, 0U);
  EXPECT_EQ(frames[1].Message()->sequence, 1U);
  EXPECT_EQ(frames[1].at, TraceSource::kEpoch + 1.5);
  EXPECT_EQ(source.Notes().at(0),
            "3 requests of a mooncake trace; 1 of them found their prompt cached");
}

TEST(TraceSource, ItsProgressIsThatOfTheFile) {
  const std::string line =
      R"({"timestamp": 0, "input_length": 512, "output_length": 1, "hash_ids": [1]})";
  TraceSource source = Trace(line + "\n" + line);
  EXPECT_EQ(source.Progress(), 0);
  SourceFrame frame;
  ASSERT_TRUE(source.Next(frame).value());
  EXPECT_NEAR(source.Progress().value(), 0.5, 0.01);
  EXPECT_FALSE(source.Next(frame).value());  // the same prompt again
  EXPECT_EQ(source.Progress(), 1);
}

TEST(TraceSource, LinesThatCannotBeReadAreToldAndTheRestStands) {
  TraceSource source = Trace(
      "what\n{\"timestamp\": 0, \"input_length\": 512, \"output_length\": 1, \"hash_ids\": [1]}\n");
  EXPECT_EQ(FramesOf(source).size(), 1U);
  EXPECT_EQ(source.Notes().size(), 2U);
}

TEST(TraceSource, ATraceWithoutAnyRequestIsAnError) {
  TraceSource source = Trace("{\"a\": 1}\n");
  SourceFrame frame;
  EXPECT_FALSE(source.Next(frame).has_value());
}

TEST(RecordedPublisher, ItsFactsAreReadUnderTheFlags) {
  std::vector<std::string> notes;
  const SourcePublisher publisher = DescribedBy(
      {.endpoint = "tcp://a:1",
       .facts = R"({"type": "SGLang", "model": "m", "instance_id": "i", "block_size": 4})"},
      {.model = "other"}, notes);
  EXPECT_EQ(publisher.name, "tcp://a:1");
  EXPECT_TRUE(publisher.type_known);
  EXPECT_EQ(publisher.read_as.type, serve::PublisherType::kSglang);
  EXPECT_EQ(publisher.read_as.instance_id, "i");
  EXPECT_EQ(publisher.read_as.block_size, 4U);
  EXPECT_EQ(publisher.read_as.model, "other");
  EXPECT_TRUE(notes.empty());
}

TEST(RecordedPublisher, WithoutFactsDefaultsDo) {
  std::vector<std::string> notes;
  const SourcePublisher publisher = DescribedBy({.replay_endpoint = "tcp://a:2"}, {}, notes);
  EXPECT_EQ(publisher.name, "tcp://a:2");
  EXPECT_EQ(publisher.read_as.model, "replayed");
  EXPECT_EQ(publisher.read_as.instance_id, "a:2");
  EXPECT_FALSE(publisher.model_known);
  EXPECT_FALSE(publisher.type_known);
  EXPECT_TRUE(notes.empty());
}

TEST(RecordedPublisher, AFactThatCannotBeUsedIsANote) {
  std::vector<std::string> notes;
  (void)DescribedBy({.endpoint = "a", .facts = R"({"block_size": -1})"}, {}, notes);
  (void)DescribedBy({.endpoint = "b", .facts = "what"}, {}, notes);
  ASSERT_EQ(notes.size(), 2U);
  EXPECT_TRUE(notes[0].starts_with("a: block_size"));
  EXPECT_TRUE(notes[1].starts_with("b: "));
}

}  // namespace
}  // namespace conductor::toolkit
