#include "daemon/toolkit/offline_conductor.h"

#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "lib/base/log.h"
#include "lib/trace/simulated_engine.h"
#include "lib/wire/vllm_encoder.h"

namespace conductor::toolkit {
namespace {

using Messages = std::vector<stream::Intake::Message>;

class OfflineConductorTest : public testing::Test {
 protected:
  OfflineConductorTest() { log::SetLevel(log::Level::kError); }

  static serve::Registration Publisher(const std::string& instance) {
    serve::Registration registration;
    registration.mode = stream::ListenMode::kIngest;
    registration.model = "m";
    registration.instance_id = instance;
    registration.block_size = 2;
    return registration;
  }
  // What an engine that runs `prompts` says.
  static Messages Of(const std::vector<std::vector<TokenId>>& prompts) {
    trace::SimulatedEngine engine({.seed = 1, .block_size = 2, .capacity_blocks = 64});
    Messages messages;
    for (const auto& prompt : prompts) {
      wire::EventBatch batch{.timestamp = 1700000000, .events = engine.Run(prompt)};
      messages.push_back({"", messages.size(), wire::EncodeVllmBatch(batch)});
    }
    return messages;
  }
  uint64_t Matched(const std::string& instance, const std::vector<TokenId>& prompt) {
    const auto answer = conductor_.MakeClient("here")->Score(
        {.query = {.model = "m", .token_ids = prompt, .instances = {instance}}, .load = {}});
    EXPECT_TRUE(answer.has_value()) << answer.error().Message();
    if (!answer || answer->ranking.empty()) return 0;
    state_ = answer->ranking[0].state;
    return answer->ranking[0].longest_matched;
  }

  OfflineConductor conductor_;
  std::string state_;
};

TEST_F(OfflineConductorTest, AnswersAsADaemonDoesWhatItWasFed) {
  Messages messages = Of({{1, 2, 3, 4, 5, 6}, {1, 2, 7, 8}});
  ASSERT_TRUE(conductor_.Feed(Publisher("a"), messages));
  ASSERT_TRUE(conductor_.Settle());
  EXPECT_EQ(Matched("a", {1, 2, 3, 4, 9, 9}), 4U);
  EXPECT_EQ(Matched("a", {1, 2, 7, 8}), 4U);
  EXPECT_EQ(state_, "live");
}

TEST_F(OfflineConductorTest, EveryRouteIsAsked) {
  Messages messages = Of({{1, 2}});
  ASSERT_TRUE(conductor_.Feed(Publisher("a"), messages));
  const auto client = conductor_.MakeClient("here");
  const auto publishers = client->Publishers();
  ASSERT_TRUE(publishers.has_value()) << publishers.error().Message();
  ASSERT_EQ(publishers->size(), 1U);
  EXPECT_EQ(publishers->front().id, "a|default|0");
  EXPECT_TRUE(client->Get("/v1/instances/a").has_value());
  EXPECT_TRUE(client->Get("/readyz").has_value());
  EXPECT_TRUE(client->Post("/v1/publishers/a%7Cdefault%7C0/clear", "").has_value())
      << "what is an admin's to ask";
  EXPECT_EQ(Matched("a", {1, 2}), 0U);
}

TEST_F(OfflineConductorTest, ARefusalIsToldInTheWordsOfTheApi) {
  const auto client = conductor_.MakeClient("here");
  EXPECT_EQ(client->Get("/v1/nowhere").error().Message(),
            "here: status 404: there is nothing at this path (unknown_path)");
  EXPECT_EQ(client->Get("/v1/query").error().Message(),
            "here: status 405: /v1/query takes POST (method_not_allowed)");
  EXPECT_EQ(client->Get("/v1/publishers?all=1").has_value(), true);
  const auto refused = client->Post("/v1/query", R"({"token_ids": [1]})");
  EXPECT_EQ(refused.error().Message(), "here: status 400: model is required (missing)");
}

TEST_F(OfflineConductorTest, WhatHasNoEndCannotBeAsked) {
  EXPECT_FALSE(conductor_.MakeClient("here")->Get("/v1/events").has_value());
  EXPECT_FALSE(conductor_.MakeClient("here")->Get("/v1/events?publisher=a").has_value());
}

TEST_F(OfflineConductorTest, APublisherThatCannotBeIsNamed) {
  serve::Registration nameless = Publisher("a");
  nameless.model = "";
  Messages messages = Of({{1, 2}});
  const Status fed = conductor_.Feed(nameless, messages);
  ASSERT_FALSE(fed.has_value());
  EXPECT_EQ(fed.error().Message().rfind("a|default|0", 0), 0U) << fed.error().Message();
}

TEST_F(OfflineConductorTest, AStreamThatBeginsLateIsIncomplete) {
  Messages messages = Of({{1, 2}, {3, 4}});
  ASSERT_TRUE(conductor_.Feed(Publisher("a"), std::span(messages).subspan(1)));
  ASSERT_TRUE(conductor_.Settle());
  EXPECT_EQ(Matched("a", {3, 4}), 2U);
  EXPECT_EQ(state_, "degraded");
}

TEST_F(OfflineConductorTest, ALateStopEndsTheFeeding) {
  std::stop_source stop;
  stop.request_stop();
  Messages messages = Of({{1, 2}});
  EXPECT_FALSE(conductor_.Feed(Publisher("a"), messages, stop.get_token()).has_value());
}

TEST(OfflineConductorsQueue, IsWaitedForWhereItIsFull) {
  log::SetLevel(log::Level::kError);
  OfflineConductor::Options options;
  options.registry.stream.max_pending_bytes = 100;  // less than two of the messages
  OfflineConductor conductor(options);
  const auto publish = [&conductor](const std::string& instance) {
    serve::Registration registration;
    registration.mode = stream::ListenMode::kIngest;
    registration.model = "m";
    registration.instance_id = instance;
    trace::SimulatedEngine engine({.seed = 1, .block_size = 2, .capacity_blocks = 500});
    Messages messages;
    for (TokenId token = 0; token < 300; ++token) {
      const std::vector<TokenId> prompt{token, token};
      wire::EventBatch batch{.timestamp = 1700000000, .events = engine.Run(prompt)};
      messages.push_back({"", messages.size(), wire::EncodeVllmBatch(batch)});
    }
    EXPECT_TRUE(conductor.Feed(registration, messages));
  };
  std::thread other(publish, "b");
  publish("a");
  other.join();
  ASSERT_TRUE(conductor.Settle());
  const auto publishers = conductor.MakeClient("here")->Publishers();
  ASSERT_TRUE(publishers.has_value());
  ASSERT_EQ(publishers->size(), 2U);
  for (const auto& publisher : *publishers) {
    EXPECT_EQ(publisher.cursor, 299U);
    EXPECT_EQ(publisher.state, "live");
  }
}

}  // namespace
}  // namespace conductor::toolkit
