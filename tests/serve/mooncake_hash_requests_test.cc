#include "daemon/serve/mooncake_hash_requests.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "lib/hash/block_hash.h"
#include "tests/serve/request_bodies.h"

namespace conductor::serve {
namespace {

using Json = nlohmann::json;

constexpr BodyForm kJson = BodyForm::kJson;
constexpr BodyForm kMsgpack = BodyForm::kMsgpack;

std::vector<PrefixHash> Prefixes(std::vector<uint64_t> hashes) {
  std::vector<PrefixHash> prefixes;
  for (const uint64_t hash : hashes) prefixes.push_back(PrefixHash{hash});
  return prefixes;
}

TEST(HashQuery, TakesHashesOfEitherNameSignAndSpelling) {
  const Json spellings[] = {
      {1, 18446744073709551615U}, {1, -1}, {"1", "18446744073709551615"}, {"1", "-1"}};
  for (const Json& hashes : spellings) {
    for (const char* name : {"seq_hashes", "block_hash"}) {
      for (const BodyForm form : {kMsgpack, kJson}) {
        const Json body = {{"model", "m"}, {"block_size", 16}, {name, hashes}};
        const auto query = ParseHashQuery(InForm(body, form), form, RequestBody::Others::kRefuse);
        ASSERT_TRUE(query.has_value()) << query.error().error;
        EXPECT_EQ(query->prefixes, Prefixes({1, 18446744073709551615U})) << hashes;
        EXPECT_EQ(query->block_size, 16U);
      }
    }
  }
}

TEST(HashQuery, ReadsItsOtherFields) {
  const auto query = ParseHashQuery(
      R"({"model": "m", "tenant_id": "t", "lora_name": "l", "additional_salt": "s",
          "instance_id": "a", "instances": ["b"], "seq_hashes": []})",
      kJson, RequestBody::Others::kRefuse);
  ASSERT_TRUE(query.has_value()) << query.error().error;
  EXPECT_EQ(query->block_size, std::nullopt);
  EXPECT_EQ(query->tenant, "t");
  EXPECT_EQ(query->lora_name, "l");
  EXPECT_EQ(query->additional_salt, "s");
  EXPECT_EQ(query->instances, (std::set<std::string>{"a", "b"}));
}

TEST(HashQuery, SaysWhatIsWrongAndWhere) {
  const struct {
    const char* body;
    const char* reason;
    const char* field;
  } cases[] = {
      {R"({"model": "m"})", "missing", "seq_hashes"},
      {R"({"seq_hashes": [1]})", "missing", "model"},
      {R"({"model": "m", "seq_hashes": 1})", "not_array", "seq_hashes"},
      {R"({"model": "m", "seq_hashes": [1.5]})", "invalid_type", "seq_hashes"},
      {R"({"model": "m", "block_hash": ["x"]})", "invalid_type", "block_hash"},
      {R"({"model": "m", "block_hash": [1], "seq_hashes": [1]})", "duplicate_field", "block_hash"},
      {R"({"model": "m", "block_hash": [1], "cache_salt": "s"})", "unsupported", "cache_salt"},
      {R"({"model": "m", "block_hash": [1], "token_ids": [1]})", "unknown_field", "token_ids"},
  };
  for (const auto& [body, reason, field] : cases) {
    const RequestError error = ErrorOf(ParseHashQuery(body, kJson, RequestBody::Others::kRefuse));
    EXPECT_EQ(error.reason, reason) << body;
    EXPECT_EQ(error.field, field) << body;
  }
  EXPECT_TRUE(ParseHashQuery(R"({"model": "m", "block_hash": [1], "later": 1})", kJson,
                             RequestBody::Others::kIgnore)
                  .has_value());
}

TEST(DynamoQuery, ReadsThatIndexersFields) {
  const auto query = ParseDynamoQuery(
      R"({"model_name": "m", "token_ids": [1, 4294967295], "tenant_id": "t", "lora_name": "l",
          "cache_salt": "s", "later": 1})",
      kJson);
  ASSERT_TRUE(query.has_value()) << query.error().error;
  EXPECT_EQ(query->model, "m");
  EXPECT_EQ(query->tenant, "t");
  EXPECT_EQ(query->lora_name, "l");
  EXPECT_EQ(query->cache_salt, "s");
  EXPECT_EQ(query->tokens, (std::vector<TokenId>{1, 4294967295}));
  EXPECT_EQ(ParseDynamoQuery(R"({"model_name": "m", "token_ids": [], "tenant_id": "t",
                                 "routing_group": "g"})",
                             kJson)
                ->tenant,
            "g");
  EXPECT_EQ(ErrorOf(ParseDynamoQuery(R"({"token_ids": []})", kJson)).field, "model_name");
}

TEST(DynamoQuery, ChainsTheHashesOfBlocks) {
  const std::vector<TokenId> tokens = {1, 2, 3, 4, 5, 6};
  std::vector<LocalHash> blocks(3);
  hash::HashBlocks(tokens, 2, hash::kDefaultSeed, blocks);
  Json body = {{"model_name", "m"}, {"block_hashes", Json::array()}};
  for (const LocalHash block : blocks) {
    body["block_hashes"].push_back(static_cast<int64_t>(block));
  }
  std::vector<PrefixHash> prefixes(3);
  hash::HashChain(tokens, 2, nullptr, hash::kDefaultSeed, prefixes);
  const auto query = ParseDynamoHashQuery(body.dump(), kJson, hash::kDefaultSeed);
  ASSERT_TRUE(query.has_value()) << query.error().error;
  EXPECT_EQ(query->prefixes, prefixes);
  EXPECT_EQ(
      ErrorOf(ParseDynamoHashQuery(R"({"model_name": "m", "block_hashes": [1], "cache_salt": "s"})",
                                   kJson, hash::kDefaultSeed))
          .field,
      "cache_salt");
}

}  // namespace
}  // namespace conductor::serve
