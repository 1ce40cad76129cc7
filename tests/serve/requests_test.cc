#include "daemon/serve/requests.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "daemon/serve/answer_document.h"
#include "tests/serve/request_bodies.h"

namespace conductor::serve {
namespace {

using namespace std::chrono_literals;

// POST /v1/query of one prompt.
Parsed<QueryRequest> ParseOne(const std::string& body) {
  return ParseQueries(body, BodyForm::kJson, 1);
}

TEST(MooncakeQuery, ReadsEveryField) {
  const auto query = ParseMooncakeQuery(
      R"({"model": "m", "block_size": 16, "token_ids": [0, 1, 4294967295], "lora_name": "l",
          "lora_id": 7, "instance_id": "vllm-1", "tenant_id": "t", "cache_salt": "s",
          "additional_salt": "w8a8", "later": {"generations": ["may", "add"]}})");
  ASSERT_TRUE(query.has_value()) << query.error().error;
  EXPECT_EQ(query->model, "m");
  EXPECT_EQ(query->block_size, 16U);
  EXPECT_EQ(query->tokens, (std::vector<TokenId>{0, 1, 4294967295}));
  EXPECT_EQ(query->lora_name, "l");
  EXPECT_EQ(query->instances, std::set<std::string>{"vllm-1"});
  EXPECT_EQ(query->tenant, "t");
  EXPECT_EQ(query->cache_salt, "s");
  EXPECT_EQ(query->additional_salt, "w8a8");
}

TEST(MooncakeQuery, WhatIsNullEmptyOrZeroIsLeftOpen) {
  for (
      const char* body :
      {R"({"model":"m","token_ids":[]})",
       R"({"model":"m","token_ids":[],"block_size":0,"tenant_id":"","instance_id":"","lora_id":-1})",
       R"({"model":"m","token_ids":[],"block_size":null,"tenant_id":null,"instance_id":null,
            "lora_name":null,"lora_id":null,"cache_salt":null,"additional_salt":null})"}) {
    const auto query = ParseMooncakeQuery(body);
    ASSERT_TRUE(query.has_value()) << query.error().error;
    EXPECT_EQ(query->block_size, std::nullopt);
    EXPECT_EQ(query->tenant, "default");
    EXPECT_TRUE(query->instances.empty());
    EXPECT_EQ(query->lora_name, "");
    EXPECT_EQ(query->cache_salt, "");
    EXPECT_EQ(query->additional_salt, std::nullopt);
  }
}

TEST(MooncakeQuery, ALoraIdNamesTheAdapterWhereNoNameDoes) {
  EXPECT_EQ(ParseMooncakeQuery(R"({"model":"m","token_ids":[],"lora_id":7})")->lora_name, "7");
}

struct Case {
  std::string body;
  RequestError error;
};

TEST(MooncakeQuery, WhatIsAbsentIsEmptyAsThatGenerationHasIt) {
  for (const char* body : {"{}", R"({"model":null,"token_ids":null})", R"({"model":""})"}) {
    const auto query = ParseMooncakeQuery(body);
    ASSERT_TRUE(query.has_value()) << query.error().error;
    EXPECT_EQ(query->model, "");
    EXPECT_TRUE(query->tokens.empty());
  }
}

TEST(MooncakeQuery, ATokenBelowZeroIsTakenAndIsNoOther) {
  const auto query = ParseMooncakeQuery(R"({"model":"m","token_ids":[1,-1,-2147483648]})");
  ASSERT_TRUE(query.has_value()) << query.error().error;
  EXPECT_EQ(query->tokens, (std::vector<TokenId>{1, 4294967295, 2147483648}));
}

TEST(MooncakeQuery, SaysWhatIsWrongAndWhere) {
  const std::vector<Case> cases = {
      {R"({"model":5,"token_ids":[]})", {"model must be a string", "invalid_type", "model", {}}},
      {R"({"model":"m","token_ids":"1,2"})",
       {"token_ids must be an array of token ids, not a string", "not_array", "token_ids", {}}},
      {R"({"model":"m","token_ids":[1,-2147483649]})",
       {"token_ids[1] is -2147483649 (expected an integer from -2147483648 to 4294967295)",
        "out_of_range", "token_ids", 1}},
      {R"({"model":"m","token_ids":[4294967296]})",
       {"token_ids[0] is 4294967296 (expected an integer from -2147483648 to 4294967295)",
        "out_of_range", "token_ids", 0}},
      {R"({"model":"m","token_ids":[18446744073709551615]})",
       {"token_ids[0] is 18446744073709551615 (expected an integer from -2147483648 to 4294967295)",
        "out_of_range", "token_ids", 0}},
      {R"({"model":"m","token_ids":[1,2,1.0]})",
       {"token_ids[2] is a fraction (expected an integer from -2147483648 to 4294967295)",
        "invalid_type", "token_ids", 2}},
      {R"({"model":"m","token_ids":[null]})",
       {"token_ids[0] is null (expected an integer from -2147483648 to 4294967295)", "invalid_type",
        "token_ids", 0}},
      {R"({"model":"m","token_ids":[[1]]})",
       {"token_ids[0] is an array (expected an integer from -2147483648 to 4294967295)",
        "invalid_type", "token_ids", 0}},
      {R"({"model":"m","token_ids":[],"block_size":-1})",
       {"block_size is -1 (expected an integer from 0 to 2147483647)",
        "out_of_range",
        "block_size",
        {}}},
      {R"({"model":"m","token_ids":[],"block_size":"16"})",
       {"block_size must be an integer", "invalid_type", "block_size", {}}},
      {R"({"model":"m","token_ids":[],"block_size":18446744073709551615})",
       {"block_size is 18446744073709551615 (expected an integer from 0 to 2147483647)",
        "out_of_range",
        "block_size",
        {}}},
      {R"({"model":"m","token_ids":[],"tenant_id":3})",
       {"tenant_id must be a string", "invalid_type", "tenant_id", {}}},
      {R"({"model":"m","token_ids":[1],"token_ids":[2]})",
       {"token_ids is given twice", "duplicate_field", "token_ids", {}}},
  };
  for (const auto& [body, error] : cases) {
    EXPECT_EQ(ErrorOf(ParseMooncakeQuery(body)).error, error.error) << body;
    EXPECT_EQ(ErrorOf(ParseMooncakeQuery(body)), error) << body;
  }
}

TEST(EveryBody, MustBeOneStrictJsonObject) {
  std::string deep = R"({"model":"m","token_ids":)";
  deep += std::string(5000, '[') + std::string(5000, ']') + "}";
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", "the body is empty"},
      {"  ", "the body is empty"},
      {"[]", "the body is an array (expected an object)"},
      {"7", "the body is an integer (expected an object)"},
      {deep, "the body is nested too deep"},
      {"{\"model\":\"\xff\"}", "the body is not valid UTF-8"},
      {R"({"model":"m","token_ids":[]} {})", ""},
      {R"({"model":"m","token_ids":[]},)", ""},
      {R"({"model":"m","token_ids":[1,]})", ""},
      {R"({"model":"m","token_ids":[1 2]})", ""},
      {R"({"model":"m","token_ids":[01]})", ""},
      {R"({"model":"m","token_ids":[NaN]})", ""},
      {R"({"model":"m","token_ids":[1}})", ""},
      {R"({"model":"m","token_ids":[])", ""},
      {R"({'model':'m'})", ""},
      {R"({"model":"m","unknown":[1,2,},"token_ids":[]})", ""},
      {R"({"model":"\ud800","token_ids":[]})", ""},
      {R"({"model":"m","token_ids":[1]} // comment)", ""},
      {"{\"model\":\"a\nb\",\"token_ids\":[]}", ""},
      {R"({"model":"m","token_ids":[100000000000000000000]})", ""},
  };
  const std::vector<std::function<RequestError(const std::string&)>> parsers = {
      [](const std::string& body) { return ErrorOf(ParseMooncakeQuery(body)); },
      [](const std::string& body) { return ErrorOf(ParseOne(body)); },
      [](const std::string& body) { return ErrorOf(ParseRegister(body)); },
      [](const std::string& body) { return ErrorOf(ParseUnregister(body)); },
      [](const std::string& body) { return ErrorOf(ParseCacheQuery(body)); }};
  for (const auto& [body, detail] : cases) {
    for (const auto& parse : parsers) {
      const RequestError error = parse(body);
      EXPECT_EQ(error.reason, "invalid_json") << body;
      EXPECT_TRUE(error.error.starts_with("Invalid JSON: " + detail)) << body << error.error;
    }
  }
}

TEST(EveryBody, IsReadTheSameWithAndWithoutPadding) {
  std::string body = R"({"model":"m","token_ids":[1,2,3]})";
  body.shrink_to_fit();
  EXPECT_EQ(ParseOne(body)->prompts[0].tokens.size(), 3U);
  body.reserve(body.size() + 200);
  EXPECT_EQ(ParseOne(body)->prompts[0].tokens.size(), 3U);
}

TEST(EveryBody, MayHoldAPromptOf128kTokens) {
  std::string body = R"({"model":"m","token_ids":[)";
  for (int i = 0; i < 131072; ++i) body += std::to_string(i) + (i < 131071 ? "," : "]}");
  const auto query = ParseMooncakeQuery(body);
  ASSERT_TRUE(query.has_value());
  ASSERT_EQ(query->tokens.size(), 131072U);
  EXPECT_EQ(query->tokens[131071], 131071U);
}

TEST(RankedQuery, ReadsItsFields) {
  const auto ranked = ParseOne(
      R"({"model":"m","tokens":[5],"tenant_id":"t","lora_name":"l","block_size":64,
          "cache_salt":"s","additional_salt":"","instances":["a","b"],"top":3})");
  ASSERT_TRUE(ranked.has_value()) << ranked.error().error;
  EXPECT_EQ(ranked->prompts[0].tokens, std::vector<TokenId>{5});
  EXPECT_EQ(ranked->prompts[0].tenant, "t");
  EXPECT_EQ(ranked->prompts[0].lora_name, "l");
  EXPECT_EQ(ranked->prompts[0].block_size, 64U);
  EXPECT_EQ(ranked->prompts[0].cache_salt, "s");
  EXPECT_EQ(ranked->prompts[0].additional_salt, "");
  EXPECT_EQ(ranked->prompts[0].instances, (std::set<std::string>{"a", "b"}));
  EXPECT_EQ(ranked->top, 3U);
}

TEST(Queries, ReadTheSameFieldsInBothForms) {
  const nlohmann::json body = {{"model", "m"},          {"token_ids", {0, 1, 4294967295}},
                               {"tenant_id", "t"},      {"block_size", 16},
                               {"instances", {"a"}},    {"top", 2},
                               {"additional_salt", ""}, {"lora_name", nullptr}};
  for (const BodyForm form : {BodyForm::kJson, BodyForm::kMsgpack}) {
    const std::string bytes = InForm(body, form);
    const auto request = ParseQueries(bytes, form, 1);
    ASSERT_TRUE(request) << request.error().error;
    EXPECT_FALSE(request->batch);
    EXPECT_EQ(request->top, 2U);
    ASSERT_EQ(request->prompts.size(), 1U);
    const Query& query = request->prompts[0];
    EXPECT_EQ(query.tokens, (std::vector<TokenId>{0, 1, 4294967295}));
    EXPECT_EQ(query.tenant, "t");
    EXPECT_EQ(query.block_size, 16U);
    EXPECT_EQ(query.instances, std::set<std::string>{"a"});
    EXPECT_EQ(query.additional_salt, "");
  }
}

TEST(Queries, TakePackedTokensAndHashesOfAnEmptyPrompt) {
  for (const char* body :
       {R"({"model":"m","token_ids":""})", R"({"model":"m","prefix_hashes":""})"}) {
    const auto empty = ParseQueries(body, BodyForm::kJson, 1);
    ASSERT_TRUE(empty) << empty.error().error;
    EXPECT_TRUE(empty->prompts[0].tokens.empty()) << body;
    EXPECT_TRUE(empty->prompts[0].prefixes.empty()) << body;
  }
}

TEST(Queries, TakePackedTokensAndHashes) {
  const std::vector<TokenId> tokens{1, 258};
  const auto json = ParseQueries(R"({"model":"m","token_ids":"AQAAAAIBAAA="})", BodyForm::kJson, 1);
  ASSERT_TRUE(json) << json.error().error;
  EXPECT_EQ(json->prompts[0].tokens, tokens);
  const nlohmann::json bin = {{"model", "m"},
                              {"token_ids", nlohmann::json::binary({1, 0, 0, 0, 2, 1, 0, 0})}};
  const auto msgpack = ParseQueries(InForm(bin, BodyForm::kMsgpack), BodyForm::kMsgpack, 1);
  ASSERT_TRUE(msgpack) << msgpack.error().error;
  EXPECT_EQ(msgpack->prompts[0].tokens, tokens);

  const std::vector<PrefixHash> hashes{PrefixHash{5}, PrefixHash{~uint64_t{0}},
                                       PrefixHash{~uint64_t{0}}, PrefixHash{1}};
  const auto mixed = ParseQueries(
      R"({"model":"m","prefix_hashes":[5,-1,"18446744073709551615","1"]})", BodyForm::kJson, 1);
  ASSERT_TRUE(mixed) << mixed.error().error;
  EXPECT_EQ(mixed->prompts[0].prefixes, hashes);
  const auto packed =
      ParseQueries(R"({"model":"m","prefix_hashes":"BQAAAAAAAAA="})", BodyForm::kJson, 1);
  ASSERT_TRUE(packed) << packed.error().error;
  EXPECT_EQ(packed->prompts[0].prefixes, std::vector<PrefixHash>{PrefixHash{5}});
}

TEST(Queries, TakeABatchOfPrompts) {
  const auto request = ParseQueries(
      R"({"model":"m","cache_salt":"common","prompts":[{"token_ids":[1]},
          {"tokens":[2],"cache_salt":"own"},{"token_ids":[3],"extra_keys":[["a"],null]}]})",
      BodyForm::kJson, 3);
  ASSERT_TRUE(request) << request.error().error;
  EXPECT_TRUE(request->batch);
  ASSERT_EQ(request->prompts.size(), 3U);
  EXPECT_EQ(request->prompts[0].cache_salt, "common");
  EXPECT_EQ(request->prompts[1].cache_salt, "own");
  EXPECT_EQ(request->prompts[1].tokens, std::vector<TokenId>{2});
  EXPECT_EQ(request->prompts[2].extra_keys,
            (std::vector<hash::ExtraKeys>{{hash::TextKey("a")}, {}}));
}

TEST(Queries, TakeExtraKeysOfEveryKind) {
  const auto request = ParseQueries(
      R"({"model":"m","token_ids":[1],"extra_keys":[["id",7,["image",3],{"base64":"AAE="}]]})",
      BodyForm::kJson, 1);
  ASSERT_TRUE(request) << request.error().error;
  EXPECT_EQ(request->prompts[0].extra_keys,
            (std::vector<hash::ExtraKeys>{{hash::TextKey("id"), hash::IntegerKey(7),
                                           hash::ItemKey("image", 3),
                                           hash::BytesKey(std::string("\0\1", 2))}}));
}

TEST(Queries, SayWhatIsWrongAndWhere) {
  const std::vector<Case> cases = {
      {R"({"model":"m","token_ids":"AQAAAA=A"})",
       {"token_ids is no base64 with padding", "invalid_value", "token_ids", {}}},
      {R"({"model":"m","token_ids":"AQAA"})",
       {"token_ids has 3 bytes (expected a multiple of 4)", "invalid_value", "token_ids", {}}},
      {R"({"model":"m","prefix_hashes":[1,1.5]})",
       {"prefix_hashes[1] is a fraction (expected a 64-bit integer, or its decimal digits)",
        "invalid_type", "prefix_hashes", 1}},
      {R"({"model":"m","prefix_hashes":[1],"cache_salt":"s"})",
       {"cache_salt says nothing beside prefix_hashes, which have it in them",
        "invalid_value",
        "cache_salt",
        {}}},
      {R"({"model":"m","prompts":[{"token_ids":[1]},{"token_ids":[1]},{"token_ids":[1]}]})",
       {"prompts has 3 entries (expected at most 2: --max-prompts)", "too_many", "prompts", {}}},
      {R"({"model":"m","prompts":[{"token_ids":[1]},7]})",
       {"prompts[1] is an integer (expected an object)", "invalid_type", "prompts", 1}},
      {R"({"model":"m","prompts":[{"token_ids":[-1]}]})",
       {"prompts[0].token_ids[0] is -1 (expected an integer from 0 to 4294967295)", "out_of_range",
        "prompts[0].token_ids", 0}},
      {R"({"model":"m","prompts":[{"tokenz":[1]}]})",
       {"unsupported request field: prompts[0].tokenz (did you mean prompts[0].tokens?)",
        "unknown_field",
        "prompts[0].tokenz",
        {}}},
      {R"({"model":"m","prompts":[],"token_ids":[1]})",
       {"token_ids belongs into each of the prompts, not beside them",
        "invalid_value",
        "token_ids",
        {}}},
      {R"({"model":"m","token_ids":[1],"extra_keys":[["a"],[true]]})",
       {"extra_keys[1] is not null or an array of keys: strings, integers, [identifier, offset], "
        "bytes ({\"base64\": ...} in JSON)",
        "invalid_type", "extra_keys", 1}},
  };
  for (const auto& [body, error] : cases) {
    EXPECT_EQ(ErrorOf(ParseQueries(body, BodyForm::kJson, 2)), error) << body;
  }
  EXPECT_EQ(ErrorOf(ParseQueries("\xc1", BodyForm::kMsgpack, 1)).reason, "invalid_msgpack");
  EXPECT_EQ(ErrorOf(ParseQueries("\x90", BodyForm::kMsgpack, 1)).reason, "invalid_msgpack");
  EXPECT_EQ(ErrorOf(ParseQueries("\x81\x01\x01", BodyForm::kMsgpack, 1)).error,
            "map keys must be strings");
}

TEST(Scores, ReadLoadsAndWeights) {
  const index::ScoreWeights daemon{.gpu = 3};
  const auto request = ParseScore(
      R"({"model":"m","token_ids":[1],"load":{"a":{"waiting":2,"kv_use":0.5},"b":{}},
          "weights":{"cpu":0.25}})",
      BodyForm::kJson, 1, daemon);
  ASSERT_TRUE(request) << request.error().error;
  EXPECT_EQ(request->load.at("a").waiting, 2.0);
  EXPECT_EQ(request->load.at("a").kv_use, 0.5);
  EXPECT_EQ(request->load.at("b").waiting, std::nullopt);
  EXPECT_EQ(request->weights.gpu, 3);
  EXPECT_EQ(request->weights.cpu, 0.25);

  const std::vector<Case> cases = {
      {R"({"model":"m","token_ids":[1],"load":[]})",
       {"load is an array (expected an object: instance id to what is known of it)",
        "invalid_type",
        "load",
        {}}},
      {R"({"model":"m","token_ids":[1],"load":{"a":5}})",
       {"load.a is an integer (expected an object with waiting or kv_use)",
        "invalid_type",
        "load",
        {}}},
      {R"({"model":"m","token_ids":[1],"load":{"a":{"kv_use":50}}})",
       {"load.a.kv_use is 50 (expected a number from 0 to 1)",
        "out_of_range",
        "load.a.kv_use",
        {}}},
      {R"({"model":"m","token_ids":[1],"weights":{"gpus":1}})",
       {"unsupported request field: weights.gpus (did you mean weights.gpu?)",
        "unknown_field",
        "weights.gpus",
        {}}},
  };
  for (const auto& [body, error] : cases) {
    EXPECT_EQ(ErrorOf(ParseScore(body, BodyForm::kJson, 1, daemon)), error) << body;
  }
}

TEST(RankedQuery, SaysWhatIsWrongAndWhere) {
  const std::vector<Case> cases = {
      {R"({"model":"m","token_ids":[],"modle":1})",
       {"unsupported request field: modle (did you mean model?)", "unknown_field", "modle", {}}},
      {R"({"model":"m","token_ids":[],"instance_id":"a"})",
       {"unsupported request field: instance_id", "unknown_field", "instance_id", {}}},
      {R"({"model":"m","token_ids":[],"tokens":[]})",
       {"tokens is another name of token_ids: give one", "duplicate_field", "tokens", {}}},
      {R"({"model":"m","tokens":[-1]})",
       {"tokens[0] is -1 (expected an integer from 0 to 4294967295)", "out_of_range", "tokens", 0}},
      {R"({"model":"m"})", {"token_ids is required", "missing", "token_ids", {}}},
      {R"({"model":"m","token_ids":[],"block_size":0})",
       {"block_size is 0 (expected an integer from 1 to 2147483647)",
        "out_of_range",
        "block_size",
        {}}},
      {R"({"model":"m","token_ids":[],"instances":"a"})",
       {"instances must be an array of strings, not a string", "not_array", "instances", {}}},
      {R"({"model":"m","token_ids":[],"instances":["a",1]})",
       {"\"instances[1]\" is not a string", "invalid_type", "instances", 1}},
      {R"({"model":"m","token_ids":[],"instances":[]})",
       {"instances must not be empty (leave it out to ask for all)",
        "invalid_value",
        "instances",
        {}}},
      {R"({"model":"m","token_ids":[],"top":0})",
       {"top is 0 (expected an integer from 1 to 2147483647)", "out_of_range", "top", {}}},
  };
  for (const auto& [body, error] : cases) {
    EXPECT_EQ(ErrorOf(ParseOne(body)).error, error.error) << body;
    EXPECT_EQ(ErrorOf(ParseOne(body)), error) << body;
  }
}

TEST(RankedQuery, CutsLongUnknownNamesInItsMessage) {
  const std::string name(10'000, 'x');
  const RequestError error = ErrorOf(ParseOne("{\"" + name + "\":1}"));
  EXPECT_EQ(error.reason, "unknown_field");
  EXPECT_LT(error.error.size(), 200U);
}

TEST(Explain, IsAQueryForOneInstance) {
  const auto request =
      ParseExplain(R"({"model": "m", "token_ids": [1, 2], "instance_id": "a", "cache_salt": "s"})");
  ASSERT_TRUE(request.has_value()) << request.error().error;
  EXPECT_EQ(request->instance_id, "a");
  EXPECT_EQ(request->query.model, "m");
  EXPECT_EQ(request->query.cache_salt, "s");
  EXPECT_EQ(request->query.tokens, (std::vector<TokenId>{1, 2}));
  EXPECT_EQ(ParseExplain(R"({"model": "m", "token_ids": [1]})").error().field, "instance_id");
  EXPECT_EQ(ParseExplain(R"({"model": "m", "instance_id": "a"})").error().field, "token_ids");
  for (const char* field : {"prompts", "instances", "top"}) {
    const std::string body =
        std::string(R"({"model": "m", "token_ids": [1], "instance_id": "a", ")") + field + "\": 1}";
    EXPECT_EQ(ParseExplain(body).error().reason, "unknown_field") << field;
  }
}

TEST(Register, ReadsTheLateGenerationsFields) {
  const auto request = ParseRegister(
      R"({"endpoint":"tcp://h:5557","replay_endpoint":"tcp://h:5558","type":"vLLM","modelname":"m",
          "lora_name":"l","tenant_id":"t","instance_id":"i","block_size":128,"dp_rank":3,
          "additionalsalt":"w8a8","topic":"kv","copies":"set","cache_group":0,
          "hash_profile":{"strategy":"vllm_v1","algorithm":"sha256_cbor",
                          "index_projection":"low64_be","python_hash_seed":"random",
                          "root_digest":"00"},"blocksize":{}})");
  ASSERT_TRUE(request.has_value()) << request.error().error;
  Registration expected;
  expected.endpoint = "tcp://h:5557";
  expected.replay_endpoint = "tcp://h:5558";
  expected.topic = "kv";
  expected.model = "m";
  expected.lora_name = "l";
  expected.tenant = "t";
  expected.instance_id = "i";
  expected.block_size = 128;
  expected.dp_rank = 3;
  expected.additional_salt = "w8a8";
  expected.copies = index::CopyMode::kSet;
  expected.hash_profile = hash::HashProfile{hash::HashAlgorithm::kSha256Cbor, "random", 0};
  EXPECT_EQ(request->registration, expected);
  EXPECT_EQ(request->dp_size, 1U);
  EXPECT_EQ(request->unused, (std::vector<std::string>{"hash_profile.root_digest", "blocksize"}));
}

TEST(Register, ReadsConductorsOwnFieldsOfEngines) {
  const auto request = ParseRegister(
      R"({"endpoint":"tcp://*:5557","mode":"bind","peer":"10.0.0.1","topic":"kv","type":"SGLANG",
          "modelname":"m","instance_id":"i","dp_size":8,"incarnation":"pod-7f3a",
          "ttl":{"cpu":"10m","disk":"1.5h"},
          "hash_profile":{"algorithm":"xxhash","python_hash_seed":"00","hash_block_size":16}})");
  ASSERT_TRUE(request.has_value()) << request.error().error;
  Registration expected;
  expected.endpoint = "tcp://*:5557";
  expected.mode = stream::ListenMode::kBind;
  expected.peer = "10.0.0.1";
  expected.topic = "kv";
  expected.type = PublisherType::kSglang;
  expected.model = "m";
  expected.instance_id = "i";
  expected.incarnation = "pod-7f3a";
  expected.ttl = {0min, 10min, 90min};
  expected.hash_profile = hash::HashProfile{hash::HashAlgorithm::kXxhash, "00", 16};
  EXPECT_EQ(request->registration, expected);
  EXPECT_EQ(request->dp_size, 8U);
  EXPECT_TRUE(request->unused.empty());
}

TEST(Register, ReadsConductorsOwnFieldsOfPools) {
  const auto request = ParseRegister(
      R"({"endpoint":"tcp://h:5557","type":"mooncake","modelname":"m","instance_id":"i",
          "pool_lookup":"continue","tp_size":8,"kv_heads":4,"pp_size":2,"layers":32,
          "admin_endpoint":"http://h:9003","key_models":{"prod@Llama-3":"m","Qwen":"q"}})");
  ASSERT_TRUE(request.has_value()) << request.error().error;
  const PoolRegistration expected{.lookup = index::PoolLookup::kContinue,
                                  .tp_size = 8,
                                  .kv_heads = 4,
                                  .pp_size = 2,
                                  .layers = 32,
                                  .admin_endpoint = "h:9003",
                                  .key_models = {{"prod@Llama-3", "m"}, {"Qwen", "q"}}};
  EXPECT_EQ(request->registration.pool, expected);
  EXPECT_TRUE(request->unused.empty());
}

TEST(Register, AnEngineThatDeclaresItsHashesNeedsToNameOnlyTheAlgorithm) {
  const auto request = ParseRegister(
      R"({"endpoint":"tcp://h:1","modelname":"m","instance_id":"i","hash_profile":{"algorithm":"sha256"}})");
  ASSERT_TRUE(request.has_value()) << request.error().error;
  EXPECT_EQ(request->registration.hash_profile, hash::HashProfile{});
  EXPECT_EQ(request->registration.hash_profile->seed, "vllm-none-hash");
}

TEST(Register, ReadsIpAndPortAsTheFirstGenerationsDid) {
  const auto engine = ParseRegister(
      R"({"ip":"10.0.0.1","port":5557,"type":"vllm","model":"m","instance_id":"i","lora_id":2})");
  ASSERT_TRUE(engine.has_value()) << engine.error().error;
  EXPECT_EQ(engine->registration.endpoint, "tcp://10.0.0.1:5557");
  EXPECT_EQ(engine->registration.replay_endpoint, "tcp://10.0.0.1:5558");
  EXPECT_EQ(engine->registration.lora_name, "2");
  EXPECT_EQ(engine->registration.model, "m");
  const auto pool = ParseRegister(
      R"({"ip":"::1","port":5557,"type":"Mooncake","modelname":"m","instance_id":"i","lora_id":-1})");
  ASSERT_TRUE(pool.has_value()) << pool.error().error;
  EXPECT_EQ(pool->registration.type, PublisherType::kMooncake);
  EXPECT_EQ(pool->registration.endpoint, "tcp://[::1]:5557");
  EXPECT_EQ(pool->registration.replay_endpoint, "");
  EXPECT_EQ(pool->registration.lora_name, "");
}

TEST(Register, SaysWhatIsWrongAndWhere) {
  const std::string rest = R"(,"modelname":"m","instance_id":"i"})";
  const std::vector<Case> cases = {
      {R"({"modelname":"m","instance_id":"i"})",
       {"endpoint is required", "missing", "endpoint", {}}},
      {R"({"endpoint":"")" + rest, {"endpoint must not be empty", "invalid_value", "endpoint", {}}},
      {R"({"endpoint":"tcp://h:1","modelname":"m"})",
       {"instance_id is required", "missing", "instance_id", {}}},
      {R"({"endpoint":"tcp://h:1","modelname":"m","instance_id":""})",
       {"instance_id must not be empty", "invalid_value", "instance_id", {}}},
      {R"({"endpoint":"tcp://h:1","instance_id":"i"})",
       {"modelname is required", "missing", "modelname", {}}},
      {R"({"endpoint":1)" + rest, {"endpoint must be a string", "invalid_type", "endpoint", {}}},
      {R"({"endpoint":"tcp://h:1","model":"x")" + rest,
       {"model: 'x' and modelname 'm' differ (expected one of the two fields)",
        "invalid_value",
        "model",
        {}}},
      {R"({"endpoint":"tcp://h:1","type":"TGI")" + rest,
       {"type: 'TGI' is not a publisher type (expected vLLM, vLLM-Ascend, SGLang, LMCache, "
        "TensorRT-LLM, RFC1527 or Mooncake)",
        "invalid_value",
        "type",
        {}}},
      {R"({"endpoint":"tcp://h:1","ip":"h")" + rest,
       {"endpoint: stands beside ip or port (expected either endpoint, or ip and port)",
        "invalid_value",
        "endpoint",
        {}}},
      {R"({"ip":"h")" + rest, {"port is required", "missing", "port", {}}},
      {R"({"port":1)" + rest, {"ip is required", "missing", "ip", {}}},
      {R"({"ip":"h","port":65536)" + rest,
       {"port: 65536 is not a port (expected an integer from 1 to 65535)",
        "out_of_range",
        "port",
        {}}},
      {R"({"endpoint":"tcp://h:1","dp_rank":-1)" + rest,
       {"dp_rank: -1 is not a rank (expected an integer from 0 to 2147483647)",
        "out_of_range",
        "dp_rank",
        {}}},
      {R"({"endpoint":"tcp://h:1","dp_rank":1.5)" + rest,
       {"dp_rank must be an integer from 0 to 2147483647", "invalid_type", "dp_rank", {}}},
      {R"({"endpoint":"tcp://h:1","dp_rank":18446744073709551615)" + rest,
       {"dp_rank: 18446744073709551615 is not a rank (expected an integer from 0 to 2147483647)",
        "out_of_range",
        "dp_rank",
        {}}},
      {R"({"endpoint":"tcp://h:1","copies":"many")" + rest,
       {"copies: 'many' is not a way to count copies (expected count or set)",
        "invalid_value",
        "copies",
        {}}},
      {R"({"endpoint":"tcp://h:1","mode":"listen")" + rest,
       {"mode: 'listen' is not a way to listen (expected connect, bind or ingest)",
        "invalid_value",
        "mode",
        {}}},
      {R"({"endpoint":"tcp://h:1","cache_group":1)" + rest,
       {"cache_group: 1 is not a cache group that can be followed (expected 0 or null)",
        "unsupported",
        "cache_group",
        {}}},
      {R"({"endpoint":"tcp://h:1","ttl":"10m")" + rest,
       {"ttl must be an object", "invalid_type", "ttl", {}}},
      {R"({"endpoint":"tcp://h:1","ttl":{"cpu":600})" + rest + "",
       {"ttl.cpu must be a string", "invalid_type", "ttl.cpu", {}}},
      {R"({"endpoint":"tcp://h:1","ttl":{"cpu":"0s"})" + rest,
       {"ttl.cpu: '0s' is too short (expected a time above zero: 90s, 10m, 1h; or leave the tier "
        "out)",
        "invalid_value",
        "ttl.cpu",
        {}}},
      {R"({"endpoint":"tcp://h:1","hash_profile":"sha256")" + rest,
       {"hash_profile must be an object", "invalid_type", "hash_profile", {}}},
      {R"({"endpoint":"tcp://h:1","hash_profile":{})" + rest,
       {"hash_profile.algorithm is required", "missing", "hash_profile.algorithm", {}}},
      {R"({"endpoint":"tcp://h:1","hash_profile":{"algorithm":"md5"})" + rest,
       {"hash_profile.algorithm: 'md5' is not a hash algorithm that can be computed (expected "
        "sha256, sha256_cbor, xxhash or xxhash_cbor)",
        "invalid_value",
        "hash_profile.algorithm",
        {}}},
      {R"({"endpoint":"tcp://h:1","hash_profile":{"algorithm":"sha256","strategy":"v2"})" + rest,
       {"hash_profile.strategy: 'v2' is not supported (expected vllm_v1)",
        "invalid_value",
        "hash_profile.strategy",
        {}}},
      {R"({"endpoint":"tcp://h:1","hash_profile":{"algorithm":"sha256","python_hash_seed":0})" +
           rest,
       {"hash_profile.python_hash_seed must be a string",
        "invalid_type",
        "hash_profile.python_hash_seed",
        {}}},
      {R"({"endpoint":"tcp://h:1","hash_profile":{"algorithm":"sha256","algorithm":"sha256"})" +
           rest,
       {"hash_profile.algorithm is given twice", "duplicate_field", "hash_profile.algorithm", {}}},
      {R"({"endpoint":"tcp://h:1","tp_size":0)" + rest,
       {"tp_size: 0 is not a number of ranks (expected an integer from 1 to 2147483647)",
        "out_of_range",
        "tp_size",
        {}}},
      {R"({"endpoint":"tcp://h:1","admin_endpoint":"https://h:1")" + rest,
       {"admin_endpoint: 'https://h:1' is not an HTTP address (expected HOST:PORT or "
        "http://HOST:PORT)",
        "invalid_value",
        "admin_endpoint",
        {}}},
      {R"({"endpoint":"tcp://h:1","key_models":{"a":""})" + rest,
       {"key_models.a must not be empty", "invalid_value", "key_models.a", {}}},
      {R"({"endpoint":"tcp://h:1","key_models":{"a":[["b"]]})" + rest,
       {"key_models.a must be a string", "invalid_type", "key_models.a", {}}},
  };
  for (const auto& [body, error] : cases) {
    EXPECT_EQ(ErrorOf(ParseRegister(body)).error, error.error) << body;
    EXPECT_EQ(ErrorOf(ParseRegister(body)), error) << body;
  }
}

TEST(Register, IsNoPlaceForThousandsOfMembers) {
  std::string many = R"({"endpoint":"tcp://h:1","key_models":{)";
  for (int i = 0; i < 100'000; ++i) many += fmt::format(R"("m{}":"m",)", i);
  many.back() = '}';
  EXPECT_EQ(ErrorOf(ParseRegister(many + "}")),
            (RequestError{"key_models has more than 1024 members", "too_many", "key_models", {}}));
}

TEST(Unregister, NamesAPublisherByItsKey) {
  EXPECT_EQ(ParseUnregister(R"({"instance_id":"i"})").value(), "i|default|0");
  EXPECT_EQ(
      ParseUnregister(R"({"instance_id":"i","tenant_id":"t","dp_rank":2,"type":"vLLM"})").value(),
      "i|t|2");
  EXPECT_EQ(ErrorOf(ParseUnregister("{}")).error, "instance_id is required");
}

TEST(CacheQuery, ReadsTheFirstGenerationsFields) {
  const auto query = ParseCacheQuery(
      R"({"token_ids":[1,2],"instances":["10.0.0.1","10.0.0.2"],"model_name":"ds","lora_id":-1})");
  ASSERT_TRUE(query.has_value()) << query.error().error;
  EXPECT_EQ(query->tokens, (std::vector<TokenId>{1, 2}));
  EXPECT_EQ(query->hosts, (std::set<std::string>{"10.0.0.1", "10.0.0.2"}));
  EXPECT_EQ(query->model, "ds");
  EXPECT_EQ(query->lora_name, "");
  EXPECT_EQ(
      ParseCacheQuery(R"({"token_ids":[],"instances":[],"model_name":"","lora_id":4})")->lora_name,
      "4");
  EXPECT_EQ(ParseCacheQuery(R"({"token_ids":[],"instances":[],"model_name":"","lora_id":4.0})")
                ->lora_name,
            "4");
  EXPECT_EQ(ParseCacheQuery(R"({"token_ids":[],"instances":[],"model_name":"","lora_id":-1.0})")
                ->lora_name,
            "");
  EXPECT_EQ(ParseCacheQuery(R"({"token_ids":[],"instances":[],"model_name":"","lora_name":"x"})")
                ->lora_name,
            "x");
}

TEST(CacheQuery, HasThatGenerationsErrors) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {R"({"instances":[],"model_name":"m"})", "missing key: token_ids"},
      {R"({"token_ids":[],"model_name":"m"})", "missing key: instances"},
      {R"({"token_ids":[],"instances":[]})", "missing key: model_name"},
      {R"({"token_ids":1,"instances":[],"model_name":"m"})",
       "the value of token_ids is not an array"},
      {R"({"token_ids":[],"instances":{},"model_name":"m"})",
       "the value of instances is not an array"},
      {R"({"token_ids":[],"instances":["a",2],"model_name":"m"})",
       "\"instances[1]\" is not a string"},
      {R"({"token_ids":[],"instances":[],"model_name":1})",
       "the value of: model_name is not a string"},
      {R"({"token_ids":[],"instances":[],"model_name":"m","lora_id":"1"})",
       "the value of: lora_id is not a number"},
      {R"({"token_ids":[],"instances":[],"model_name":"m","lora_name":1})",
       "the value of: lora_name is not a string"},
  };
  for (const auto& [body, error] : cases) {
    EXPECT_EQ(ErrorOf(ParseCacheQuery(body)).error, error) << body;
  }
}

TEST(InstancesOfAQuery, AreAtMost4096InEveryDialect) {
  const auto body = [](size_t entries) {
    std::string json = R"({"token_ids":[],"model":"m","model_name":"m","instances":[)";
    for (size_t i = 0; i < entries; ++i) json += i == 0 ? R"("a")" : R"(,"a")";
    return json + "]}";
  };
  const RequestError too_many{
      "instances has 4097 entries (expected at most 4096)", "too_many", "instances", {}};
  EXPECT_EQ(ErrorOf(ParseCacheQuery(body(4097))), too_many);
  EXPECT_EQ(ParseCacheQuery(body(4096)).value().hosts, std::set<std::string>{"a"});

  const auto ranked = [&body](size_t entries) {
    std::string json = body(entries);
    return ParseOne(json.erase(json.find(R"("model_name":"m",)"), 17));
  };
  EXPECT_EQ(ErrorOf(ranked(4097)), too_many);
  EXPECT_EQ(ranked(4096).value().prompts[0].instances, std::set<std::string>{"a"});
}

TEST(RequestErrorJson, HasTheFieldsThatApply) {
  EXPECT_EQ(ErrorDocument({"what", "missing", "", {}}), R"({"error":"what","reason":"missing"})");
  EXPECT_EQ(ErrorDocument({"a \"b\"", "out_of_range", "token_ids", 3}),
            R"({"error":"a \"b\"","reason":"out_of_range","field":"token_ids","index":3})");
}

TEST(Register, TextsThatAreNotUtf8AreToldAndNotTaken) {
  const std::string good =
      "\xa8"
      "endpoint\xactcp://h:5557\xa9modelname\xa1m";
  EXPECT_EQ(
      ErrorOf(ParseRegister("\x83" + good + "\xabinstance_id\xa2\xe9z", BodyForm::kMsgpack)),
      (RequestError{"instance_id: \"\xef\xbf\xbdz\" is not UTF-8 (expected a string in UTF-8)",
                    "invalid_value",
                    "instance_id",
                    {}}));
  EXPECT_EQ(ErrorOf(ParseRegister("\x84" + good +
                                      "\xabinstance_id\xa1z\xa7"
                                      "dp_rank\xa1\xe9",
                                  BodyForm::kMsgpack))
                .field,
            "dp_rank");
}

TEST(Register, ModelsInKeysThatAreNotUtf8AreToldAndNotTaken) {
  EXPECT_EQ(ErrorOf(ParseRegister("\x85\xa8"
                                  "endpoint\xactcp://h:5557\xa9modelname\xa1m\xabinstance_id\xa1z"
                                  "\xa4type\xa8Mooncake\xaakey_models\x81\xa2\xe9z\xa1m",
                                  BodyForm::kMsgpack)),
            (RequestError{"key_models.\xe9z: the model in object keys is not UTF-8 "
                          "(expected a string in UTF-8)",
                          "invalid_value",
                          "key_models.\xe9z",
                          {}}));
}

}  // namespace
}  // namespace conductor::serve
