#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <numeric>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "lib/hash/block_hash.h"
#include "tests/serve/api_fixture.h"
#include "tests/serve/eventually.h"
#include "tests/serve/http_api_page.h"

namespace conductor::serve {
namespace {

constexpr const char* kCppJson = "X-Conductor-Compat: cpp-json\r\n";
constexpr const char* kDynamo = "X-Conductor-Compat: dynamo\r\n";
// As a client of that generation asks, without anything of Conductor's.
constexpr const char* kMsgpackBody = "Content-Type: application/msgpack\r\nAccept: */*\r\n";
constexpr const char* kMsgpackAnswer = "Accept: application/msgpack\r\n";

// The paths that generations share, on a server that answers as the Go one where nothing is said.
class MooncakeRoutesTest : public ApiTest {
 protected:
  using Ordered = nlohmann::ordered_json;  // the order of names is part of some answers

  // The whole answer's body; its status in status_, its Content-Type in type_.
  std::string Say(const char* method, const char* path, const std::string& body,
                  const std::string& headers) {
    const Reply reply = client_.Request(method, path, body, headers);
    status_ = reply.status;
    constexpr std::string_view kName = "Content-Type: ";
    const size_t at = reply.head.find(kName);
    type_ =
        at == std::string::npos
            ? ""
            : reply.head.substr(at + kName.size(), reply.head.find("\r\n", at) - at - kName.size());
    return reply.body;
  }
  Ordered PostMsgpack(const char* path, const Json& body) {
    const std::string answer = Say("POST", path, Packed(body), kMsgpackBody);
    EXPECT_EQ(type_, "application/msgpack") << path;
    return Ordered::from_msgpack(answer, true, false);
  }
  // Of the JSON generation; every JSON answer of these tests ends with a line break.
  Ordered PostJson(const char* path, const Json& body, const char* headers = kCppJson) {
    std::string answer = Say("POST", path, body.dump(), headers);
    EXPECT_EQ(type_, "application/json") << path;
    EXPECT_TRUE(answer.ends_with("}\n")) << answer;
    return Ordered::parse(answer, nullptr, false);
  }
  Ordered GetMsgpack(const char* path) {
    return Ordered::from_msgpack(Say("GET", path, "", kMsgpackAnswer), true, false);
  }

  static Json Vllm(const std::string& instance_id, int port, int dp_rank = 0) {
    Json registration = Absent(instance_id, port, dp_rank);
    registration["type"] = "vLLM";
    return registration;
  }
  static Json Profile() {
    return {{"strategy", "vllm_v1"},
            {"algorithm", "sha256_cbor"},
            {"python_hash_seed", "0"},
            {"index_projection", "low64_be"}};
  }

  static std::vector<TokenId> Prompt(size_t tokens) {
    std::vector<TokenId> prompt(tokens);
    std::iota(prompt.begin(), prompt.end(), 1);
    return prompt;
  }
  static Json Query(size_t tokens) {
    return {{"model", "m"}, {"block_size", 4}, {"token_ids", Prompt(tokens)}};
  }
  static std::vector<PrefixHash> Prefixes(size_t blocks) {
    std::vector<PrefixHash> prefixes(blocks);
    hash::HashChain(Prompt(blocks * 4), 4, nullptr, hash::kDefaultSeed, prefixes);
    return prefixes;
  }
  static Json HashQuery(size_t blocks) {
    Json query = {{"model", "m"}, {"block_size", 4}, {"seq_hashes", Json::array()}};
    for (const PrefixHash prefix : Prefixes(blocks)) {
      query["seq_hashes"].push_back(static_cast<uint64_t>(prefix));
    }
    return query;
  }

  // An instance that holds the first blocks of the prompt: of 4 tokens, some on the device and
  // the rest on the host.
  void Holding(const std::string& instance_id, size_t on_device, size_t on_host, int dp_rank = 0) {
    Json events = Json::array();
    const auto store = [&](size_t first, size_t blocks, const char* medium) {
      if (blocks == 0) return;
      Json event = {
          {"sequence", events.size()}, {"type", "stored"}, {"block_size", 4}, {"medium", medium}};
      if (first > 0) event["parent_block_hash"] = 100 + first - 1;
      for (size_t i = 0; i < blocks; ++i) event["block_hashes"].push_back(100 + first + i);
      const std::vector<TokenId> prompt = Prompt((first + blocks) * 4);
      event["token_ids"] = std::vector<TokenId>(
          prompt.begin() + static_cast<std::ptrdiff_t>(first * 4), prompt.end());
      events.push_back(std::move(event));
    };
    store(0, on_device, "GPU");
    store(on_device, on_host, "CPU");
    Json registration = Absent(instance_id, 0, dp_rank);
    registration.erase("endpoint");
    Json body = {
        {"publisher", registration}, {"incarnation", "1"}, {"events", events}, {"wait", "applied"}};
    const Json answer = Post("/v1/ingest", body);
    ASSERT_EQ(status_, 200) << answer;
    ASSERT_EQ(answer["applied"], true) << answer;
  }

  std::string type_;
};

TEST_F(MooncakeRoutesTest, AClientOfTheMessagePackGenerationIsServedBesideTheGoOnes) {
  Json registration = Vllm("a", 1);
  registration["hash_profile"] = Profile();
  EXPECT_EQ(PostMsgpack("/register", registration),
            (Ordered{{"status", "registered successfully"}, {"instance_id", "a"}}));
  EXPECT_EQ(status_, 200);
  PostMsgpack("/register", registration);
  EXPECT_EQ(status_, 200) << "a repeat changes nothing";

  EXPECT_EQ(PostMsgpack("/query", Query(12)).dump(),
            R"({"instances":{"a":{"longest_matched":0,"dp":{"0":0},)"
            R"("rank_matches":{"0":{"gpu":0,"cpu":0,"disk":0}},"gpu":0,"cpu":0,"disk":0}}})");
  EXPECT_EQ(Post("/query", Query(12)), (Json{{"default",
                                              {{"a",
                                                {{"longest_matched", 0},
                                                 {"GPU", 0},
                                                 {"DP", {{"0", 0}}},
                                                 {"CPU", 0},
                                                 {"DISK", 0}}}}}}));

  EXPECT_EQ(
      PostMsgpack("/unregister", {{"instance_id", "a"}, {"dp_rank", 0}}),
      (Ordered{{"status", "unregistered successfully"}, {"removed_instances", {"a|default|0"}}}));
  EXPECT_EQ(registry_.size(), 0U);
}

TEST_F(MooncakeRoutesTest, FiguresAreTheSameInEveryGeneration) {
  Holding("a", 2, 1);
  Holding("a", 1, 0, 1);
  Holding("b", 0, 0);
  const char* instances =
      R"({"a":{"longest_matched":12,"dp":{"0":8,"1":4},)"
      R"("rank_matches":{"0":{"gpu":8,"cpu":12,"disk":12},"1":{"gpu":4,"cpu":4,"disk":4}},)"
      R"("gpu":8,"cpu":12,"disk":12},)"
      R"("b":{"longest_matched":0,"dp":{"0":0},)"
      R"("rank_matches":{"0":{"gpu":0,"cpu":0,"disk":0}},"gpu":0,"cpu":0,"disk":0}})";
  EXPECT_EQ(PostMsgpack("/query", Query(18))["instances"].dump(), instances);
  EXPECT_EQ(PostJson("/query", Query(18))["instances"].dump(), instances);
  EXPECT_EQ(PostMsgpack("/query_by_hash", HashQuery(4))["instances"].dump(), instances);
  EXPECT_EQ(PostJson("/query_by_hash", HashQuery(4))["instances"].dump(), instances);

  const Json go = Post("/query", Query(18));
  EXPECT_EQ(go["default"]["a"], (Json{{"longest_matched", 12},
                                      {"GPU", 8},
                                      {"CPU", 12},
                                      {"DISK", 12},
                                      {"DP", {{"0", 8}, {"1", 4}}}}));
  EXPECT_EQ(Post("/query_by_hash", HashQuery(4)), go);

  Json packed = Query(18);
  std::vector<uint8_t> bytes;
  for (const TokenId token : Prompt(18)) {
    bytes.insert(bytes.end(), {static_cast<uint8_t>(token), 0, 0, 0});
  }
  packed["token_ids"] = Json::binary(bytes);
  EXPECT_EQ(PostMsgpack("/query", packed)["instances"].dump(), instances);
}

TEST_F(MooncakeRoutesTest, OnlyInstancesOfTheContextAreInAStrictAnswer) {
  Post("/register", Vllm("a", 1));
  Json other = Vllm("coarse", 2);
  other["block_size"] = 64;
  Post("/register", other);
  other = Vllm("other-model", 3);
  other["modelname"] = "n";
  Post("/register", other);
  other = Vllm("adapter", 4);
  other["lora_name"] = "l";
  Post("/register", other);

  const auto listed = [this](const Json& query) {
    std::vector<std::string> names;
    const Ordered answer = PostMsgpack("/query", query);
    EXPECT_EQ(status_, 200);
    for (const auto& [name, figures] : answer["instances"].items()) names.push_back(name);
    return names;
  };
  using Names = std::vector<std::string>;
  EXPECT_EQ(listed(Query(8)), Names{"a"});
  Json query = Query(8);
  query["lora_name"] = "l";
  EXPECT_EQ(listed(query), (Names{"a", "adapter"}));
  query = Query(8);
  query["block_size"] = 64;
  EXPECT_EQ(listed(query), Names{"coarse"});
  query["block_size"] = (uint64_t{1} << 63) - 1;
  EXPECT_EQ(listed(query), Names{});
  query = Query(8);
  query["tenant_id"] = "nobody";
  EXPECT_EQ(listed(query), Names{});
  query = Query(8);
  query["model"] = "nobody";
  EXPECT_EQ(listed(query), Names{});
  query = Query(8);
  query["lora_name"] = "\xff";
  EXPECT_EQ(listed(query), Names{}) << "what is no UTF-8 cannot be hashed";
  query = Query(8);
  query["instance_id"] = "coarse";
  EXPECT_EQ(listed(query), Names{});
  query["instance_id"] = "a";
  EXPECT_EQ(listed(query), Names{"a"});
  query["instance_id"] = "";
  EXPECT_EQ(listed(query), Names{});
}

TEST_F(MooncakeRoutesTest, UpstreamsRefusalsOfRegistrationsAreKept) {
  PostMsgpack("/register", Vllm("a", 1));
  ASSERT_EQ(status_, 200);
  const auto refused = [this](const Json& registration, const std::string& error) {
    const Ordered expected = {{"error", error}, {"reason", "invalid_registration"}};
    EXPECT_EQ(PostMsgpack("/register", registration), expected);
    EXPECT_EQ(status_, 400);
    EXPECT_EQ(PostJson("/register", registration), expected);
    EXPECT_EQ(status_, 400);
  };
  refused(Vllm("a", 2), "conflicting registration for service key: a|default|0");
  refused(Vllm("b", 1), "conflicting active registration for endpoint: tcp://127.0.0.1:1");
  Json ranks = Vllm("c", 8);
  ranks["dp_size"] = 2;
  PostMsgpack("/register", Vllm("d", 9));
  refused(ranks, "conflicting active registration for endpoint: tcp://127.0.0.1:9");
  EXPECT_EQ(registry_.size(), 2U);
}

TEST_F(MooncakeRoutesTest, AnotherHashProfileForAContextIsRefusedInTheStrictGenerationsAlone) {
  Json registration = Vllm("a", 1);
  registration["hash_profile"] = Profile();
  PostMsgpack("/register", registration);
  ASSERT_EQ(status_, 200);
  Json other = Vllm("b", 2);
  other["hash_profile"] = Profile();
  other["hash_profile"]["python_hash_seed"] = "1";
  const Ordered expected = {{"error",
                             "failed to register prefix context: registration conflicts with the "
                             "ContextKey hash profile"},
                            {"reason", "invalid_registration"}};
  EXPECT_EQ(PostMsgpack("/register", other), expected);
  EXPECT_EQ(status_, 400);
  EXPECT_EQ(PostJson("/register", other), expected);
  Json pool = other;
  pool["type"] = "Mooncake";
  EXPECT_EQ(PostMsgpack("/register", pool)["error"],
            "failed to bind shared-cache profile: hash profile conflicts with the registered "
            "ContextKey profile");
  EXPECT_EQ(registry_.size(), 1U);
  Json elsewhere = other;
  elsewhere["block_size"] = 64;
  PostMsgpack("/register", elsewhere);
  EXPECT_EQ(status_, 200) << "another context";
  other["instance_id"] = "c";
  other["endpoint"] = "tcp://127.0.0.1:3";
  Post("/register", other);
  EXPECT_EQ(status_, 200) << "answers do not depend on the engines' hashes";
}

TEST_F(MooncakeRoutesTest, APublisherThatIsJustBeingRemovedIsToldSo) {
  Holding("a", 1, 0);
  const Json key = {{"instance_id", "a"}, {"dp_rank", 0}};
  std::thread removing;
  {
    // Whoever writes into the index holds up the removal of a publisher's blocks.
    const auto writing = const_cast<index::PrefixIndex&>(registry_.index()).Write();
    removing = std::thread([this, &key] {
      HttpClient client(port());
      EXPECT_EQ(client.Request("POST", "/unregister", Packed(key), kMsgpackBody).status, 200);
    });
    ASSERT_TRUE(Eventually([this] { return !registry_.Publisher("a|default|0"); }));
    EXPECT_EQ(PostMsgpack("/unregister", key).dump(),
              R"({"error":"service is already being unregistered: a|default|0"})");
    EXPECT_EQ(status_, 404);
    EXPECT_EQ(Post("/unregister", key)["error"],
              "service is already being unregistered: a|default|0");
    EXPECT_EQ(PostMsgpack("/register", Vllm("a", 1)).dump(),
              R"({"error":"service is being unregistered: a|default|0",)"
              R"("reason":"invalid_registration"})");
    EXPECT_EQ(status_, 400);
  }
  removing.join();
  PostMsgpack("/unregister", key);
  EXPECT_EQ(status_, 404);
}

TEST_F(MooncakeRoutesTest, AnotherIncarnationIsANewLifeAndAnotherEndpointIsRefused) {
  Json registration = Vllm("a", 1);
  registration["incarnation"] = "pod-1";
  PostMsgpack("/register", registration);
  registration["incarnation"] = "pod-2";
  PostMsgpack("/register", registration);
  EXPECT_EQ(status_, 200);
  registration["endpoint"] = "tcp://127.0.0.1:2";
  PostMsgpack("/register", registration);
  EXPECT_EQ(status_, 400) << "it would be two";
  EXPECT_EQ(registry_.Publishers().at(0).registration.incarnation, "pod-2");
  EXPECT_EQ(registry_.size(), 1U);
}

TEST_F(MooncakeRoutesTest, AnAddressThatCannotBeUsedIsUpstreamsStatus500) {
  Json registration = Vllm("a", 1);
  registration["endpoint"] = "http://127.0.0.1:5557";
  const std::string begin =
      "Failed to subscribe: failed to start ZMQ client: initial connection failed: failed to "
      "connect to http://127.0.0.1:5557: ";
  const Ordered answer = PostMsgpack("/register", registration);
  EXPECT_EQ(status_, 500);
  EXPECT_EQ(answer.size(), 1U);
  EXPECT_TRUE(answer["error"].get<std::string>().starts_with(begin)) << answer;

  const std::string text = Say("POST", "/register", registration.dump(), kCppJson);
  EXPECT_EQ(status_, 500);
  EXPECT_EQ(type_, "text/plain; charset=utf-8");
  EXPECT_TRUE(text.starts_with(begin) && text.ends_with("\n")) << text;
}

TEST_F(MooncakeRoutesTest, OfTheGoGenerationTooButAsJson) {
  const auto refused = [this](Json endpoint) {
    Json registration = Vllm("a", 1);
    registration["endpoint"] = std::move(endpoint);
    const Json answer = Post("/register", registration);
    EXPECT_EQ(answer["field"], "endpoint");
    EXPECT_TRUE(status_ == 400 ||
                answer["error"].get<std::string>().starts_with("Failed to subscribe: "))
        << answer;
    return status_;
  };
  EXPECT_EQ(refused("http://127.0.0.1:5557"), 500);
  EXPECT_EQ(refused(""), 500);
  EXPECT_EQ(refused(nullptr), 500);
  EXPECT_EQ(refused(5), 400);
  Post("/register", Vllm("b", 2));
  EXPECT_EQ(refused("tcp://127.0.0.1:2"), 400) << "it can be used, but not twice";
}

TEST_F(MooncakeRoutesTest, SeveralRanksOfOneRegistrationAreTold) {
  Json ranks = Vllm("a", 1);
  ranks["dp_size"] = 3;
  EXPECT_EQ(PostMsgpack("/register", ranks), (Ordered{{"status", "registered successfully"},
                                                      {"instance_id", "a"},
                                                      {"dp_ranks", {0, 1, 2}}}));
}

TEST_F(MooncakeRoutesTest, ErrorsHaveTheBodiesOfTheirGeneration) {
  const Ordered error = {{"error", "token_ids element is outside the int32 range"},
                         {"reason", "out_of_range"},
                         {"field", "token_ids"},
                         {"index", 1}};
  const Json query = {{"model", "m"}, {"block_size", 4}, {"token_ids", {1, 4294967295}}};
  EXPECT_EQ(PostMsgpack("/query", query).dump(), error.dump());
  EXPECT_EQ(status_, 400);
  EXPECT_EQ(PostJson("/query", query).dump(), error.dump());
  EXPECT_EQ(status_, 400);

  const Json nobody = {{"instance_id", "a"}, {"dp_rank", 7}};
  EXPECT_EQ(PostMsgpack("/unregister", nobody).dump(),
            R"({"error":"service not found: a|default|7"})");
  EXPECT_EQ(status_, 404);
  EXPECT_EQ(Say("POST", "/unregister", nobody.dump(), kCppJson),
            "service not found: a|default|7\n");
  EXPECT_EQ(status_, 404);

  EXPECT_EQ(Say("POST", "/register", "{", kCppJson), "Invalid JSON\n");
  EXPECT_EQ(status_, 400);
  EXPECT_EQ(type_, "text/plain; charset=utf-8");
  EXPECT_EQ(Say("POST", "/query", "{", kCppJson),
            "{\"error\":\"Invalid JSON object\",\"reason\":\"invalid_json\"}\n");
}

TEST_F(MooncakeRoutesTest, TheMessagePackGenerationReadsNothingElse) {
  for (const char* headers :
       {"X-Conductor-Compat: msgpack\r\n",
        "X-Conductor-Compat: msgpack\r\nContent-Type: application/json\r\n",
        "X-Conductor-Compat: msgpack\r\nContent-Type: text/plain\r\n",
        "Accept: application/msgpack\r\nContent-Type: application/json\r\n"}) {
    for (const char* path : {"/query", "/query_by_hash", "/register", "/unregister"}) {
      const std::string answer = Say("POST", path, Query(4).dump(), headers);
      EXPECT_EQ(status_, 400);
      EXPECT_EQ(type_, "application/msgpack");
      EXPECT_EQ(Ordered::from_msgpack(answer).dump(),
                R"({"error":"Content-Type must be application/msgpack",)"
                R"("reason":"unsupported_content_type"})");
    }
  }
}

TEST_F(MooncakeRoutesTest, BodiesAreReadAsWhatTheySayAndAnsweredAsAsked) {
  Post("/register", Vllm("a", 1));
  const std::string answer =
      Say("POST", "/query", Packed(Query(4)),
          "X-Conductor-Compat: cpp-json\r\nContent-Type: application/msgpack\r\n");
  EXPECT_EQ(status_, 200);
  EXPECT_TRUE(Json::parse(answer)["instances"].contains("a"));
  const std::string go = Say("POST", "/query", Packed(Query(4)),
                             "X-Conductor-Compat: go\r\nContent-Type: application/msgpack\r\n");
  EXPECT_TRUE(Json::parse(go)["default"].contains("a"));
}

TEST_F(MooncakeRoutesTest, OtherMethodsAreRefusedInTheWordsOfTheGeneration) {
  const std::array<std::pair<const char*, const char*>, 6> wrong = {{{"GET", "/query"},
                                                                     {"GET", "/query_by_hash"},
                                                                     {"GET", "/register"},
                                                                     {"GET", "/unregister"},
                                                                     {"POST", "/services"},
                                                                     {"POST", "/global_view"}}};
  for (const auto& [method, path] : wrong) {
    const auto refusal = [&](const char* headers) {
      // Whatever the body, it is not read, and the connection ends behind it.
      HttpClient client(port());
      const Reply reply = client.Request(method, path, "", headers);
      EXPECT_EQ(reply.status, 405) << method << " " << path;
      EXPECT_NE(reply.head.find("\r\nAllow: "), std::string::npos) << reply.head;
      return reply.body;
    };
    EXPECT_EQ(Ordered::from_msgpack(refusal("X-Conductor-Compat: msgpack\r\n")).dump(),
              R"({"error":"Method not allowed"})");
    EXPECT_EQ(refusal(kCppJson), "Method not allowed\n");
    EXPECT_EQ(Json::parse(refusal(""))["reason"], "method_not_allowed");
  }
  EXPECT_EQ(Say("DELETE", "/query", "", kCppJson), "Method not allowed\n");
}

TEST_F(MooncakeRoutesTest, WhatNoRouteAnswersIsToldInTheFormOfTheClient) {
  const auto refused = [this](const char* path, const std::string& headers,
                              const char* method = "POST") {
    // The body of a refused request is not read, and its connection ends.
    HttpClient client(port());
    client.Send(std::string(method) + " " + path + " HTTP/1.1\r\nHost: x\r\n" + headers + "\r\n");
    const Reply reply = client.Read();
    status_ = reply.status;
    const size_t at = reply.head.find("Content-Type: ") + 14;
    type_ = reply.head.substr(at, reply.head.find("\r\n", at) - at);
    return type_ == "application/msgpack" ? Ordered::from_msgpack(reply.body).dump() : reply.body;
  };
  const std::string huge = "Content-Length: 99999999\r\n";
  const std::string msgpack = "Content-Type: application/msgpack\r\n";
  const std::string too_large =
      "the body of /query is larger than 16777216 bytes (--http-max-body)";

  EXPECT_EQ(refused("/query", msgpack + huge), R"({"error":")" + too_large + R"("})");
  EXPECT_EQ(status_, 413);
  EXPECT_EQ(refused("/query", kCppJson + huge), too_large + "\n");
  EXPECT_EQ(refused("/query", kDynamo + huge), R"({"error":")" + too_large + R"("})");
  EXPECT_EQ(type_, "application/json");
  EXPECT_EQ(refused("/query", huge),
            R"({"error":")" + too_large + R"(","reason":"body_too_large"})");
  EXPECT_EQ(type_, "application/json");

  EXPECT_EQ(refused("/nowhere", msgpack), R"({"error":"there is nothing at this path"})");
  EXPECT_EQ(status_, 404);
  EXPECT_EQ(refused("/nowhere", "Accept: application/msgpack\r\n", "GET"),
            R"({"error":"there is nothing at this path"})");
  EXPECT_EQ(refused("/nowhere", "X-Conductor-Compat: msgpack\r\n", "GET"),
            R"({"error":"there is nothing at this path"})");
  EXPECT_EQ(refused("/nowhere", "", "GET"),
            R"({"error":"there is nothing at this path","reason":"unknown_path"})");

  // What is wrong with a head stands before or behind what says who asks.
  const std::string zipped = "Content-Encoding: gzip\r\n";
  for (const std::string& headers : {zipped + msgpack, msgpack + zipped}) {
    EXPECT_EQ(refused("/query", headers), R"({"error":"bodies must be sent uncompressed"})");
    EXPECT_EQ(status_, 415);
  }
  EXPECT_EQ(refused("/query", msgpack + "Content-Length: x\r\n"),
            R"({"error":"Content-Length is not a number of bytes","reason":"malformed_request"})");
  EXPECT_EQ(status_, 400);
  EXPECT_EQ(refused("/query", msgpack, "PUT"), R"({"error":"Method not allowed"})");

  // Conductor's own routes keep their words in the other form; some have but one.
  EXPECT_EQ(refused("/v1/query", msgpack + huge),
            R"x({"error":"the body of /v1/query is larger than 16777216 bytes (--http-max-body)",)x"
            R"("reason":"body_too_large"})");
  EXPECT_EQ(type_, "application/msgpack");
  EXPECT_EQ(refused("/v1/nowhere", kCppJson),
            R"({"error":"there is nothing at this path","reason":"unknown_path"})");
  refused("/cache", msgpack + huge);
  EXPECT_EQ(type_, "application/json");
}

TEST_F(MooncakeRoutesTest, WhatIsUnknownIsToldWithWhatIsKnown) {
  const std::string unknown = Say("GET", "/services", "", "X-Conductor-Compat: rust\r\n");
  EXPECT_EQ(status_, 400);
  EXPECT_EQ(Json::parse(unknown),
            (Json{{"error",
                   "X-Conductor-Compat: 'rust' is no generation (expected go, cpp-json, "
                   "msgpack or dynamo)"},
                  {"reason", "invalid_value"},
                  {"field", "X-Conductor-Compat"}}));
  for (const char* path : {"/register", "/unregister"}) {
    Say("POST", path, "{}", kDynamo);
    EXPECT_EQ(status_, 400) << path;
  }
  for (const char* path : {"/services", "/global_view"}) {
    const std::string answer = Say("GET", path, "", kDynamo);
    EXPECT_EQ(status_, 400) << path;
    EXPECT_NE(answer.find("go, cpp-json or msgpack"), std::string::npos) << answer;
  }
}

TEST_F(MooncakeRoutesTest, ServicesAndGlobalViewHaveUpstreamsFields) {
  Json registration = Vllm("a", 1);
  registration["hash_profile"] = Profile();
  PostMsgpack("/register", registration);
  registration = Vllm("b", 2);
  registration["lora_name"] = "l";
  PostMsgpack("/register", registration);

  const std::string digest = "4e1195df020de59e0d65a33a4279f1183e7ae4e5d980e309f8b55adff2e61c3e";
  const Ordered profile = {{"strategy", "vllm_v1"},
                           {"algorithm", "sha256_cbor"},
                           {"python_hash_seed", "0"},
                           {"root_digest", digest},
                           {"index_projection", "low64_be"}};
  const auto service = [](const char* id, int port, const char* lora, const Ordered& of) {
    return Ordered{{"Endpoint", "tcp://127.0.0.1:" + std::to_string(port)},
                   {"ReplayEndpoint", ""},
                   {"Type", "vLLM"},
                   {"ModelName", "m"},
                   {"LoraName", lora},
                   {"TenantID", "default"},
                   {"InstanceID", id},
                   {"BlockSize", 4},
                   {"DPRank", 0},
                   {"CacheGroup", nullptr},
                   {"HashProfile", of}};
  };
  const Ordered services = {
      {"count", 2}, {"services", {service("a", 1, "", profile), service("b", 2, "l", nullptr)}}};
  EXPECT_EQ(GetMsgpack("/services").dump(), services.dump());
  EXPECT_EQ(type_, "application/msgpack");
  EXPECT_EQ(Say("GET", "/services", "", kCppJson), services.dump()) << "without a line break";

  // The one without an adapter serves all of them.
  const auto context = [&](const char* lora, const Ordered& instances) {
    return Ordered{{"model_name", "m"},      {"lora_name", lora}, {"block_size", 4},
                   {"tenant_id", "default"}, {"prefix_count", 0}, {"hash_profile", profile},
                   {"instances", instances}};
  };
  const Ordered view = {
      {"context_count", 2},
      {"contexts", {context("", {{"a", {0}}}), context("l", {{"a", {0}}, {"b", {0}}})}}};
  EXPECT_EQ(GetMsgpack("/global_view").dump(), view.dump());
  EXPECT_EQ(Say("GET", "/global_view", "", kCppJson), view.dump() + "\n");
}

TEST_F(MooncakeRoutesTest, AContextCountsTheBlocksThatAreKnown) {
  Holding("a", 3, 0);
  EXPECT_EQ(GetMsgpack("/global_view")["contexts"][0]["prefix_count"], 3);
}

TEST_F(MooncakeRoutesTest, HashesNeedTheBlockSizeThatTheyWereMadeWith) {
  Holding("a", 2, 0);
  Json query = HashQuery(2);
  query.erase("block_size");
  EXPECT_EQ(Post("/query_by_hash", query)["default"]["a"]["longest_matched"], 8)
      << "the model has one";

  query["block_size"] = 16;
  const Ordered unknown = PostMsgpack("/query_by_hash", query);
  EXPECT_EQ(status_, 400);
  EXPECT_EQ(unknown["reason"], "unknown_block_size");
  EXPECT_EQ(unknown["field"], "block_size");

  Json coarse = Vllm("b", 2);
  coarse["block_size"] = 16;
  Post("/register", coarse);
  query.erase("block_size");
  const Json several = Post("/query_by_hash", query);
  EXPECT_EQ(status_, 400);
  EXPECT_EQ(several["reason"], "missing");
  EXPECT_EQ(several["error"], "block_size is required: model 'm' has blocks of 4 and of 16 tokens");

  query["model"] = "nobody";
  EXPECT_EQ(PostMsgpack("/query_by_hash", query).dump(), R"({"instances":{}})");
  EXPECT_EQ(status_, 200);
}

TEST_F(MooncakeRoutesTest, DynamosClientsFindTheirScores) {
  Holding("a", 2, 1);
  Holding("a", 1, 0, 1);
  Holding("b", 0, 0);
  const Json query = {{"model_name", "m"}, {"token_ids", Prompt(18)}};
  const char* expected =
      R"({"scores":{"a":{"0":8,"1":4}},"frequencies":[2,1],)"
      R"("instances":{"a":{"longest_matched":12,"gpu":8,"dp":{"0":8,"1":4},"cpu":12,"disk":12}}})";
  EXPECT_EQ(Say("POST", "/query", query.dump(), kDynamo), expected);
  EXPECT_EQ(status_, 200);

  Json by_hash = {{"model_name", "m"}, {"block_hashes", Json::array()}};
  std::vector<LocalHash> blocks(4);
  hash::HashBlocks(Prompt(16), 4, hash::kDefaultSeed, blocks);
  for (const LocalHash block : blocks) {
    by_hash["block_hashes"].push_back(static_cast<int64_t>(block));
  }
  EXPECT_EQ(Say("POST", "/query_by_hash", by_hash.dump(), kDynamo), expected);

  for (const char* path : {"/query", "/query_by_hash"}) {
    EXPECT_EQ(
        Say("POST", path, R"({"model_name": "n", "token_ids": [], "block_hashes": []})", kDynamo),
        R"({"error":"no indexer for model=n tenant_id=default"})");
    EXPECT_EQ(status_, 404);
  }
  EXPECT_EQ(Say("POST", "/query", "{}", kDynamo), R"({"error":"model_name is required"})");
  EXPECT_EQ(status_, 400);
}

TEST_F(MooncakeRoutesTest, TheDocumentsExamplesHaveTheFieldsOfTheAnswers) {
  Json registration = Vllm("vllm-1", 5557);
  registration["modelname"] = "demo";
  registration["block_size"] = 16;
  Post("/register", registration);
  const std::string compat = " -H 'X-Conductor-Compat: cpp-json'";
  const auto example = [&compat](const std::string& path) {
    return NamesIn(ExampleAfter("curl -s http://127.0.0.1:13333" + path + compat));
  };
  const Json query = {{"model", "demo"}, {"block_size", 16}, {"token_ids", {1, 2, 3}}};
  EXPECT_EQ(NamesIn(Json::parse(Say("POST", "/query", query.dump(), kCppJson))), example("/query"));
  for (const char* path : {"/services", "/global_view"}) {
    EXPECT_EQ(NamesIn(Json::parse(Say("GET", path, "", kCppJson))), example(path)) << path;
  }
  const Json by_hash = {{"model", "demo"}, {"block_size", 16}, {"seq_hashes", {1}}};
  EXPECT_EQ(NamesIn(Post("/query_by_hash", by_hash)),
            NamesIn(ExampleAfter("### `POST /query_by_hash`")));
}

// How long a query may take, and how long its prompt may be, in every generation.
class MooncakeBounds : public testing::Test {
 protected:
  using Json = nlohmann::json;

  explicit MooncakeBounds(HttpApi::Options options = {.port = 0, .max_query_blocks = 3})
      : registry_(Registry::Options{}), api_(registry_, options), client_(api_.Start().value()) {
    const auto register_engine = [this](const char* body) {
      EXPECT_EQ(client_.Post("/register", body).status, 200);
    };
    register_engine(R"({"endpoint": "tcp://127.0.0.1:1", "modelname": "m", "instance_id": "a",
                        "block_size": 4})");
  }

  struct Asked {
    const char* path;
    const char* headers;
    Json body;
    const char* field;
  };
  // Four blocks.
  static std::vector<Asked> EveryPath() {
    const std::vector<int> tokens(16);
    const Json query = {{"model", "m"}, {"block_size", 4}, {"token_ids", tokens}};
    const Json hashes = {{"model", "m"}, {"block_size", 4}, {"seq_hashes", {1, 2, 3, 4}}};
    const Json cache = {
        {"model_name", "m"}, {"instances", {"a"}}, {"token_ids", tokens}, {"lora_id", -1}};
    const Json dynamo = {{"model", "m"}, {"block_hashes", {1, 2, 3, 4}}};
    return {{"/query", "", query, "token_ids"},
            {"/query_by_hash", "", hashes, "seq_hashes"},
            {"/cache", "", cache, "token_ids"},
            {"/query", kCppJson, query, "token_ids"},
            {"/query_by_hash", kCppJson, hashes, "seq_hashes"},
            {"/query", kMsgpackBody, query, "token_ids"},
            {"/query_by_hash", kMsgpackBody, hashes, "seq_hashes"},
            {"/query", kDynamo, query, nullptr},
            {"/query_by_hash", kDynamo, dynamo, nullptr}};
  }
  Reply Ask(const Asked& asked) {
    std::string body = asked.body.dump();
    if (asked.headers == std::string_view(kMsgpackBody)) {
      body.clear();
      Json::to_msgpack(asked.body, body);
    }
    return client_.Request("POST", asked.path, body, asked.headers);
  }
  static Json Read(const Reply& reply) {
    return reply.head.find("application/msgpack") != std::string::npos
               ? Json::from_msgpack(reply.body)
               : Json::parse(reply.body, nullptr, false);
  }

  Registry registry_;
  HttpApi api_;
  HttpClient client_;
};

TEST_F(MooncakeBounds, APromptOfTooManyBlocksIsRefusedWithItsField) {
  for (const Asked& asked : EveryPath()) {
    const Reply reply = Ask(asked);
    Json expected = {{"error", "the prompt has 4 blocks (expected at most 3: --max-query-blocks)"}};
    if (asked.field != nullptr) expected.update({{"reason", "too_many"}, {"field", asked.field}});
    EXPECT_EQ(reply.status, 400) << asked.path << " " << asked.headers;
    EXPECT_EQ(Read(reply), expected) << asked.path << " " << asked.headers;
  }
}

class MooncakeTimeLimit : public MooncakeBounds {
 protected:
  MooncakeTimeLimit() : MooncakeBounds({.port = 0, .query_timeout = Duration(-1)}) {}
};

TEST_F(MooncakeTimeLimit, AnAnswerThatTakesTooLongIsNone) {
  const std::string error = "the answer took longer than --query-timeout allows";
  for (const Asked& asked : EveryPath()) {
    const Reply reply = Ask(asked);
    EXPECT_EQ(reply.status, 503) << asked.path << " " << asked.headers;
    EXPECT_NE(reply.head.find("Retry-After: 1\r\n"), std::string::npos) << reply.head;
    if (asked.headers == kCppJson) {
      EXPECT_EQ(reply.body, error + "\n");
      continue;
    }
    Json expected = {{"error", error}};
    if (asked.headers == std::string_view()) expected["reason"] = "query_timeout";
    EXPECT_EQ(Read(reply), expected) << asked.path << " " << asked.headers;
  }
}

TEST(MooncakeTokens, AreAskedForInTheFormOfTheGeneration) {
  std::string path = testing::TempDir() + "/tokens.XXXXXX";
  const int file = ::mkstemp(path.data());
  ASSERT_GE(file, 0);
  const std::string_view line = "read reader-0123456789\n";
  EXPECT_EQ(::write(file, line.data(), line.size()), static_cast<ssize_t>(line.size()));
  ::close(file);
  Registry registry(Registry::Options{});
  HttpApi api(registry, {.port = 0, .auth_token_file = path});
  const auto port = api.Start();
  ::unlink(path.c_str());
  ASSERT_TRUE(port.has_value()) << port.error().Message();
  const auto ask = [&](const std::string& headers) {
    return HttpClient(*port).Request("POST", "/register", "", headers);
  };
  const Reply missing = ask(kMsgpackBody);
  EXPECT_EQ(missing.status, 401);
  EXPECT_NE(missing.head.find("WWW-Authenticate: Bearer"), std::string::npos);
  EXPECT_EQ(nlohmann::json::from_msgpack(missing.body).dump(),
            R"({"error":"this needs 'Authorization: Bearer TOKEN'"})");
  const Reply forbidden =
      ask(std::string(kCppJson) + "Authorization: Bearer reader-0123456789\r\n");
  EXPECT_EQ(forbidden.status, 403);
  EXPECT_EQ(forbidden.body, "this needs an admin's token\n");
}

// With another setting than the default.
TEST(MooncakeCompatSetting, AnswersWhereARequestDoesNotSay) {
  using Json = nlohmann::json;
  for (const auto& [setting, type] : {std::pair(Generation::kMsgpack, "application/msgpack"),
                                      std::pair(Generation::kCppJson, "application/json")}) {
    Registry registry(Registry::Options{});
    HttpApi::Options options;
    options.port = 0;
    options.compat = setting;
    HttpApi api(registry, options);
    const auto port = api.Start();
    ASSERT_TRUE(port.has_value()) << port.error().Message();
    HttpClient client(*port);
    const Reply plain = client.Get("/global_view");
    EXPECT_NE(plain.head.find(std::string("Content-Type: ") + type), std::string::npos);
    const Json view =
        setting == Generation::kMsgpack ? Json::from_msgpack(plain.body) : Json::parse(plain.body);
    EXPECT_EQ(view, (Json{{"context_count", 0}, {"contexts", Json::array()}}));
    const Reply json = client.Request("GET", "/global_view", "", "Accept: application/json\r\n");
    EXPECT_EQ(Json::parse(json.body), view) << "the JSON of its own family";
    const Reply go = client.Request("GET", "/global_view", "", "X-Conductor-Compat: go\r\n");
    EXPECT_TRUE(Json::parse(go.body).contains("model_contexts"));
    EXPECT_EQ(client.Post("/cache", "{}").status, 400) << "older than all of them";
    EXPECT_NE(client.Get("/nowhere")
                  .head.find(setting == Generation::kMsgpack ? "Content-Type: application/msgpack"
                                                             : "Content-Type: text/plain"),
              std::string::npos);
  }
}

}  // namespace
}  // namespace conductor::serve
