#include "daemon/serve/http_api.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <cctype>
#include <fstream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "lib/trace/simulated_engine.h"
#include "lib/trace/simulated_publisher.h"
#include "tests/serve/eventually.h"
#include "tests/serve/http_api_page.h"
#include "tests/serve/http_client.h"

namespace conductor::serve {
namespace {

using namespace std::chrono_literals;
using Json = nlohmann::json;

class HttpApiTest : public testing::Test {
 protected:
  HttpApiTest() : registry_(Registry::Options{}), api_(registry_, {.port = 0}) {
    const auto port = api_.Start();
    EXPECT_TRUE(port.has_value()) << port.error().Message();
    port_ = port.value_or(0);
    client_ = std::make_unique<HttpClient>(port_);
  }

  // The answer's body; its status in status_.
  Json Post(const std::string& path, const Json& body) { return PostText(path, body.dump()); }
  Json PostText(const std::string& path, const std::string& body) {
    const Reply reply = client_->Post(path, body);
    status_ = reply.status;
    return Json::parse(reply.body, nullptr, false);
  }
  Json Get(const std::string& path) {
    const Reply reply = client_->Get(path);
    status_ = reply.status;
    return Json::parse(reply.body, nullptr, false);
  }

  // A registration whose publisher never comes.
  static Json Absent(const std::string& instance_id, int port, int dp_rank = 0) {
    return {{"endpoint", "tcp://127.0.0.1:" + std::to_string(port)},
            {"type", "vLLM"},
            {"modelname", "m"},
            {"instance_id", instance_id},
            {"dp_rank", dp_rank},
            {"block_size", 16}};
  }

  Registry registry_;
  HttpApi api_;
  uint16_t port_ = 0;
  std::unique_ptr<HttpClient> client_;
  int status_ = 0;
};

TEST_F(HttpApiTest, RegistersListsAndUnregisters) {
  EXPECT_EQ(Post("/register", Absent("a", 1)),
            (Json{{"status", "registered successfully"}, {"instance_id", "a"}}));
  EXPECT_EQ(status_, 200);

  const Json services = Get("/services");
  EXPECT_EQ(services["count"], 1);
  Json service = services["services"][0];
  EXPECT_EQ(service["State"], "connecting");
  service.erase("State");
  service.erase("Reason");
  service.erase("Detail");
  EXPECT_EQ(service, (Json{{"Endpoint", "tcp://127.0.0.1:1"},
                           {"ReplayEndpoint", ""},
                           {"Type", "vLLM"},
                           {"ModelName", "m"},
                           {"LoraName", ""},
                           {"TenantID", "default"},
                           {"InstanceID", "a"},
                           {"BlockSize", 16},
                           {"DPRank", 0},
                           {"AdditionalSalt", ""},
                           {"HashProfile", nullptr},
                           {"Incarnation", ""},
                           {"Lives", 0},
                           {"Cursor", nullptr},
                           {"HighestSeen", nullptr},
                           {"LastEventAgeSeconds", nullptr},
                           {"HashMatchRate", nullptr}}));

  EXPECT_EQ(
      Post("/unregister", {{"instance_id", "a"}}),
      (Json{{"status", "unregistered successfully"}, {"removed_instances", {"a|default|0"}}}));
  EXPECT_EQ(status_, 200);
  EXPECT_EQ(Post("/unregister", {{"instance_id", "a"}}),
            (Json{{"error", "service not found: a|default|0"}, {"reason", "unknown_service"}}));
  EXPECT_EQ(status_, 404);
  EXPECT_EQ(Get("/services"), (Json{{"count", 0}, {"services", Json::array()}}));
}

TEST_F(HttpApiTest, ARepeatedRegistrationIsFineAndAConflictIsNot) {
  Post("/register", Absent("a", 1));
  Post("/register", Absent("a", 1));
  EXPECT_EQ(status_, 200);

  const Json other_values = Post("/register", Absent("a", 2));
  EXPECT_EQ(status_, 400);
  EXPECT_EQ(other_values["reason"], "invalid_registration");
  EXPECT_NE(other_values["error"].get<std::string>().find(
                "conflicting registration for service key: a|default|0"),
            std::string::npos);

  const Json same_endpoint = Post("/register", Absent("b", 1));
  EXPECT_EQ(status_, 400);
  EXPECT_EQ(same_endpoint["reason"], "invalid_registration");
  EXPECT_EQ(same_endpoint["field"], "endpoint");

  Json bad_address = Absent("c", 3);
  bad_address["endpoint"] = "http://127.0.0.1:5557";
  EXPECT_EQ(Post("/register", bad_address)["field"], "endpoint");
  EXPECT_EQ(status_, 500) << "as in that generation";
  EXPECT_EQ(registry_.size(), 1U);
}

TEST_F(HttpApiTest, FieldsThatSayNothingAreTold) {
  Json registration = Absent("a", 1);
  registration["hash_profile"] = {{"algorithm", "sha256"}, {"root_digest", "00"}};
  registration["blocksize"] = 16;
  EXPECT_EQ(Post("/register", registration)["unused_fields"],
            (Json{"hash_profile.root_digest", "blocksize"}));
}

TEST_F(HttpApiTest, OneRegistrationMayStandForAllRanksOfAnEngine) {
  Json ranks = Absent("a", 1);
  ranks["dp_size"] = 3;
  EXPECT_EQ(
      Post("/register", ranks),
      (Json{{"status", "registered successfully"}, {"instance_id", "a"}, {"dp_ranks", {0, 1, 2}}}));
  const Json services = Get("/services");
  EXPECT_EQ(services["count"], 3);
  EXPECT_EQ(services["services"][2]["Endpoint"], "tcp://127.0.0.1:3");
  EXPECT_EQ(services["services"][2]["DPRank"], 2);
  Post("/register", ranks);
  EXPECT_EQ(status_, 200) << "the same again";
  EXPECT_EQ(Post("/unregister", {{"instance_id", "a"}, {"dp_rank", 2}})["removed_instances"],
            (Json{"a|default|2"}));
  EXPECT_EQ(registry_.size(), 2U);
}

TEST_F(HttpApiTest, ARankThatCannotBeAddedTakesTheOthersBack) {
  Post("/register", Absent("other", 3));
  Json ranks = Absent("a", 1);
  ranks["dp_size"] = 3;
  const Json refused = Post("/register", ranks);
  EXPECT_EQ(status_, 400);
  EXPECT_EQ(refused["field"], "endpoint");
  EXPECT_NE(refused["error"].get<std::string>().find("rank 2: conflicting active registration"),
            std::string::npos)
      << refused;
  EXPECT_EQ(registry_.size(), 1U);

  Post("/register", Absent("a", 1));
  EXPECT_EQ(status_, 200);
  Post("/register", ranks);
  EXPECT_EQ(status_, 400);
  EXPECT_EQ(registry_.size(), 2U) << "rank 0 was there before";
}

TEST_F(HttpApiTest, WhatAPublisherWasRegisteredAsIsShown) {
  Json registration = Absent("a", 1);
  registration["mode"] = "bind";
  registration["peer"] = "127.0.0.2";
  registration["type"] = "sglang";
  registration["incarnation"] = "pod-7f3a";
  registration["ttl"] = {{"disk", "90m"}};
  registration["hash_profile"] = {{"algorithm", "sha256"}, {"python_hash_seed", "0"}};
  ASSERT_EQ(Post("/register", registration)["status"], "registered successfully");
  const Json profile = {{"strategy", "vllm_v1"},
                        {"algorithm", "sha256"},
                        {"python_hash_seed", "0"},
                        {"index_projection", "low64_be"}};
  const Json shown = Get("/v1/publishers/a%7Cdefault%7C0");
  ASSERT_EQ(status_, 200) << shown;
  EXPECT_EQ(shown["type"], "SGLang");
  EXPECT_EQ(shown["mode"], "bind");
  EXPECT_EQ(shown["peer"], "127.0.0.2");
  EXPECT_EQ(shown["incarnation"], "pod-7f3a");
  EXPECT_EQ(shown["ttl"], (Json{{"disk", "90m"}}));
  EXPECT_EQ(shown["hash_profile"], profile);
  EXPECT_EQ(shown["hash_check"],
            (Json{{"checked", 0}, {"matched", 0}, {"match_rate", nullptr}, {"hint", ""}}));
  EXPECT_FALSE(shown.contains("pool"));
  EXPECT_EQ(Get("/services")["services"][0]["HashProfile"], profile);
}

TEST_F(HttpApiTest, WhatAPoolWasRegisteredAsIsShown) {
  Json registration = Absent("p", 1);
  registration["type"] = "Mooncake";
  registration["tp_size"] = 8;
  registration["pool_lookup"] = "continue";
  registration["admin_endpoint"] = "http://127.0.0.1:2";
  registration["key_models"] = {{"prod@M", "m"}};
  ASSERT_EQ(Post("/register", registration)["status"], "registered successfully");
  const Json pool = Get("/v1/publishers/p|default|0")["pool"];
  EXPECT_EQ(pool["tp_size"], 8);
  EXPECT_EQ(pool["kv_heads"], nullptr);
  EXPECT_EQ(pool["pool_lookup"], "continue");
  EXPECT_EQ(pool["admin_endpoint"], "127.0.0.1:2");
  EXPECT_EQ(pool["key_models"], (Json{{"prod@M", "m"}}));
  EXPECT_EQ(pool["objects"], 0);
}

TEST_F(HttpApiTest, OnePublisherIsAskedForByItsPercentEncodedId) {
  Post("/register", Absent("team/a b%41", 1));
  EXPECT_EQ(Get("/v1/publishers/team%2Fa%20b%2541%7cdefault%7c0")["instance_id"], "team/a b%41");
  EXPECT_EQ(status_, 200);
  EXPECT_EQ(Get("/v1/publishers/nobody%7Cdefault%7C0"),
            (Json{{"error",
                   "no publisher has the id 'nobody|default|0' (expected one that GET "
                   "/v1/publishers lists, percent-encoded)"},
                  {"reason", "unknown_publisher"}}));
  EXPECT_EQ(status_, 404);
  for (const char* path : {"/v1/publishers/", "/v1/publishers/a/b", "/v1/publishers//resync"}) {
    EXPECT_EQ(Get(path)["reason"], "unknown_path") << path;
  }
}

TEST_F(HttpApiTest, ResyncAndClearOfAnUnknownPublisherAreStatus404) {
  for (const char* path :
       {"/v1/publishers/a%7Cdefault%7C0/resync", "/v1/publishers/a%7Cdefault%7C0/clear"}) {
    EXPECT_EQ(PostText(path, "")["reason"], "unknown_publisher") << path;
    EXPECT_EQ(status_, 404) << path;
  }
}

TEST_F(HttpApiTest, TheMooncakeQueryListsAllInstancesOfTheTenant) {
  EXPECT_EQ(Post("/query", {{"model", "m"}, {"token_ids", {1, 2}}}), Json::object());
  EXPECT_EQ(status_, 200);
  EXPECT_EQ(Post("/query", {{"model", "m"}, {"token_ids", {1, 2}}, {"instance_id", "x"}}),
            Json::object());
  Post("/register", Absent("a", 1));
  Post("/register", Absent("a", 2, 1));
  Post("/register", Absent("quote \" and \\ and \u00fc", 3));
  const Json zeros = {{"longest_matched", 0}, {"GPU", 0}, {"CPU", 0}, {"DISK", 0}};
  Json two_ranks = zeros;
  two_ranks["DP"] = {{"0", 0}, {"1", 0}};
  Json one_rank = zeros;
  one_rank["DP"] = {{"0", 0}};
  Json no_rank = zeros;
  no_rank["DP"] = Json::object();
  EXPECT_EQ(Post("/query", {{"model", "m"}, {"block_size", 16}, {"token_ids", {1, 2}}}),
            (Json{{"default", {{"a", two_ranks}, {"quote \" and \\ and \u00fc", one_rank}}}}));
  EXPECT_EQ(Post("/query", {{"model", "m"}, {"token_ids", {1}}, {"instance_id", "a"}}),
            (Json{{"default", {{"a", two_ranks}}}}));
  EXPECT_EQ(Post("/query", {{"model", "m"}, {"token_ids", {1}}, {"instance_id", "x"}}),
            (Json{{"default", {{"x", no_rank}}}}));
  EXPECT_EQ(Post("/query", {{"model", "m"}, {"token_ids", {1}}, {"tenant_id", "other"}}),
            Json::object());
}

TEST_F(HttpApiTest, TheRankedQuerySaysWhyNothingMatches) {
  Post("/register", Absent("a", 1));
  Post("/register", Absent("b", 2));
  const Json answer = Post("/v1/query", {{"model", "m"}, {"token_ids", std::vector<int>(40)}});
  EXPECT_EQ(status_, 200);
  EXPECT_EQ(answer["model"], "m");
  EXPECT_EQ(answer["tenant_id"], "default");
  EXPECT_EQ(answer["prompt_tokens"], 40);
  EXPECT_EQ(answer["reason"], "");
  EXPECT_EQ(answer["reason_detail"], "");
  ASSERT_EQ(answer["instances"].size(), 2U);
  Json a = answer["instances"][0];
  a.erase("detail");
  a.erase("reason");
  EXPECT_EQ(a, (Json{{"instance_id", "a"},
                     {"serves_model", true},
                     {"longest_matched", 0},
                     {"gpu", 0},
                     {"cpu", 0},
                     {"disk", 0},
                     {"block_size", 16},
                     {"prompt_blocks", 2},
                     {"ranks", {{"0", {{"gpu", 0}, {"cpu", 0}, {"disk", 0}}}}},
                     {"state", "connecting"},
                     {"lag_seconds", nullptr}}));

  EXPECT_EQ(Post("/v1/query", {{"model", "x"}, {"token_ids", {1}}})["reason"], "unknown_model");
  EXPECT_EQ(Post("/v1/query", {{"model", "m"}, {"token_ids", {1}}, {"block_size", 32}})["reason"],
            "unknown_block_size");
  EXPECT_EQ(Post("/v1/query", {{"model", "m"}, {"token_ids", {1}}, {"tenant_id", "t"}})["reason"],
            "unknown_tenant");
  const Json top = Post("/v1/query", {{"model", "m"}, {"token_ids", {1}}, {"top", 1}});
  EXPECT_EQ(top["instances"].size(), 1U);
  const Json some =
      Post("/v1/query", {{"model", "m"}, {"token_ids", {1}}, {"instances", {"b", "x", "x"}}});
  EXPECT_EQ(some["instances"].size(), 1U);
  EXPECT_EQ(some["unknown_instances"], Json{"x"});
}

TEST_F(HttpApiTest, AScoreRanksTheInstancesThatServeTheModel) {
  Post("/register", Absent("a", 1));
  Post("/register", Absent("b", 2));
  Json other = Absent("c", 3);
  other["modelname"] = "other";
  Post("/register", other);
  const Json answer =
      Post("/v1/score", {{"model", "m"},
                         {"token_ids", std::vector<int>(40)},
                         {"load", {{"a", {{"waiting", 3}}}, {"b", {{"waiting", 1}}}}}});
  EXPECT_EQ(status_, 200);
  ASSERT_EQ(answer["ranking"].size(), 2U);
  EXPECT_EQ(answer["ranking"][0]["instance_id"], "b");
  EXPECT_EQ(answer["ranking"][0]["score"], 0.0);
  EXPECT_EQ(answer["ranking"][1]["instance_id"], "a");
  EXPECT_NEAR(answer["ranking"][1]["parts"]["queue"].get<double>(), 0.5 * 40 * 2 / 3, 0.01);
  EXPECT_EQ(Post("/v1/score", {{"model", "m"}, {"token_ids", {1}}, {"top", 1}})["ranking"].size(),
            1U);
}

TEST_F(HttpApiTest, AScoreTellsOfLoadsThatAreNobodys) {
  Post("/register", Absent("a", 1));
  const Json answer =
      Post("/v1/score",
           {{"model", "m"},
            {"token_ids", {1}},
            {"instances", {"a", "x"}},
            {"load", {{"a", {{"waiting", 3}}}, {"A", {{"waiting", 1}}}, {"x", {{"waiting", 1}}}}}});
  EXPECT_EQ(answer["unknown_instances"], (Json{"x", "A"}));
}

TEST_F(HttpApiTest, AnExplanationSaysWhatIsWrongWithAnInstance) {
  Post("/register", Absent("a", 1));
  const Json prompt = std::vector<int>(40);
  const Json answer =
      Post("/v1/explain", {{"model", "x"}, {"token_ids", prompt}, {"instance_id", "a"}});
  EXPECT_EQ(status_, 200);
  EXPECT_EQ(answer["cause"], "other_namespace");
  EXPECT_EQ(answer["field_of"], "request");
  EXPECT_EQ(answer["field"], "model");
  EXPECT_EQ(answer["expected"], "m");
  EXPECT_EQ(Post("/v1/explain", {{"model", "m"}, {"token_ids", prompt}})["field"], "instance_id");
  EXPECT_EQ(status_, 400);
  const Json refused = Post(
      "/v1/explain", {{"model", "m"}, {"token_ids", prompt}, {"instance_id", "a"}, {"top", 1}});
  EXPECT_EQ(refused["reason"], "unknown_field");
}

TEST_F(HttpApiTest, EqualScoresTakeTurns) {
  Post("/register", Absent("a", 1));
  Post("/register", Absent("b", 2));
  std::map<std::string, int> first;
  for (int i = 0; i < 10; ++i) {
    const Json answer = Post("/v1/score", {{"model", "m"}, {"token_ids", {1}}});
    ++first[answer["ranking"][0]["instance_id"].get<std::string>()];
  }
  EXPECT_EQ(first, (std::map<std::string, int>{{"a", 5}, {"b", 5}}));
}

TEST_F(HttpApiTest, ABatchIsAnsweredInOrder) {
  Post("/register", Absent("a", 1));
  const Json answer =
      Post("/v1/query",
           {{"model", "m"}, {"prompts", {{{"token_ids", {1}}}, {{"token_ids", {1, 2, 3}}}}}});
  ASSERT_EQ(answer["answers"].size(), 2U);
  EXPECT_EQ(answer["answers"][0]["prompt_tokens"], 1);
  EXPECT_EQ(answer["answers"][1]["prompt_tokens"], 3);
  EXPECT_EQ(Post("/v1/query", {{"model", "m"}, {"prompts", Json::array()}}),
            (Json{{"answers", Json::array()}}));
}

TEST_F(HttpApiTest, TheNearestRegisteredNameIsTold) {
  Post("/register", Absent("a", 1));
  EXPECT_EQ(Post("/v1/query", {{"model", "n"}, {"token_ids", {1}}})["nearest"], "m");
  EXPECT_EQ(Post("/v1/query", {{"model", "m"}, {"token_ids", {1}}, {"block_size", 64}})["nearest"],
            "16");
  EXPECT_EQ(
      Post("/v1/query", {{"model", "m"}, {"token_ids", {1}}, {"tenant_id", "defaul"}})["nearest"],
      "default");
}

TEST_F(HttpApiTest, MsgpackIsAnsweredInMsgpack) {
  Post("/register", Absent("a", 1));
  std::string body;
  Json::to_msgpack({{"model", "m"}, {"token_ids", {1, 2}}}, body);
  const auto ask = [&](const std::string& headers) {
    client_->Send("POST /v1/query HTTP/1.1\r\nContent-Length: " + std::to_string(body.size()) +
                  "\r\n" + headers + "\r\n" + body);
    return client_->Read();
  };
  const Reply msgpack = ask("Content-Type: application/msgpack\r\n");
  EXPECT_EQ(msgpack.status, 200);
  EXPECT_NE(msgpack.head.find("Content-Type: application/msgpack"), std::string::npos);
  EXPECT_EQ(Json::from_msgpack(msgpack.body)["instances"][0]["instance_id"], "a");
  const Reply json = ask("Content-Type: application/msgpack\r\nAccept: application/json\r\n");
  EXPECT_EQ(Json::parse(json.body)["prompt_tokens"], 2);
  body = "\xc1";
  const Reply wrong = ask("Content-Type: application/msgpack\r\n");
  EXPECT_EQ(wrong.status, 400);
  EXPECT_EQ(Json::from_msgpack(wrong.body)["reason"], "invalid_msgpack");
}

TEST_F(HttpApiTest, ErrorsOfBodiesAreStatus400WithTheField) {
  for (const char* path : {"/v1/query", "/query", "/register", "/unregister", "/cache"}) {
    EXPECT_EQ(PostText(path, "{")["reason"], "invalid_json") << path;
    EXPECT_EQ(status_, 400) << path;
  }
  for (const char* path : {"/v1/query", "/v1/publishers", "/unregister", "/cache"}) {
    EXPECT_EQ(PostText(path, "{}")["reason"], "missing") << path;
    EXPECT_EQ(status_, 400) << path;
  }
  EXPECT_EQ(PostText("/v1/query", R"({"model":"m","token_ids":[1,-5]})"),
            (Json{{"error", "token_ids[1] is -5 (expected an integer from 0 to 4294967295)"},
                  {"reason", "out_of_range"},
                  {"field", "token_ids"},
                  {"index", 1}}));
}

TEST_F(HttpApiTest, APromptOfAMillionTokensIsTakenByDefault) {
  std::string body = R"({"model":"m","token_ids":[1234567)";
  for (int i = 1; i < 1'000'000; ++i) body += ",1234567";
  EXPECT_EQ(PostText("/v1/query", body + "]}")["prompt_tokens"], 1'000'000);
  EXPECT_EQ(status_, 200);
}

TEST_F(HttpApiTest, EveryPathRefusesTheOtherMethods) {
  std::map<std::string, std::set<std::string>> taken;
  for (const auto& [method, path] : api_.routes()) taken[path].insert(method);
  for (const auto& [path, methods] : taken) {
    for (const std::string method : {"GET", "POST", "PUT", "DELETE"}) {
      if (methods.contains(method)) continue;
      EXPECT_EQ(HttpClient(port_).Request(method, path, method == "GET" ? "" : "{}").status, 405)
          << method << " " << path;
    }
  }
}

TEST_F(HttpApiTest, HealthAndReadiness) {
  const Json health = Get("/healthz");
  EXPECT_EQ(status_, 200);
  EXPECT_EQ(health["status"], "ok");
  EXPECT_EQ(health["version"], CONDUCTOR_VERSION);
  EXPECT_EQ(health["boot_id"].get<std::string>().size(), 32U);
  EXPECT_EQ(Get("/readyz")["reason"], "not_ready");
  EXPECT_EQ(status_, 503);
  api_.SetReady(true);
  EXPECT_EQ(Get("/readyz"), (Json{{"status", "ready"}}));
  EXPECT_EQ(status_, 200);
}

TEST_F(HttpApiTest, TheFirstGenerationsQueryOmitsHostsWithoutAHit) {
  Post("/register", Absent("a", 1));
  EXPECT_EQ(Post("/cache", {{"token_ids", std::vector<int>(16)},
                            {"instances", {"127.0.0.1"}},
                            {"model_name", "m"},
                            {"lora_id", -1}}),
            (Json{{"HitStatus", Json::object()}, {"status", "ok"}}));
}

// An engine that publishes over ZeroMQ, and every form of answer about what it holds.
TEST_F(HttpApiTest, AnswersWithWhatAPublisherStored) {
  auto publisher = trace::SimulatedPublisher::Create({});
  ASSERT_TRUE(publisher.has_value()) << publisher.error().Message();
  trace::SimulatedEngine engine({.block_size = 16});
  std::vector<TokenId> prompt(72);
  std::iota(prompt.begin(), prompt.end(), 100);
  (*publisher)->Publish(engine.Run(std::span(prompt).first(48)));
  Post("/register", {{"endpoint", (*publisher)->endpoint()},
                     {"replay_endpoint", (*publisher)->replay_endpoint()},
                     {"modelname", "m"},
                     {"instance_id", "a"}});
  ASSERT_EQ(status_, 200);

  Json answer;
  Eventually([&] {
    answer = Post("/v1/query", {{"model", "m"}, {"tokens", prompt}});
    return answer["instances"][0]["longest_matched"] == 48 &&
           answer["instances"][0]["state"] == "live";
  });
  const Json& instance = answer["instances"][0];
  EXPECT_EQ(instance["gpu"], 48) << answer;
  EXPECT_EQ(instance["cpu"], 48);
  EXPECT_EQ(instance["disk"], 48);
  EXPECT_EQ(instance["block_size"], 16) << "learnt";
  EXPECT_EQ(instance["prompt_blocks"], 4);
  EXPECT_EQ(instance["state"], "live");
  EXPECT_EQ(instance["reason"], "");
  EXPECT_GE(instance["lag_seconds"], 0);
  EXPECT_EQ(instance["ranks"]["0"], (Json{{"gpu", 48}, {"cpu", 48}, {"disk", 48}}));

  EXPECT_EQ(Post("/query", {{"model", "m"}, {"block_size", 16}, {"token_ids", prompt}}),
            (Json{{"default",
                   {{"a",
                     {{"longest_matched", 48},
                      {"GPU", 48},
                      {"DP", {{"0", 48}}},
                      {"CPU", 48},
                      {"DISK", 48}}}}}}));
  EXPECT_EQ(
      Post("/cache", {{"token_ids", prompt}, {"instances", {"127.0.0.1"}}, {"model_name", ""}}),
      (Json{{"HitStatus", {{"127.0.0.1", 75}}}, {"status", "ok"}}));
  EXPECT_EQ(Get("/services")["services"][0]["BlockSize"], 16);
  EXPECT_EQ(Get("/global_view"), (Json{{"context_count", 1},
                                       {"model_contexts",
                                        {{{"model_name", "m"},
                                          {"lora_name", ""},
                                          {"block_size", 16},
                                          {"additional_salt", ""},
                                          {"tenant_id", "default"},
                                          {"instance_id", "a"},
                                          {"block_count", 3}}}},
                                       {"hashmap", Json::array()}}));

  const Json publishers = Get("/v1/publishers");
  EXPECT_EQ(publishers["count"], 1);
  const Json& status = publishers["publishers"][0];
  EXPECT_EQ(status["id"], "a|default|0");
  EXPECT_EQ(status["state"], "live");
  EXPECT_EQ(status["cursor"], 0);
  EXPECT_EQ(status["counters"]["stored_blocks"], 3);
  EXPECT_EQ(status["last_decode_error"], "");

  const std::string metrics = client_->Get("/metrics").body;
  const std::string labels = R"({publisher="a|default|0",instance="a",dp_rank="0",type="vLLM")";
  for (const std::string& line :
       {"conductor_publisher_state" + labels + R"(,state="live"} 1)",
        "conductor_publisher_state" + labels + R"(,state="stale"} 0)",
        "conductor_publisher_cursor" + labels + "} 0",
        "conductor_publisher_blocks_total" + labels + R"(,kind="stored"} 3)",
        "conductor_publisher_block_size_tokens" + labels + "} 16",
        std::string("conductor_index_blocks 3"), std::string("conductor_publishers 1"),
        std::string("conductor_http_requests_total{code=\"200\",route=\"/services\"} 1"),
        std::string("conductor_http_connections 1")}) {
    EXPECT_NE(metrics.find(line + "\n"), std::string::npos) << line << "\nin\n" << metrics;
  }
}

// An engine without replay that was met late: what it holds can only be more.
TEST(HttpApiLegacyMinState, OlderAnswersHaveZerosForWhatIsBelow) {
  Registry registry{Registry::Options{}};
  HttpApi strict(registry, {.port = 0, .legacy_min_state = MinState::kReplaying});
  HttpApi any(registry, {.port = 0});
  HttpClient from_strict(strict.Start().value());
  HttpClient from_any(any.Start().value());
  auto publisher = trace::SimulatedPublisher::Create({});
  ASSERT_TRUE(publisher.has_value()) << publisher.error().Message();
  trace::SimulatedEngine engine({.block_size = 16});
  const std::vector<TokenId> prompt(16, 7);
  (*publisher)->Publish({});
  Registration registration;
  registration.endpoint = (*publisher)->endpoint();
  registration.model = "m";
  registration.instance_id = "a";
  ASSERT_TRUE(registry.Add(registration));
  const auto state = [&] { return registry.Publishers().front().trust.state; };
  const auto events = engine.Run(prompt);
  ASSERT_TRUE(Eventually([&] {
    if (state() == stream::TrustState::kDegraded) return true;
    // What comes before the subscription is what it misses.
    (*publisher)->Publish(events);
    return false;
  }));
  const std::string query = Json{{"model", "m"}, {"token_ids", prompt}}.dump();
  const std::string cache =
      Json{{"model_name", "m"}, {"token_ids", prompt}, {"instances", {"a"}}}.dump();
  const auto matched = [](const Reply& reply) {
    return Json::parse(reply.body)["default"]["a"]["longest_matched"].get<int>();
  };
  const auto hits = [](const Reply& reply) { return Json::parse(reply.body)["HitStatus"]; };
  EXPECT_EQ(matched(from_any.Post("/query", query)), 16);
  EXPECT_EQ(matched(from_strict.Post("/query", query)), 0);
  EXPECT_EQ(hits(from_any.Post("/cache", cache)), (Json{{"a", 100}}));
  EXPECT_EQ(hits(from_strict.Post("/cache", cache)), Json::object());
}

// An operator's resync and clear: both ask for everything again.
TEST_F(HttpApiTest, ResyncAsksForAllOfAPublisherAndClearForNothing) {
  auto publisher = trace::SimulatedPublisher::Create({});
  ASSERT_TRUE(publisher.has_value()) << publisher.error().Message();
  trace::SimulatedEngine engine({.block_size = 16});
  const std::vector<TokenId> prompt(48, 7);
  (*publisher)->Publish(engine.Run(prompt));
  Post("/register", {{"endpoint", (*publisher)->endpoint()},
                     {"replay_endpoint", (*publisher)->replay_endpoint()},
                     {"modelname", "m"},
                     {"instance_id", "a"}});
  const std::string id = "/v1/publishers/a%7Cdefault%7C0";
  // Waits until it is live with `replays` answered and something heard: what is published may be
  // on its way still when a first replay finds nothing. Its lives.
  const auto live_after = [&](uint64_t replays) {
    Json status;
    Eventually([&] {
      status = Get(id);
      return status["state"] == "live" && status["counters"]["replays"] >= replays &&
             status["counters"]["lives"] >= 1;
    });
    EXPECT_EQ(status["state"], "live") << status;
    return status["counters"]["lives"].get<uint64_t>();
  };
  const uint64_t lives = live_after(1);
  const uint64_t replays = Get(id)["counters"]["replays"];
  EXPECT_EQ(PostText(id + "/resync", "")["id"], "a|default|0");
  EXPECT_EQ(status_, 200);
  EXPECT_EQ(live_after(replays + 1), lives);
  const auto longest_matched = [&] {
    return Post("/v1/query",
                {{"model", "m"}, {"token_ids", prompt}})["instances"][0]["longest_matched"];
  };
  EXPECT_EQ(longest_matched(), 48);
  const Json cleared = Post(id + "/clear", Json::object());
  EXPECT_EQ(status_, 200);
  EXPECT_EQ(cleared["id"], "a|default|0");
  EXPECT_EQ(cleared["reason"], "incomplete");
  EXPECT_EQ(cleared["counters"]["lives"], lives);
  EXPECT_EQ(longest_matched(), 0);
  PostText(id + "/resync", "");
  live_after(replays + 2);
  EXPECT_EQ(longest_matched(), 48);
}

// Most resident memory that the process ever had.
uint64_t PeakBytes() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<uint64_t>(usage.ru_maxrss) << 10;
}

TEST_F(HttpApiTest, HostileBodiesAreRefusedAndTakeNoMemory) {
  using namespace std::string_literals;
  const std::string deep(100'000, '[');
  std::string opened;
  for (int i = 0; i < 100'000; ++i) opened += R"({"a":)";
  const struct {
    const char* what;
    const char* type;
    std::string body;
  } cases[] = {
      {"100,000 brackets", "application/json", deep},
      {"as many as a field's value", "application/json", R"({"model":"m","token_ids":)" + deep},
      {"100,000 objects", "application/json", opened},
      {"100,000 arrays of one", "application/msgpack", std::string(100'000, '\x91')},
      {"as many as a field's value", "application/msgpack",
       "\x82\xa5model\xa1m\xa9token_ids"s + std::string(100'000, '\x91')},
      {"maps that are keys", "application/msgpack", std::string(100'000, '\x81')},
      {"2^32 - 1 pairs", "application/msgpack", "\xdf\xff\xff\xff\xff\xa1"s + "a\x01"},
      {"2^32 - 1 items", "application/msgpack",
       "\x82\xa5model\xa1m\xa9token_ids\xdd\xff\xff\xff\xff\x01"s},
      {"2^32 - 1 bytes", "application/msgpack",
       "\x82\xa5model\xa1m\xa9token_ids\xc6\xff\xff\xff\xff\x01"s},
      {"2^32 - 1 bytes of text", "application/msgpack", "\xdb\xff\xff\xff\xff\x01"s},
      {"items that claim items", "application/msgpack",
       [] {
         std::string body;
         for (int i = 0; i < 100'000; ++i) body += "\xdd\xff\xff\xff\xff"s;
         return body;
       }()},
  };
  const uint64_t before = PeakBytes();
  for (const char* path : {"/v1/query", "/query", "/register", "/unregister", "/cache"}) {
    for (const auto& [what, type, body] : cases) {
      client_->Send("POST "s + path + " HTTP/1.1\r\nContent-Type: " + type +
                    "\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
      const Reply reply = client_->Read();
      EXPECT_EQ(reply.status, 400) << path << ", " << what;
      EXPECT_LT(reply.body.size(), 1000U) << path << ", " << what;
    }
  }
  // Each has at most half a megabyte, of which a parser may take some fold.
  EXPECT_LT(PeakBytes() - before, uint64_t{64} << 20);
}

// From each line of `text` that begins with `prefix`, what stands between that and `end`.
std::set<std::string> Between(const std::string& text, const std::string& prefix, char end) {
  std::set<std::string> found;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with(prefix)) continue;
    const size_t begin = prefix.size();
    found.insert(line.substr(begin, line.find(end, begin) - begin));
  }
  return found;
}

TEST_F(HttpApiTest, EveryRouteHasItsSectionAndItsLineInTheDocument) {
  const std::string page = HttpApiPage();
  std::set<std::string> routes;
  for (const auto& [method, path] : api_.routes()) routes.insert(method + " " + path);
  EXPECT_EQ(Between(page, "### `", '`'), routes);
  std::set<std::string> lines;
  for (const std::string method : {"GET", "POST", "PUT", "DELETE"}) {
    for (const std::string& path : Between(page, "| `" + method + " /", '`')) {
      lines.insert(method + " /" + path);
    }
  }
  EXPECT_EQ(lines, routes);
}

TEST_F(HttpApiTest, TheDocumentListsTheRoutesThatNeedAnAdminsToken) {
  const std::string page = HttpApiPage();
  std::set<std::string> admin;
  std::set<std::string> open;
  for (size_t i = 0; i < api_.routes().size(); ++i) {
    const auto& [method, path] = api_.routes()[i];
    if (api_.access(i) == Access::kAdmin) admin.insert(method + " " + path);
    if (api_.access(i) == Access::kOpen) open.insert(method + " " + path);
  }
  EXPECT_EQ(Between(page, "* admin: `", '`'), admin);
  EXPECT_EQ(Between(page, "* no token: `", '`'), open);
}

// Whose token an operation of docs/openapi.json asks for.
std::string AccessIn(const Json& operation) {
  std::set<std::string> schemes;
  for (const Json& choice : operation.at("security")) {
    for (const auto& [scheme, scopes] : choice.items()) schemes.insert(scheme);
  }
  if (schemes.empty()) return "open";
  if (schemes == std::set<std::string>{"adminToken"}) return "admin";
  return schemes == std::set<std::string>{"adminToken", "readToken"} ? "read" : "unclear";
}

TEST_F(HttpApiTest, TheOpenApiFileHasTheRoutesAndTheirTokens) {
  std::ifstream file(CONDUCTOR_DOCS "/openapi.json");
  const Json document = Json::parse(file);
  std::map<std::string, std::string> described;
  for (const auto& [path, item] : document["paths"].items()) {
    for (const auto& [method, operation] : item.items()) {
      std::string upper = method;
      std::ranges::transform(upper, upper.begin(), [](unsigned char c) { return std::toupper(c); });
      described[upper + " " + path] = AccessIn(operation);
    }
  }
  // Those of the Mooncake Conductor are docs/http-api.md's alone.
  const std::set<std::string> left_out = {"/query",    "/query_by_hash", "/register", "/unregister",
                                          "/services", "/global_view",   "/cache"};
  std::map<std::string, std::string> routes;
  for (size_t i = 0; i < api_.routes().size(); ++i) {
    const auto& [method, path] = api_.routes()[i];
    if (left_out.contains(path)) continue;
    const Access access = api_.access(i);
    routes[method + " " + path] = access == Access::kAdmin  ? "admin"
                                  : access == Access::kOpen ? "open"
                                                            : "read";
  }
  EXPECT_EQ(described, routes);
}

TEST_F(HttpApiTest, TheDocumentsExamplesHaveTheFieldsOfTheAnswers) {
  Post("/register", Absent("a", 1));
  for (const char* path : {"/v1/publishers", "/services", "/global_view"}) {
    EXPECT_EQ(NamesIn(Get(path)), NamesIn(ExampleAfter(std::string("### `GET ") + path + "`")))
        << path;
  }
  EXPECT_EQ(
      NamesIn(Post("/v1/explain",
                   {{"model", "m"}, {"token_ids", std::vector<int>(40)}, {"instance_id", "a"}})),
      NamesIn(ExampleAfter("### `POST /v1/explain`")));
  Json pool = Absent("p", 2);
  pool["type"] = "Mooncake";
  Post("/register", pool);
  EXPECT_EQ(NamesIn(Get("/v1/publishers/p|default|0")["pool"]),
            NamesIn(ExampleAfter("has `pool`")["pool"]));
}

TEST_F(HttpApiTest, EveryMetricIsInTheDocument) {
  Post("/register", Absent("a", 1));
  Get("/nowhere");
  const std::string page = HttpApiPage();
  std::set<std::string> documented;
  for (const std::string prefix : {"conductor_", "process_"}) {
    for (const std::string& rest : Between(page, "| `" + prefix, '`')) {
      documented.insert(prefix + rest);
    }
  }
  EXPECT_EQ(documented, Between(client_->Get("/metrics").body, "# TYPE ", ' '));
}

}  // namespace
}  // namespace conductor::serve
