#include "daemon/serve/mooncake_requests.h"

#include <gtest/gtest.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "tests/serve/request_bodies.h"

namespace conductor::serve {
namespace {

using namespace std::chrono_literals;
using Json = nlohmann::ordered_json;

constexpr BodyForm kJson = BodyForm::kJson;
constexpr BodyForm kMsgpack = BodyForm::kMsgpack;

Json GoodQuery() { return {{"model", "m"}, {"block_size", 16}, {"token_ids", {1, 2, 3}}}; }

Json GoodProfile() {
  return {{"strategy", "vllm_v1"},
          {"algorithm", "sha256_cbor"},
          {"python_hash_seed", "0"},
          {"index_projection", "low64_be"}};
}

Json GoodRegistration() {
  return {{"endpoint", "tcp://127.0.0.1:5557"},
          {"type", "vLLM"},
          {"modelname", "m"},
          {"instance_id", "a"},
          {"block_size", 16},
          {"dp_rank", 0},
          {"hash_profile", GoodProfile()}};
}

// A good body but for one field.
struct Case {
  std::string field;
  std::optional<Json> value;  // nothing: left out
  std::string reason;
  std::string in_msgpack;  // the error's text
  std::string in_json;     // empty: the same
};

const std::optional<Json> kLeftOut = std::nullopt;

std::string With(Json body, const Case& test, BodyForm form) {
  body.erase(test.field);
  if (test.value) body[test.field] = *test.value;
  return InForm(body, form);
}

std::string TextOf(const Case& test, BodyForm form) {
  return form == kJson && !test.in_json.empty() ? test.in_json : test.in_msgpack;
}

// Both forms of each case, read by `parse`, end in its error.
template <typename Parse>
void ExpectErrors(const std::vector<Case>& cases, const Json& good, Parse parse) {
  for (const BodyForm form : {kMsgpack, kJson}) {
    EXPECT_TRUE(parse(InForm(good, form), form).has_value());
    for (const Case& test : cases) {
      const RequestError error = ErrorOf(parse(With(good, test, form), form));
      const std::string where = test.field + " " + (test.value ? test.value->dump() : "left out") +
                                (form == kJson ? " in JSON" : " in MessagePack");
      EXPECT_EQ(error.error, TextOf(test, form)) << where;
      EXPECT_EQ(error.reason, test.reason) << where;
      EXPECT_EQ(error.field, test.field) << where;
      EXPECT_EQ(error.index, std::nullopt) << where;
    }
  }
}

TEST(StrictQuery, ReadsEveryFieldInBothForms) {
  Json body = GoodQuery();
  body["tenant_id"] = "t";
  body["lora_name"] = "l";
  body["cache_salt"] = "s";
  body["instance_id"] = "a";
  for (const BodyForm form : {kMsgpack, kJson}) {
    const auto strict = ParseStrictQuery(InForm(body, form), form);
    ASSERT_TRUE(strict.has_value()) << strict.error().error;
    EXPECT_EQ(strict->query.model, "m");
    EXPECT_EQ(strict->query.block_size, 16U);
    EXPECT_EQ(strict->query.tokens, (std::vector<TokenId>{1, 2, 3}));
    EXPECT_EQ(strict->query.tenant, "t");
    EXPECT_EQ(strict->query.lora_name, "l");
    EXPECT_EQ(strict->query.cache_salt, "s");
    EXPECT_EQ(strict->query.instances, std::set<std::string>{"a"});
    EXPECT_TRUE(strict->hashable);
  }
}

TEST(StrictQuery, WhatMayBeLeftOpenIs) {
  Json body = GoodQuery();
  body["token_ids"] = Json::array();
  body["tenant_id"] = "";
  body["cache_salt"] = nullptr;
  for (const BodyForm form : {kMsgpack, kJson}) {
    const auto strict = ParseStrictQuery(InForm(body, form), form);
    ASSERT_TRUE(strict.has_value()) << strict.error().error;
    EXPECT_EQ(strict->query.tenant, "default");
    EXPECT_EQ(strict->query.cache_salt, "");
    EXPECT_TRUE(strict->query.tokens.empty());
    EXPECT_TRUE(strict->query.instances.empty());
  }
}

TEST(StrictQuery, HasUpstreamsErrors) {
  const std::string positive = "block_size must be a positive integer";
  const std::string greater = "block_size must be greater than zero";
  const std::string no_integer = "block_size must be an integer";
  const std::vector<Case> cases = {
      {"model", kLeftOut, "missing", "model is required", ""},
      {"model", nullptr, "invalid_type", "model must be a string", ""},
      {"model", 1, "invalid_type", "model must be a string", ""},
      {"model", "", "invalid_value", "model must not be empty", ""},
      {"block_size", kLeftOut, "missing", "block_size is required", ""},
      {"block_size", nullptr, "invalid_type", no_integer, ""},
      {"block_size", "16", "invalid_type", no_integer, ""},
      {"block_size", 16.5, "invalid_type", no_integer, ""},
      {"block_size", 16.0, "invalid_type", no_integer, ""},
      {"block_size", true, "invalid_type", no_integer, ""},
      {"block_size", 0, "out_of_range", positive, greater},
      {"block_size", -1, "out_of_range", positive, greater},
      {"token_ids", kLeftOut, "missing", "token_ids is required", ""},
      {"tenant_id", nullptr, "invalid_type", "tenant_id must be a string", ""},
      {"tenant_id", 1, "invalid_type", "tenant_id must be a string", ""},
      {"lora_name", nullptr, "invalid_type", "lora_name must be a string", ""},
      {"cache_salt", 7, "invalid_type", "cache_salt must be a string or null", ""},
      {"instance_id", nullptr, "invalid_type", "instance_id must be a string", ""},
      {"lora_id", 7, "unknown_field", "unsupported request field: lora_id", ""},
      {"additional_salt", "x", "unknown_field", "unsupported request field: additional_salt", ""},
  };
  ExpectErrors(cases, GoodQuery(), ParseStrictQuery);
}

TEST(StrictQuery, SizesAboveSixtyThreeBitsAreOutOfRangeAndInJsonNoIntegers) {
  Json body = GoodQuery();
  body["block_size"] = uint64_t{1} << 63;
  EXPECT_EQ(ErrorOf(ParseStrictQuery(InForm(body, kMsgpack), kMsgpack)).reason, "out_of_range");
  EXPECT_EQ(ErrorOf(ParseStrictQuery(InForm(body, kJson), kJson)).reason, "invalid_type");
  body["block_size"] = (uint64_t{1} << 63) - 1;
  for (const BodyForm form : {kMsgpack, kJson}) {
    EXPECT_TRUE(ParseStrictQuery(InForm(body, form), form).has_value());
  }
}

TEST(StrictQuery, TokensAreOfThirtyTwoSignedBits) {
  const std::string outside = "token_ids element is outside the int32 range";
  const struct {
    Json tokens;
    std::string reason;
    std::string in_msgpack;
    std::string in_json;
    std::optional<uint64_t> index;
  } cases[] = {
      {"1 2",
       "invalid_type",
       "token_ids must be a bin or an array",
       "token_ids must be an array",
       {}},
      {nullptr,
       "invalid_type",
       "token_ids must be a bin or an array",
       "token_ids must be an array",
       {}},
      {{1, 2147483648}, "out_of_range", outside, outside, 1},
      {{1, 2, -2147483649}, "out_of_range", outside, outside, 2},
      {{18446744073709551615U}, "out_of_range", outside, outside, 0},
      {{1, "2"},
       "invalid_type",
       "token_ids element must be an integer",
       "token_ids element must be a JSON integer",
       1},
      {{1.0},
       "invalid_type",
       "token_ids element must be an integer",
       "token_ids element must be a JSON integer",
       0},
  };
  for (const auto& [tokens, reason, in_msgpack, in_json, index] : cases) {
    for (const BodyForm form : {kMsgpack, kJson}) {
      Json body = GoodQuery();
      body["token_ids"] = tokens;
      const bool array_in_json = form == kJson && in_json == "token_ids must be an array";
      EXPECT_EQ(ErrorOf(ParseStrictQuery(InForm(body, form), form)),
                (RequestError{form == kJson ? in_json : in_msgpack,
                              array_in_json ? "not_array" : reason, "token_ids", index}))
          << tokens;
    }
  }
  Json body = GoodQuery();
  body["token_ids"] = {0, 2147483647, -1, -2147483648};
  for (const BodyForm form : {kMsgpack, kJson}) {
    const auto strict = ParseStrictQuery(InForm(body, form), form);
    ASSERT_TRUE(strict.has_value()) << strict.error().error;
    EXPECT_EQ(strict->query.tokens, (std::vector<TokenId>{0, 2147483647, 0xffffffff, 0x80000000}));
  }
}

TEST(StrictQuery, TokensMayBePackedInLittleEndianBytes) {
  Json body = GoodQuery();
  body["token_ids"] = Json::binary({1, 0, 0, 0, 0, 1, 0, 0});
  EXPECT_EQ(ParseStrictQuery(InForm(body, kMsgpack), kMsgpack)->query.tokens,
            (std::vector<TokenId>{1, 256}));
  body["token_ids"] = Json::binary({});
  EXPECT_TRUE(ParseStrictQuery(InForm(body, kMsgpack), kMsgpack)->query.tokens.empty());
  body["token_ids"] = Json::binary({1, 0, 0, 0, 0});
  EXPECT_EQ(ErrorOf(ParseStrictQuery(InForm(body, kMsgpack), kMsgpack)),
            (RequestError{
                "token_ids bin size must be a multiple of 4", "invalid_value", "token_ids", {}}));
}

TEST(StrictQuery, MessagePackIsCheckedInTheOrderSentAndWhatIsMissingLast) {
  const auto field = [](const Json& body) {
    return ErrorOf(ParseStrictQuery(InForm(body, kMsgpack), kMsgpack)).field;
  };
  EXPECT_EQ(field({{"token_ids", 1}, {"later", 1}, {"model", 1}}), "token_ids");
  EXPECT_EQ(field({{"later", 1}, {"token_ids", 1}, {"model", 1}}), "later");
  EXPECT_EQ(field({{"cache_salt", 1}, {"model", 1}}), "cache_salt");
  EXPECT_EQ(field(Json::object()), "model");
  EXPECT_EQ(field({{"model", "m"}}), "block_size");
  EXPECT_EQ(field({{"block_size", 1}, {"model", "m"}}), "token_ids");
}

TEST(StrictQuery, JsonIsCheckedForUnknownFieldsFirstAndThenInItsOwnOrder) {
  const auto field = [](const char* body) { return ErrorOf(ParseStrictQuery(body, kJson)).field; };
  EXPECT_EQ(field(R"({"token_ids": 1, "model": 1, "later": 1})"), "later");
  EXPECT_EQ(field(R"({"token_ids": 1, "model": 1})"), "model");
  EXPECT_EQ(field(R"({"token_ids": 1, "model": "m"})"), "block_size");
  EXPECT_EQ(field(R"({"cache_salt": 1, "model": "m", "block_size": 1})"), "token_ids");
}

TEST(StrictQuery, OfAFieldGivenTwiceTheLastCounts) {
  // {"model": "a", "model": "b", "block_size": 16, "token_ids": []}
  const std::string msgpack =
      "\x84\xa5model\xa1"
      "a\xa5model\xa1"
      "b\xaa"
      "block_size\x10\xa9"
      "token_ids\x90";
  EXPECT_EQ(ParseStrictQuery(msgpack, kMsgpack)->query.model, "b");
  EXPECT_EQ(
      ParseStrictQuery(R"({"model": "a", "model": "b", "block_size": 16, "token_ids": []})", kJson)
          ->query.model,
      "b");
}

TEST(StrictQuery, WhatIsNoUtf8CanBeHashedByNobody) {
  for (const char* name : {"lora_name", "cache_salt"}) {
    Json body = GoodQuery();
    body[name] = "\xff";
    const auto strict = ParseStrictQuery(InForm(body, kMsgpack), kMsgpack);
    ASSERT_TRUE(strict.has_value()) << strict.error().error;
    EXPECT_FALSE(strict->hashable) << name;
  }
}

TEST(StrictQuery, MayHoldAPromptOf128kTokens) {
  Json body = GoodQuery();
  body["token_ids"] = std::vector<uint32_t>(131072, 150000);
  for (const BodyForm form : {kMsgpack, kJson}) {
    EXPECT_EQ(ParseStrictQuery(InForm(body, form), form)->query.tokens.size(), 131072U);
  }
}

TEST(StrictBodies, MustBeAMap) {
  const RequestError broken{"Invalid msgpack object", "invalid_msgpack", "", {}};
  const RequestError no_map{"request body must be a msgpack map", "invalid_msgpack", "", {}};
  const RequestError no_text{"map keys must be strings", "invalid_msgpack", "", {}};
  const std::vector<std::pair<std::string, RequestError>> cases = {
      {"", broken},
      {"\xc1", broken},
      {"\x81\xa5mode", broken},
      {"\xdf\xff\xff\xff\xff", broken},
      {"\x90", no_map},
      {"{", no_map},  // the number 123
      {std::string("\x81\x01\x02", 3), no_text},
      {"\x81\xc4\x05model\xa1m", no_text},  // bin is no str
  };
  for (const auto& [body, error] : cases) {
    EXPECT_EQ(ErrorOf(ParseStrictQuery(body, kMsgpack)), error);
    EXPECT_EQ(ErrorOf(ParseStrictRegister(body, kMsgpack)), error);
    EXPECT_EQ(ErrorOf(ParseStrictUnregister(body, kMsgpack)), error);
  }
  for (const char* body : {"", "{", "[]", "{} {}", "{/**/}", "{\"model\": \"m\",}"}) {
    EXPECT_EQ(ErrorOf(ParseStrictQuery(body, kJson)),
              (RequestError{"Invalid JSON object", "invalid_json", "", {}}));
    const RequestError plain{"Invalid JSON", "", "", {}};
    EXPECT_EQ(ErrorOf(ParseStrictRegister(body, kJson)), plain);
    EXPECT_EQ(ErrorOf(ParseStrictUnregister(body, kJson)), plain);
  }
}

TEST(StrictBodies, MayHaveBytesBehindTheirMessagePack) {
  EXPECT_TRUE(ParseStrictQuery(InForm(GoodQuery(), kMsgpack) + "\xc1", kMsgpack).has_value());
}

TEST(StrictRegister, ReadsUpstreamsFields) {
  Json body = GoodRegistration();
  body["replay_endpoint"] = "tcp://127.0.0.1:5558";
  body["lora_name"] = "l";
  body["tenant_id"] = "t";
  body["cache_group"] = 0;
  for (const BodyForm form : {kMsgpack, kJson}) {
    const auto request = ParseStrictRegister(InForm(body, form), form);
    ASSERT_TRUE(request.has_value()) << request.error().error;
    Registration expected;
    expected.endpoint = "tcp://127.0.0.1:5557";
    expected.replay_endpoint = "tcp://127.0.0.1:5558";
    expected.model = "m";
    expected.instance_id = "a";
    expected.block_size = 16;
    expected.lora_name = "l";
    expected.tenant = "t";
    expected.hash_profile = hash::HashProfile{hash::HashAlgorithm::kSha256Cbor, "0", 0};
    EXPECT_EQ(request->registration, expected);
    EXPECT_EQ(request->dp_size, 1U);
    EXPECT_TRUE(request->unused.empty());
  }
}

TEST(StrictRegister, DemandsNoHashProfile) {
  Json body = GoodRegistration();
  body.erase("hash_profile");
  for (const BodyForm form : {kMsgpack, kJson}) {
    const auto request = ParseStrictRegister(InForm(body, form), form);
    ASSERT_TRUE(request.has_value()) << request.error().error;
    EXPECT_EQ(request->registration.hash_profile, std::nullopt);
  }
}

TEST(StrictRegister, KnowsConductorsOwnFieldsBesideThem) {
  Json body = GoodRegistration();
  body.erase("dp_rank");
  body["type"] = "SGLang";
  body["dp_size"] = 2;
  body["incarnation"] = "pod-1";
  body["additional_salt"] = "w8a8";
  body["copies"] = "set";
  body["topic"] = "kv";
  body["ttl"] = {{"cpu", "10m"}};
  for (const BodyForm form : {kMsgpack, kJson}) {
    const auto request = ParseStrictRegister(InForm(body, form), form);
    ASSERT_TRUE(request.has_value()) << request.error().error;
    const Registration& registration = request->registration;
    EXPECT_EQ(registration.type, PublisherType::kSglang);
    EXPECT_EQ(request->dp_size, 2U);
    EXPECT_EQ(registration.incarnation, "pod-1");
    EXPECT_EQ(registration.additional_salt, "w8a8");
    EXPECT_EQ(registration.copies, index::CopyMode::kSet);
    EXPECT_EQ(registration.topic, "kv");
    EXPECT_EQ(registration.ttl[static_cast<size_t>(Tier::kCpu)], 10min);
  }
}

TEST(StrictRegister, HasUpstreamsErrors) {
  std::vector<Case> cases = {
      {"block_size", kLeftOut, "missing", "block_size is required", ""},
      {"block_size", nullptr, "invalid_type", "block_size must be an integer", ""},
      {"block_size", 16.0, "invalid_type", "block_size must be an integer", ""},
      {"block_size", uint64_t{1} << 63, "invalid_type", "block_size must be an integer", ""},
      {"block_size", 0, "out_of_range", "block_size must be greater than zero", ""},
      {"block_size", -16, "out_of_range", "block_size must be greater than zero", ""},
      {"dp_rank", kLeftOut, "missing", "dp_rank is required", ""},
      {"dp_rank", "0", "invalid_type", "dp_rank must be an integer", ""},
      {"dp_rank", nullptr, "invalid_type", "dp_rank must be an integer", ""},
      {"dp_rank", -1, "out_of_range", "dp_rank must be a non-negative int", ""},
      {"dp_rank", 2147483648, "out_of_range", "dp_rank must be a non-negative int", ""},
      {"cache_group", "0", "invalid_type", "cache_group must be an integer or null", ""},
      {"cache_group", 1, "unsupported", "only cache group zero is supported", ""},
      {"cache_group", -1, "unsupported", "only cache group zero is supported", ""},
      {"hash_profile", nullptr, "invalid_type", "hash_profile must be a map",
       "hash_profile must be an object"},
      {"hash_profile", "sha256", "invalid_type", "hash_profile must be a map",
       "hash_profile must be an object"},
      {"type", "vllm", "invalid_value", "type must be vLLM or Mooncake", ""},
      {"type", "nobody", "invalid_value", "type must be vLLM or Mooncake", ""},
      {"replay_endpoint", nullptr, "invalid_type", "replay_endpoint must be a string", ""},
      {"lora_name", 1, "invalid_type", "lora_name must be a string", ""},
      {"tenant_id", nullptr, "invalid_type", "tenant_id must be a string", ""},
      // Of other generations, or of nobody.
      {"ip", "127.0.0.1", "unknown_field", "unsupported request field: ip", ""},
      {"port", 5557, "unknown_field", "unsupported request field: port", ""},
      {"lora_id", -1, "unknown_field", "unsupported request field: lora_id", ""},
      {"model", "m", "unknown_field", "unsupported request field: model", ""},
      {"blocksize", 16, "unknown_field", "unsupported request field: blocksize", ""},
      // Conductor's own.
      {"dp_size", 0, "out_of_range",
       "dp_size: 0 is not a number of ranks (expected an integer "
       "from 1 to 4096)",
       ""},
  };
  for (const char* field : {"endpoint", "type", "modelname", "instance_id"}) {
    const std::string name(field);
    cases.push_back({name, kLeftOut, "missing", name + " is required", ""});
    cases.push_back({name, nullptr, "invalid_type", name + " must be a string", ""});
    cases.push_back({name, 7, "invalid_type", name + " must be a string", ""});
    cases.push_back({name, "", "invalid_value", name + " must not be empty", ""});
  }
  ExpectErrors(cases, GoodRegistration(), ParseStrictRegister);
}

TEST(StrictRegister, HasUpstreamsErrorsOfHashProfiles) {
  const std::string seed =
      "python_hash_seed must be \"random\" or ASCII decimal text in 0..4294967295";
  std::vector<Case> cases = {
      {"algorithm", "md5", "invalid_value", "unsupported hash algorithm: md5", ""},
      {"strategy", "sglang", "invalid_value", "unsupported hash strategy: sglang", ""},
      {"index_projection", "high64", "invalid_value", "unsupported index projection: high64", ""},
      {"python_hash_seed", "abc", "invalid_value", seed, ""},
      {"python_hash_seed", "-1", "invalid_value", seed, ""},
      {"python_hash_seed", "4294967296", "invalid_value",
       "python_hash_seed must be in range 0..4294967295", ""},
      {"python_hash_seed", "99999999999999999999", "invalid_value",
       "python_hash_seed must be in range 0..4294967295", ""},
      {"root_digest", "00", "unknown_field", "unsupported request field: root_digest", ""},
  };
  for (const char* field : {"strategy", "algorithm", "python_hash_seed", "index_projection"}) {
    const std::string name(field);
    cases.push_back({name, kLeftOut, "missing", name + " is required", ""});
    cases.push_back({name, nullptr, "invalid_type", name + " must be a string", ""});
    cases.push_back({name, 0, "invalid_type", name + " must be a string", ""});
    cases.push_back({name, "", "invalid_value", name + " must not be empty", ""});
  }
  for (const BodyForm form : {kMsgpack, kJson}) {
    for (const Case& test : cases) {
      Json profile = GoodProfile();
      profile.erase(test.field);
      if (test.value) profile[test.field] = *test.value;
      Json body = GoodRegistration();
      body["hash_profile"] = profile;
      EXPECT_EQ(ErrorOf(ParseStrictRegister(InForm(body, form), form)),
                (RequestError{TextOf(test, form), test.reason, test.field, {}}))
          << profile;
    }
  }
}

TEST(StrictRegister, TakesEverySeedThatUpstreamTakesAndVllmsOwn) {
  for (const char* seed : {"random", "0", "00", "4294967295", "004294967295", "vllm-none-hash"}) {
    Json body = GoodRegistration();
    body["hash_profile"]["python_hash_seed"] = seed;
    const auto request = ParseStrictRegister(InForm(body, kMsgpack), kMsgpack);
    ASSERT_TRUE(request.has_value()) << seed << ": " << request.error().error;
    EXPECT_EQ(request->registration.hash_profile->seed, seed);
  }
}

TEST(StrictRegister, ChecksInUpstreamsOrder) {
  // Whatever is wrong stays wrong while what is checked before it is mended.
  Json body = {{"later", 1},       {"dp_rank", "x"},    {"type", "x"},     {"hash_profile", 1},
               {"cache_group", 1}, {"tenant_id", 1},    {"lora_name", 1},  {"replay_endpoint", 1},
               {"block_size", 0},  {"instance_id", ""}, {"modelname", ""}, {"endpoint", ""}};
  const std::pair<const char*, Json> mended[] = {{"later", {}},
                                                 {"endpoint", "tcp://h:1"},
                                                 {"modelname", "m"},
                                                 {"instance_id", "a"},
                                                 {"block_size", 16},
                                                 {"replay_endpoint", ""},
                                                 {"lora_name", ""},
                                                 {"tenant_id", ""},
                                                 {"cache_group", nullptr},
                                                 {"hash_profile", GoodProfile()},
                                                 {"type", "vLLM"},
                                                 {"dp_rank", 0}};
  for (const auto& [field, value] : mended) {
    EXPECT_EQ(ErrorOf(ParseStrictRegister(InForm(body, kMsgpack), kMsgpack)).field, field);
    body.erase(field);
    if (std::string(field) != "later") body[field] = value;
  }
  EXPECT_TRUE(ParseStrictRegister(InForm(body, kMsgpack), kMsgpack).has_value());
}

TEST(StrictRegister, OfAFieldGivenTwiceTheFirstCounts) {
  EXPECT_EQ(ParseStrictRegister(
                R"({"endpoint": "tcp://h:1", "type": "vLLM", "modelname": "a", "modelname": 7,
                    "instance_id": "i", "block_size": 16, "dp_rank": 0})",
                kJson)
                ->registration.model,
            "a");
}

TEST(StrictRegister, IsNoPlaceForThousandsOfMembers) {
  Json body = GoodRegistration();
  for (int i = 0; i < 3000; ++i) body["m" + std::to_string(i)] = i;
  EXPECT_EQ(ErrorOf(ParseStrictRegister(InForm(body, kMsgpack), kMsgpack)).reason, "too_many");
  body = GoodRegistration();
  for (int i = 0; i < 3000; ++i) body["key_models"]["m" + std::to_string(i)] = "m";
  EXPECT_EQ(ErrorOf(ParseStrictRegister(InForm(body, kMsgpack), kMsgpack)).reason, "too_many");
}

TEST(StrictUnregister, NamesAPublisherByItsKey) {
  for (const BodyForm form : {kMsgpack, kJson}) {
    EXPECT_EQ(ParseStrictUnregister(InForm({{"instance_id", "a"}, {"dp_rank", 3}}, form), form),
              "a|default|3");
    EXPECT_EQ(ParseStrictUnregister(
                  InForm({{"instance_id", "a"}, {"dp_rank", 0}, {"tenant_id", "t"}}, form), form),
              "a|t|0");
  }
}

TEST(StrictUnregister, HasUpstreamsErrors) {
  const std::string rank = "dp_rank must be a non-negative int";
  const std::vector<Case> cases = {
      {"instance_id", kLeftOut, "missing", "instance_id is required", ""},
      {"instance_id", 1, "invalid_type", "instance_id must be a string", ""},
      {"instance_id", "", "invalid_value", "instance_id must not be empty", ""},
      {"dp_rank", kLeftOut, "missing", "dp_rank is required", ""},
      {"dp_rank", nullptr, "invalid_value", rank, ""},
      {"dp_rank", "0", "invalid_value", rank, ""},
      {"dp_rank", 1.0, "invalid_value", rank, ""},
      {"dp_rank", -1, "invalid_value", rank, ""},
      {"dp_rank", 2147483648, "invalid_value", rank, ""},
      {"tenant_id", nullptr, "invalid_type", "tenant_id must be a string", ""},
      {"type", "vLLM", "unknown_field", "unsupported request field: type", ""},
      {"modelname", "m", "unknown_field", "unsupported request field: modelname", ""},
      {"block_size", 16, "unknown_field", "unsupported request field: block_size", ""},
  };
  ExpectErrors(cases, {{"instance_id", "a"}, {"dp_rank", 0}}, ParseStrictUnregister);
}

}  // namespace
}  // namespace conductor::serve
