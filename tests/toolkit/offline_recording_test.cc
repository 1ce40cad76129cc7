#include "daemon/toolkit/offline_recording.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/bytes.h"
#include "lib/base/log.h"
#include "lib/trace/recording_writer.h"
#include "lib/trace/simulated_engine.h"
#include "lib/wire/vllm_encoder.h"

namespace conductor::toolkit {
namespace {

TEST(RegistrationOf, IsWhatTheRecordingSays) {
  const auto registration = RegistrationOf(
      {.endpoint = "tcp://10.0.0.1:5557",
       .replay_endpoint = "tcp://10.0.0.1:5558",
       .topic = "kv",
       .facts = R"({"type": "SGLang", "model": "m", "instance_id": "a", "tenant_id": "t",
                    "dp_rank": 3, "block_size": 64, "endpoint": "tcp://10.0.0.1:5557",
                    "mode": "bind", "incarnation": "x"})"},
      {.type = serve::PublisherType::kVllm, .model = "other", .tenant = "other"});
  ASSERT_TRUE(registration.has_value()) << registration.error().Message();
  EXPECT_EQ(registration->Key(), "a|t|3");
  EXPECT_EQ(registration->model, "m");
  EXPECT_EQ(registration->type, serve::PublisherType::kSglang);
  EXPECT_EQ(registration->block_size, 64U);
  EXPECT_EQ(registration->mode, stream::ListenMode::kIngest);
  EXPECT_TRUE(serve::Validate(*registration).has_value());
}

TEST(RegistrationOf, IsWhatItIsTakenForWhereTheRecordingIsSilent) {
  const auto registration = RegistrationOf({.endpoint = "tcp://10.0.0.1:5557"},
                                           {.type = serve::PublisherType::kSglang, .model = "m"});
  ASSERT_TRUE(registration.has_value()) << registration.error().Message();
  EXPECT_EQ(registration->Key(), "10.0.0.1:5557|default|0");
  EXPECT_EQ(registration->model, "m");
  EXPECT_EQ(registration->type, serve::PublisherType::kSglang);
  EXPECT_EQ(registration->block_size, 0U) << "it is learnt";
  EXPECT_EQ(RegistrationOf({.endpoint = "ipc://a|b"}, {.model = "m"})->instance_id, "a_b");
}

TEST(RegistrationOf, SaysWhichFlagHelps) {
  EXPECT_EQ(RegistrationOf({.endpoint = "tcp://a:1"}, {}).error().Message(),
            "tcp://a:1: the recording does not say which model it serves (expected --model NAME)");
  EXPECT_EQ(RegistrationOf({.endpoint = "tcp://a:1", .facts = "["}, {}).error().Message(),
            "tcp://a:1: what the recording says of it is no JSON object");
  const auto bad =
      RegistrationOf({.endpoint = "tcp://a:1", .facts = R"({"model": "m", "block_size": -1})"}, {});
  EXPECT_EQ(bad.error().Message().rfind("tcp://a:1: block_size: -1", 0), 0U)
      << bad.error().Message();
}

class LoadRecordingsTest : public testing::Test {
 protected:
  LoadRecordingsTest() {
    log::SetLevel(log::Level::kError);
    folder_ = std::filesystem::temp_directory_path() /
              ("conductor-offline-" + std::to_string(::getpid()));
    std::filesystem::create_directories(folder_);
    path_ = folder_ / "fleet.kvrec";
    for (TokenId token = 0; token < 16; ++token) prompt_.push_back(token);
    trace::SimulatedEngine engine({.seed = 1, .block_size = 2, .capacity_blocks = 64});
    for (size_t end = 2; end <= prompt_.size(); end += 2) {
      wire::EventBatch batch{.timestamp = 1700000000,
                             .events = engine.Run(std::span(prompt_).first(end))};
      payloads_.push_back(wire::EncodeVllmBatch(batch));
    }
  }
  ~LoadRecordingsTest() override { std::filesystem::remove_all(folder_); }

  // Writes with `fill(writer)`.
  template <typename Fill>
  void Record(Fill fill) {
    auto writer = trace::RecordingWriter::Open({.path = path_});
    ASSERT_TRUE(writer.has_value()) << writer.error().Message();
    fill(*writer);
    ASSERT_TRUE(writer->Close().has_value());
  }
  static uint32_t Engine(trace::RecordingWriter& writer, const std::string& instance) {
    return *writer.AddPublisher(
        {}, {.endpoint = "tcp://" + instance + ":5557",
             .facts = R"({"type": "vLLM", "model": "m", "instance_id": ")" + instance + "\"}"});
  }
  void Live(trace::RecordingWriter& writer, uint32_t publisher, uint64_t sequence) {
    const auto number = StoreBigEndian64(sequence);
    const std::array<std::string_view, 3> frames{
        "kv", std::string_view(number.data(), number.size()), payloads_[sequence]};
    ASSERT_TRUE(writer.Frame({}, 1, publisher, false, frames).has_value());
  }
  void Answer(trace::RecordingWriter& writer, uint32_t publisher, uint64_t sequence) {
    const auto number = StoreBigEndian64(sequence);
    const std::string_view payload =
        sequence == UINT64_MAX ? std::string_view() : payloads_[sequence];
    const std::array<std::string_view, 3> frames{"", std::string_view(number.data(), number.size()),
                                                 payload};
    ASSERT_TRUE(writer.Frame({}, 1, publisher, true, frames).has_value());
  }

  // What an instance matches of the whole prompt, and its state.
  std::pair<uint64_t, std::string> Matched(const std::string& instance) {
    const auto answer = conductor_.MakeClient("here")->Score(
        {.query = {.model = "m", .token_ids = prompt_, .instances = {instance}}, .load = {}});
    if (!answer || answer->ranking.empty()) return {0, "none"};
    return {answer->ranking[0].longest_matched, answer->ranking[0].state};
  }
  Result<LoadedRecording> Load() { return LoadRecordings(conductor_, {path_}, {}); }

  std::filesystem::path folder_;
  std::filesystem::path path_;
  std::vector<TokenId> prompt_;
  std::vector<std::string> payloads_;  // by sequence: a block more each
  OfflineConductor conductor_;
};

TEST_F(LoadRecordingsTest, AllPublishersAreFed) {
  Record([&](auto& writer) {
    const uint32_t a = Engine(writer, "a");
    const uint32_t b = Engine(writer, "b");
    for (uint64_t sequence = 0; sequence < 8; ++sequence) {
      Live(writer, a, sequence);
      if (sequence < 3) Live(writer, b, sequence);
    }
  });
  const auto loaded = Load();
  ASSERT_TRUE(loaded.has_value()) << loaded.error().Message();
  EXPECT_EQ(loaded->publishers, 2U);
  EXPECT_EQ(loaded->messages, 11U);
  EXPECT_TRUE(loaded->notes.empty());
  EXPECT_EQ(Matched("a"), std::pair(uint64_t{16}, std::string("live")));
  EXPECT_EQ(Matched("b"), std::pair(uint64_t{6}, std::string("live")));
}

TEST_F(LoadRecordingsTest, TheOnlyModelOfARecordingIsThatOfThoseThatDoNotSayIt) {
  Record([&](auto& writer) {
    Live(writer, Engine(writer, "a"), 0);
    Live(writer, *writer.AddPublisher({}, {.endpoint = "tcp://b:5557"}), 0);
  });
  ASSERT_TRUE(Load().has_value());
  EXPECT_EQ(conductor_.Models(), std::vector<std::string>{"m"});
  EXPECT_EQ(Matched("b:5557"), std::pair(uint64_t{2}, std::string("live")));
}

TEST_F(LoadRecordingsTest, OfSeveralModelsNoneIsTaken) {
  Record([&](auto& writer) {
    Live(writer, Engine(writer, "a"), 0);
    const uint32_t other =
        *writer.AddPublisher({}, {.endpoint = "tcp://b:5557", .facts = R"({"model": "n"})"});
    Live(writer, other, 0);
    Live(writer, *writer.AddPublisher({}, {.endpoint = "tcp://c:5557"}), 0);
  });
  const auto loaded = Load();
  ASSERT_TRUE(loaded.has_value());
  EXPECT_EQ(loaded->notes,
            (std::vector<std::string>{"tcp://c:5557: the recording does not say which model it "
                                      "serves (expected --model NAME)"}));
  EXPECT_EQ(conductor_.Models(), (std::vector<std::string>{"m", "n"}));
}

TEST_F(LoadRecordingsTest, AnAnswerComesBeforeTheLiveMessagesThatWaitForIt) {
  Record([&](auto& writer) {
    const uint32_t a = Engine(writer, "a");
    Live(writer, a, 4);
    for (const uint64_t sequence : {0, 1, 2, 3}) Answer(writer, a, sequence);
    Live(writer, a, 5);
    Answer(writer, a, 4);
    Answer(writer, a, UINT64_MAX);
    Live(writer, a, 6);
    Live(writer, a, 7);
  });
  ASSERT_TRUE(Load().has_value());
  EXPECT_EQ(Matched("a"), std::pair(uint64_t{16}, std::string("live")));
}

TEST_F(LoadRecordingsTest, ALaterAnswerFillsAHole) {
  Record([&](auto& writer) {
    const uint32_t a = Engine(writer, "a");
    Live(writer, a, 0);
    Live(writer, a, 1);
    Live(writer, a, 6);  // 2 to 5 are missing
    for (const uint64_t sequence : {1, 2, 3, 4, 5, 6}) Answer(writer, a, sequence);
    Answer(writer, a, UINT64_MAX);
    Live(writer, a, 7);
  });
  ASSERT_TRUE(Load().has_value());
  EXPECT_EQ(Matched("a"), std::pair(uint64_t{16}, std::string("live")));
}

TEST_F(LoadRecordingsTest, AMarkEndsAnAnswerTooAndPartsNamedTwiceAreReadOnce) {
  Record([&](auto& writer) {
    const uint32_t a = Engine(writer, "a");
    Live(writer, a, 4);
    for (const uint64_t sequence : {0, 1, 2, 3}) Answer(writer, a, sequence);
    ASSERT_TRUE(writer.Mark({}, {.time_ns = 1, .publisher = a, .kind = trace::MarkKind::kReplayEnd})
                    .has_value());
    for (const uint64_t sequence : {5, 6, 7}) Live(writer, a, sequence);
  });
  const auto loaded = LoadRecordings(conductor_, {path_, path_}, {});
  ASSERT_TRUE(loaded.has_value()) << loaded.error().Message();
  EXPECT_EQ(loaded->messages, 8U);
  EXPECT_EQ(Matched("a"), std::pair(uint64_t{16}, std::string("live")));
}

TEST_F(LoadRecordingsTest, AnAnswerWithoutAnEndHoldsNothingUp) {
  Record([&](auto& writer) {
    const uint32_t a = Engine(writer, "a");
    for (const uint64_t sequence : {0, 1, 2}) Answer(writer, a, sequence);
    Live(writer, a, 3);
  });
  ASSERT_TRUE(Load().has_value());
  EXPECT_EQ(Matched("a"), std::pair(uint64_t{8}, std::string("live")));
}

TEST_F(LoadRecordingsTest, AHoleIsAsBadAsItWas) {
  Record([&](auto& writer) {
    const uint32_t a = Engine(writer, "a");
    Live(writer, a, 0);
    Live(writer, a, 2);
    ASSERT_TRUE(
        writer.Mark({}, {.time_ns = 1, .publisher = a, .kind = trace::MarkKind::kLost, .count = 1})
            .has_value());
    const std::array<std::string_view, 2> odd{"kv", "short"};
    ASSERT_TRUE(writer.Frame({}, 1, a, false, odd).has_value());
  });
  const auto loaded = Load();
  ASSERT_TRUE(loaded.has_value());
  EXPECT_EQ(loaded->notes,
            (std::vector<std::string>{"tcp://a:5557: 1 message left out: none of KV events",
                                      "tcp://a:5557: 1 message came and could not be recorded"}));
  EXPECT_EQ(Matched("a").second, "degraded");
}

TEST_F(LoadRecordingsTest, ATornEndIsToldAndTheRestCounts) {
  Record([&](auto& writer) {
    const uint32_t a = Engine(writer, "a");
    for (const uint64_t sequence : {0, 1, 2}) Live(writer, a, sequence);
    ASSERT_TRUE(writer.Flush().has_value());
    Live(writer, a, 3);
  });
  std::filesystem::resize_file(path_, std::filesystem::file_size(path_) - 5);
  const auto loaded = Load();
  ASSERT_TRUE(loaded.has_value()) << loaded.error().Message();
  ASSERT_EQ(loaded->notes.size(), 1U);
  EXPECT_EQ(loaded->notes[0].rfind(path_.string() + ": byte ", 0), 0U) << loaded->notes[0];
  EXPECT_GE(Matched("a").first, 6U);
}

TEST_F(LoadRecordingsTest, WhatCannotBeUsedIsAnError) {
  EXPECT_FALSE(LoadRecordings(conductor_, {folder_ / "nowhere"}, {}).has_value());
  std::ofstream(folder_ / "text") << "this is no recording at all, whatever its name may say";
  EXPECT_FALSE(LoadRecordings(conductor_, {folder_ / "text"}, {}).has_value());
  Record([&](auto& writer) { Engine(writer, "a"); });
  const auto nothing = Load();
  ASSERT_FALSE(nothing.has_value());
  EXPECT_EQ(nothing.error().Message(), path_.string() + ": there are no KV events in it");
}

}  // namespace
}  // namespace conductor::toolkit
