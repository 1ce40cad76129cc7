#include <gtest/gtest.h>

#include <deque>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "daemon/toolkit/redialect.h"
#include "daemon/toolkit/replay_into.h"
#include "daemon/toolkit/replay_publish.h"
#include "lib/wire/decoder.h"
#include "tests/toolkit/source_frames.h"

namespace conductor::toolkit {
namespace {

using What = Numbering::What;
using Mode = Numbering::Mode;

// "next 3", "again 3", "life 0" or "-".
std::string Taken(Numbering& numbering, uint64_t sequence, std::string_view payload,
                  uint32_t publisher = 0) {
  const auto number = numbering.Take(publisher, sequence, payload);
  if (!number) return "-";
  const char* what = number->what == What::kNext ? "next " : "again ";
  if (number->what == What::kNewLife) what = "life ";
  return what + std::to_string(number->sequence);
}

TEST(Numbering, KeepsHolesDuplicatesAndRestarts) {
  Numbering numbering(Mode::kKeep, 0, 1);
  EXPECT_EQ(Taken(numbering, 5, "a"), "next 5");
  EXPECT_EQ(Taken(numbering, 8, "b"), "next 8");
  EXPECT_EQ(Taken(numbering, 8, "b"), "again 8");
  EXPECT_EQ(Taken(numbering, 5, "c"), "life 5");
  EXPECT_EQ(Taken(numbering, 8, "b"), "next 8");
}

TEST(Numbering, ANumberThatNeverCameAndGoesBackIsALifeWhateverItsTime) {
  Numbering numbering(Mode::kKeep, 0, 1);
  EXPECT_EQ(Taken(numbering, 500, Payload({}, 1000)), "next 500");
  EXPECT_EQ(Taken(numbering, 3, Payload({}, 900)), "life 3");
  EXPECT_EQ(Taken(numbering, 0, Payload({}, 1001)), "life 0");
}

TEST(Numbering, RenumbersWithoutHolesAndDuplicates) {
  Numbering numbering(Mode::kRenumber, 0, 1);
  EXPECT_EQ(Taken(numbering, 5, "a"), "next 0");
  EXPECT_EQ(Taken(numbering, 8, "b"), "next 1");
  EXPECT_EQ(Taken(numbering, 8, "b"), "-");
  EXPECT_EQ(Taken(numbering, 5, "c"), "life 0");
}

TEST(Numbering, MergesPublishersThatRestartUnseen) {
  Numbering numbering(Mode::kRenumber, 1, 2);
  EXPECT_EQ(Taken(numbering, 0, "a", 0), "next 1");
  EXPECT_EQ(Taken(numbering, 0, "a", 1), "next 2");
  EXPECT_EQ(Taken(numbering, 0, "b", 1), "next 3");
}

class MooncakeRedialect : public testing::Test {
 protected:
  // What the objects' events say: "+7 cpu", "-7".
  std::string Objects(std::vector<wire::KvEvent> events) {
    const auto payload = redialect_.Encode(Payload(std::move(events), 1.7e9 + 0.25));
    EXPECT_TRUE(payload.has_value());
    const auto batch = wire::Decoder(wire::Dialect::kMooncake).Decode(*payload);
    EXPECT_EQ(batch->timestamp, 1.7e9 + 0.25);
    std::string text;
    for (const wire::KvEvent& event : batch->events) {
      if (const auto* stored = std::get_if<wire::ObjectStored>(&event)) {
        text += "+" + stored->key + " " + *stored->medium + " ";
      } else {
        text += "-" + std::get<wire::ObjectRemoved>(event).key + " ";
      }
    }
    return text;
  }

  Redialect redialect_{wire::Dialect::kVllm, PublishDialect::kMooncake};
};

TEST_F(MooncakeRedialect, ABlockIsAnObjectUntilItIsNowhere) {
  EXPECT_EQ(Objects({Stored(7, 1)}), "+7 cpu ");
  EXPECT_EQ(Objects({Stored(7, 1)}), "");  // a second copy
  EXPECT_EQ(Objects({Removed(7)}), "");
  EXPECT_EQ(Objects({Stored(7, 1, std::nullopt, "CPU"), Removed(7)}), "");
  EXPECT_EQ(Objects({Removed(7, "CPU")}), "-7 ");
  EXPECT_EQ(Objects({Removed(7, "CPU")}), "");
}

TEST_F(MooncakeRedialect, ABlockMovesToDiskWhenItIsOnlyThere) {
  EXPECT_EQ(Objects({Stored(7, 1)}), "+7 cpu ");
  EXPECT_EQ(Objects({Stored(7, 1, std::nullopt, "DISK"), Removed(7)}), "-7 +7 disk ");
}

TEST_F(MooncakeRedialect, AClearedDeviceTakesBackWhatIsNowhereElse) {
  EXPECT_EQ(Objects({Stored(7, 2), Stored(8, 1, 7, "CPU")}), "+7 cpu +8 cpu ");
  EXPECT_EQ(Objects({wire::AllBlocksCleared()}), "-7 ");
}

TEST_F(MooncakeRedialect, AMediumOfNoTierIsLeftOut) {
  EXPECT_EQ(Objects({Stored(7, 1, std::nullopt, "TAPE")}), "");
  EXPECT_EQ(redialect_.left_out(), 1U);
}

TEST(Redialect, ObjectsHaveNoFormInEnginesDialects) {
  Redialect there(wire::Dialect::kVllm, PublishDialect::kMooncake);
  Redialect back(wire::Dialect::kMooncake, PublishDialect::kVllmMap);
  const auto payload = back.Encode(*there.Encode(Payload({Stored(7, 2)})));
  ASSERT_TRUE(payload.has_value());
  EXPECT_TRUE(wire::Decoder(wire::Dialect::kVllm).Decode(*payload)->events.empty());
  EXPECT_EQ(back.left_out(), 2U);
}

TEST(Redialect, WhatIsNoBatchIsAnError) {
  Redialect redialect(wire::Dialect::kVllm, PublishDialect::kSglang);
  EXPECT_FALSE(redialect.Encode("\xc1").has_value());
  EXPECT_FALSE(ParsePublishDialect("vllm").has_value());
}

// A daemon that answers as it is told to.
struct FakeDaemon {
  std::deque<client::Reply> answers;
  std::vector<nlohmann::json> asked;
};

class FakeTransport final : public client::Transport {
 public:
  explicit FakeTransport(FakeDaemon& daemon) : daemon_(daemon) {}
  [[nodiscard]] bool Carries(const client::Request&) const override { return true; }
  [[nodiscard]] tl::expected<client::Reply, client::Failure> Exchange(
      const client::Request& request, const client::Deadlines&) override {
    EXPECT_EQ(request.path, "/v1/ingest");
    daemon_.asked.push_back(nlohmann::json::from_msgpack(request.body));
    client::Reply reply = daemon_.answers.front();
    if (daemon_.answers.size() > 1) daemon_.answers.pop_front();
    return reply;
  }

 private:
  FakeDaemon& daemon_;
};

class IntoSinkTest : public testing::Test {
 protected:
  IntoSink Sink(std::vector<std::string> names = {"a"}) {
    IntoSink::Options options{.body_frames = 3};
    options.url = *client::ConductorUrl::Parse("http://d:1");
    options.hand_in.patience = std::chrono::seconds(1);
    options.hand_in.pause = [this](Duration) { ++pauses_; };
    return {options, Publishers(std::move(names)), std::make_unique<FakeTransport>(daemon_)};
  }
  static client::Reply Says(int status, const char* json) {
    return {.status = status, .form = client::Form::kJson, .body = json};
  }
  // The sequences of each body.
  std::vector<std::vector<uint64_t>> Bodies() const {
    std::vector<std::vector<uint64_t>> bodies;
    for (const auto& body : daemon_.asked) {
      bodies.emplace_back();
      for (const auto& frame : body["frames"]) bodies.back().push_back(frame["sequence"]);
    }
    return bodies;
  }

  FakeDaemon daemon_;
  int pauses_ = 0;
};

TEST_F(IntoSinkTest, AnAnswerThatIsNestedWithoutEndIsNone) {
  IntoSink sink = Sink();
  ASSERT_TRUE(sink.Take(Live(0, Payload({}))));
  const std::string arrays(2'000'000, '\x91');
  daemon_.answers = {{.status = 200, .form = client::Form::kMsgpack, .body = arrays}};
  EXPECT_EQ(sink.Finish().error().Message(),
            "a: http://d:1/v1/ingest: status 200: no answer that can be read");
  daemon_.answers = {
      {.status = 403, .form = client::Form::kJson, .body = std::string(2'000'000, '[')}};
  EXPECT_EQ(sink.Finish().error().Message(),
            "a: http://d:1/v1/ingest: status 403: no answer that can be read");
}

TEST_F(IntoSinkTest, FramesGatherAndTheLastOnesAreWaitedFor) {
  daemon_.answers = {Says(200, R"({"accepted": 3})"), Says(200, R"({"accepted": 1})")};
  IntoSink sink = Sink();
  for (uint64_t i = 0; i < 4; ++i) ASSERT_TRUE(sink.Take(Live(i, Payload({}))));
  ASSERT_TRUE(sink.Finish());
  EXPECT_EQ(Bodies(), (std::vector<std::vector<uint64_t>>{{0, 1, 2}, {3}}));
  EXPECT_FALSE(daemon_.asked[0].contains("wait"));
  EXPECT_EQ(daemon_.asked[1]["wait"], "applied");
  EXPECT_EQ(daemon_.asked[0]["incarnation"], daemon_.asked[1]["incarnation"]);
  EXPECT_EQ(daemon_.asked[0]["publisher"]["mode"], "ingest");
}

TEST_F(IntoSinkTest, AFullQueueGetsTheRestAgain) {
  daemon_.answers = {Says(429, R"({"accepted": 1})"), Says(429, R"({"accepted": 0})"),
                     Says(200, R"({"accepted": 1})")};
  IntoSink sink = Sink();
  for (uint64_t i = 0; i < 2; ++i) ASSERT_TRUE(sink.Take(Live(i, Payload({}))));
  ASSERT_TRUE(sink.Finish());
  EXPECT_EQ(Bodies(), (std::vector<std::vector<uint64_t>>{{0, 1}, {1}, {1}}));
  EXPECT_EQ(pauses_, 2);
}

TEST_F(IntoSinkTest, AQueueThatStaysFullIsGivenUp) {
  daemon_.answers = {Says(429, R"({"accepted": 0})")};
  IntoSink sink = Sink();
  ASSERT_TRUE(sink.Take(Live(0, Payload({}))));
  const Status done = sink.Finish();
  ASSERT_FALSE(done);
  EXPECT_NE(done.error().Message().find("stays full"), std::string::npos);
}

TEST_F(IntoSinkTest, WhoeverTakesLessAndIsNotFullIsBroken) {
  daemon_.answers = {Says(200, R"({"accepted": 0})")};
  IntoSink sink = Sink();
  ASSERT_TRUE(sink.Take(Live(0, Payload({}))));
  EXPECT_EQ(sink.Finish().error().Message(),
            "a: http://d:1/v1/ingest: took 0 of 1 frame and does not say why");
}

TEST_F(IntoSinkTest, ARefusalSaysWhy) {
  daemon_.answers = {Says(400, R"({"error": "modelname is missing"})")};
  IntoSink sink = Sink();
  ASSERT_TRUE(sink.Take(Live(0, Payload({}))));
  const Status done = sink.Finish();
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().Message(), "a: http://d:1/v1/ingest: status 400: modelname is missing");
}

TEST_F(IntoSinkTest, TheSameSourceIsTheSameIncarnationAndAnotherIsNot) {
  daemon_.answers = {Says(200, R"({"accepted": 1})")};
  for (const char* payload : {"a", "a", "b"}) {
    IntoSink sink = Sink();
    ASSERT_TRUE(sink.Take(Live(0, payload)));
    ASSERT_TRUE(sink.Finish());
  }
  EXPECT_EQ(daemon_.asked[0]["incarnation"], daemon_.asked[1]["incarnation"]);
  EXPECT_NE(daemon_.asked[1]["incarnation"], daemon_.asked[2]["incarnation"]);
}

}  // namespace
}  // namespace conductor::toolkit
