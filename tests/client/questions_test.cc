#include "lib/client/questions.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "lib/base/bytes.h"

namespace conductor::client {
namespace {

using Json = nlohmann::json;

std::string Packed(const Json& json) {
  std::string bytes;
  Json::to_msgpack(json, bytes);
  return bytes;
}

Json GoodAnswer() {
  return Json::parse(R"({
    "model": "m", "tenant_id": "default", "prompt_tokens": 40,
    "instances": [
      {"instance_id": "a", "serves_model": true, "longest_matched": 32, "gpu": 16, "cpu": 32,
       "disk": 32, "block_size": 16, "prompt_blocks": 2,
       "ranks": {"0": {"gpu": 16, "cpu": 32, "disk": 32}, "1": {"gpu": 0, "cpu": 0, "disk": 0}},
       "state": "live", "reason": "", "lag_seconds": 0.25},
      {"instance_id": "b", "serves_model": false, "longest_matched": 0, "gpu": 0, "cpu": 0,
       "disk": 0, "block_size": 0, "prompt_blocks": 0, "ranks": {}, "state": "connecting",
       "reason": "unreachable", "detail": "nobody there", "lag_seconds": null}],
    "unknown_instances": ["c"], "reason": "", "reason_detail": ""})");
}

TEST(Questions, AQueryIsOneMapWithItsTokensPacked) {
  const std::vector<uint32_t> tokens = {1, 2, 300, 0xffffffff};
  // {"model": "m", "token_ids": bin of four little-endian 32-bit integers}
  EXPECT_EQ(ToHex(QueryBody({.model = "m", .token_ids = tokens})),
            "82a56d6f64656ca16da9746f6b656e5f696473"
            "c41001000000020000002c010000ffffffff");
}

TEST(Questions, AQueryHasTheFieldsThatAreGiven) {
  const std::vector<uint64_t> hashes = {1};
  const Json json = Json::from_msgpack(QueryBody({.model = "m",
                                                  .prefix_hashes = hashes,
                                                  .tenant_id = "t",
                                                  .lora_name = "l",
                                                  .cache_salt = "c",
                                                  .additional_salt = "",
                                                  .block_size = 16,
                                                  .instances = {"a", "b"},
                                                  .top = 3}));
  EXPECT_EQ(json, (Json{{"model", "m"},
                        {"prefix_hashes", Json::binary({1, 0, 0, 0, 0, 0, 0, 0})},
                        {"tenant_id", "t"},
                        {"lora_name", "l"},
                        {"cache_salt", "c"},
                        {"additional_salt", ""},
                        {"block_size", 16},
                        {"instances", {"a", "b"}},
                        {"top", 3}}));
}

TEST(Questions, AScoreHasTheLoadThatIsKnown) {
  const Json json = Json::from_msgpack(ScoreBody(
      {.query = {.model = "m"}, .load = {{"a", {.waiting = 2, .kv_use = 0.5}}, {"b", {}}}}));
  EXPECT_EQ(json["load"],
            (Json{{"a", {{"waiting", 2.0}, {"kv_use", 0.5}}}, {"b", Json::object()}}));
}

TEST(Questions, AnAnswerIsReadWhole) {
  const auto answer = ReadQueryAnswer(Packed(GoodAnswer()));
  ASSERT_TRUE(answer.has_value()) << answer.error().Message();
  EXPECT_EQ(answer->prompt_tokens, 40U);
  ASSERT_EQ(answer->instances.size(), 2U);
  const InstanceFigures& a = answer->instances[0];
  EXPECT_EQ(a.instance_id, "a");
  EXPECT_TRUE(a.serves_model);
  EXPECT_EQ(a.longest_matched, 32U);
  EXPECT_EQ(a.tiers.gpu, 16U);
  EXPECT_EQ(a.tiers.cpu, 32U);
  EXPECT_EQ(a.ranks.at(0).disk, 32U);
  EXPECT_EQ(a.ranks.size(), 2U);
  EXPECT_EQ(a.state, "live");
  EXPECT_EQ(a.detail, "");
  EXPECT_EQ(a.lag_seconds, 0.25);
  const InstanceFigures& b = answer->instances[1];
  EXPECT_EQ(b.detail, "nobody there");
  EXPECT_FALSE(b.lag_seconds.has_value());
  EXPECT_EQ(answer->unknown_instances, std::vector<std::string>{"c"});
}

TEST(Questions, WhatIsWrongInAnAnswerIsToldWithItsPlace) {
  struct Case {
    const char* pointer;  // what is changed
    Json value;           // null at a field that may not be null; discarded: removed
    const char* message;
  };
  const Json removed(Json::value_t::discarded);
  const Case cases[] = {
      {"/instances/1/gpu", "0", "its answer: instances[1].gpu: is text (expected an integer)"},
      {"/instances/1/gpu", -1,
       "its answer: instances[1].gpu: is out of range (expected an integer from 0 to "
       "18446744073709551615)"},
      {"/instances/0/block_size", 1ULL << 32,
       "its answer: instances[0].block_size: is out of range (expected an integer from 0 to "
       "4294967295)"},
      {"/instances/0/state", nullptr, "its answer: instances[0].state: is nil (expected text)"},
      {"/instances/0/serves_model", 1,
       "its answer: instances[0].serves_model: is an integer (expected a boolean)"},
      {"/instances/0/ranks/0/cpu", removed,
       "its answer: instances[0].ranks.0.cpu: is missing (expected an integer)"},
      {"/instances/0/lag_seconds", "0.1",
       "its answer: instances[0].lag_seconds: is text (expected a number)"},
      {"/instances/0", 1, "its answer: instances[0]: is an integer (expected a map)"},
      {"/instances", removed, "its answer: instances: is missing (expected an array)"},
      {"/unknown_instances/0", 1,
       "its answer: unknown_instances[0]: is an integer (expected text)"},
      {"/reason", removed, "its answer: reason: is missing (expected text)"},
  };
  for (const Case& bad : cases) {
    Json json = GoodAnswer();
    const Json::json_pointer pointer(bad.pointer);
    if (bad.value.is_discarded()) {
      json.at(pointer.parent_pointer()).erase(pointer.back());
    } else {
      json[pointer] = bad.value;
    }
    const auto answer = ReadQueryAnswer(Packed(json));
    ASSERT_FALSE(answer.has_value()) << bad.message;
    EXPECT_EQ(answer.error().Message(), bad.message);
  }
  Json ranks = GoodAnswer();
  ranks["instances"][0]["ranks"] = {{"first", {{"gpu", 0}, {"cpu", 0}, {"disk", 0}}}};
  EXPECT_FALSE(ReadQueryAnswer(Packed(ranks)).has_value());
  for (const char* garbage : {"", "\xc1", "\x01", "{}"}) {
    EXPECT_FALSE(ReadQueryAnswer(garbage).has_value());
    EXPECT_FALSE(ReadScoreAnswer(garbage).has_value());
  }
  EXPECT_FALSE(ReadQueryAnswer(Packed(GoodAnswer()) + '\0').has_value()) << "a byte behind it";
}

TEST(Questions, FieldsThatANewerConductorHasArePassedOver) {
  Json json = GoodAnswer();
  json["nearest"] = "m2";
  json["instances"][0]["temperature"] = 20;
  EXPECT_TRUE(ReadQueryAnswer(Packed(json)).has_value());
}

TEST(Questions, AScoreAnswerIsARanking) {
  const Json json = Json::parse(R"({
    "model": "m", "tenant_id": "default", "prompt_tokens": null,
    "ranking": [{"instance_id": "a", "score": 12.5, "longest_matched": 32, "gpu": 16, "cpu": 32,
                 "disk": 32, "block_size": 16, "state": "live", "reason": "", "lag_seconds": null,
                 "parts": {"saved_gpu": 16.0, "saved_cpu": 12.8, "saved_disk": 0.0, "trust": 0.5,
                           "queue": 1.5, "memory": 0.5}}],
    "reason": "unknown_block_size", "reason_detail": "there are: 16", "nearest": "16"})");
  const auto answer = ReadScoreAnswer(Packed(json));
  ASSERT_TRUE(answer.has_value()) << answer.error().Message();
  EXPECT_FALSE(answer->prompt_tokens.has_value());
  ASSERT_EQ(answer->ranking.size(), 1U);
  EXPECT_EQ(answer->ranking[0].score, 12.5);
  EXPECT_EQ(answer->ranking[0].tiers.cpu, 32U);
  ASSERT_TRUE(answer->ranking[0].parts.has_value());
  const ScoreParts& parts = *answer->ranking[0].parts;
  EXPECT_EQ(parts.saved_gpu, 16);
  EXPECT_EQ(parts.saved_cpu, 12.8);
  EXPECT_EQ(parts.saved_disk, 0);
  EXPECT_EQ(parts.trust, 0.5);
  EXPECT_EQ(parts.queue, 1.5);
  EXPECT_EQ(parts.memory, 0.5);
  EXPECT_EQ(answer->nearest, "16");
  Json without = json;
  without["ranking"][0]["parts"].erase("queue");
  EXPECT_EQ(ReadScoreAnswer(Packed(without)).error().Message(),
            "its answer: ranking[0].parts.queue: is missing (expected a number)");
  without["ranking"][0]["parts"] = 1;
  EXPECT_EQ(ReadScoreAnswer(Packed(without)).error().Message(),
            "its answer: ranking[0].parts: is an integer (expected a map)");
  without["ranking"][0].erase("parts");
  EXPECT_FALSE(ReadScoreAnswer(Packed(without))->ranking[0].parts.has_value());
}

TEST(Questions, PublishersAreReadStrictly) {
  const std::string good = R"({"count": 1, "publishers": [
    {"id": "a|default|0", "type": "vLLM", "instance_id": "a", "tenant_id": "default", "model": "m",
     "dp_rank": 0, "endpoint": "tcp://127.0.0.1:5557", "block_size": 16, "state": "live",
     "reason": "", "detail": "", "cursor": null, "counters": {}}]})";
  const auto publishers = ReadPublishers(good);
  ASSERT_TRUE(publishers.has_value()) << publishers.error().Message();
  ASSERT_EQ(publishers->size(), 1U);
  EXPECT_EQ((*publishers)[0].id, "a|default|0");
  EXPECT_EQ((*publishers)[0].block_size, 16U);
  EXPECT_FALSE((*publishers)[0].cursor.has_value());

  std::string bad = good;
  bad.replace(bad.find("\"dp_rank\": 0"), 12, "\"dp_rank\": -1");
  EXPECT_EQ(ReadPublishers(bad).error().Message(),
            "its answer: publishers[0].dp_rank: is no such number (expected an integer from 0 to "
            "4294967295)");
  for (const char* garbage : {"", "[]", "{}", R"({"publishers": [1]})", "<html>"}) {
    EXPECT_FALSE(ReadPublishers(garbage).has_value()) << garbage;
  }
}

TEST(Questions, ARefusalIsToldInItsOwnWords) {
  const Json error = {{"error", "model is required"}, {"reason", "missing"}};
  EXPECT_EQ(DescribeRefusal({400, Form::kJson, error.dump()}),
            "status 400: model is required (missing)");
  EXPECT_EQ(DescribeRefusal({400, Form::kMsgpack, Packed(error)}),
            "status 400: model is required (missing)");
  EXPECT_EQ(DescribeRefusal({502, Form::kJson, "<html>Bad Gateway</html>"}), "status 502");
  EXPECT_EQ(DescribeRefusal({500, Form::kMsgpack, ""}), "status 500");
  EXPECT_EQ(DescribeRefusal({500, Form::kMsgpack, std::string(100000, '\x91') + '\xc0'}),
            "status 500");
  EXPECT_EQ(DescribeRefusal({500, Form::kJson, std::string(100000, '[')}), "status 500");
}

}  // namespace
}  // namespace conductor::client
