// Chains of block digests that Python computed: testdata/hash/vllm_vectors.json, and the reference
// vectors where they lie beside the checkout.

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "lib/base/bytes.h"
#include "lib/hash/cbor_block.h"
#include "lib/hash/hash_profile.h"
#include "lib/hash/pickle_block.h"

namespace conductor::hash {
namespace {

using Json = nlohmann::json;

Json ReadJson(const std::filesystem::path& path) {
  std::ifstream file(path);
  EXPECT_TRUE(file) << path;
  return Json::parse(file);
}

std::string Text(const Json& form) {
  if (form.is_string()) return form;
  std::string text;
  for (int i = 0; i < form.at("times"); ++i) text += form.at("repeat").get<std::string>();
  return text;
}

std::vector<TokenId> Tokens(const Json& form) {
  if (form.is_array()) return form;
  std::vector<TokenId> tokens;
  for (TokenId i = 0; i < form.at("count"); ++i) {
    tokens.push_back(form.at("first").get<TokenId>() + i * form.at("step").get<TokenId>());
  }
  return tokens;
}

// No constructor of lib/hash makes this key: only events bring it.
std::string IntegerKey(uint8_t number) {
  EXPECT_LT(number, 0x80);
  return {static_cast<char>(number)};
}

std::string Key(const Json& form) {
  if (form.contains("text")) return TextKey(Text(form["text"]));
  if (form.contains("bytes")) return BytesKey(*FromHex(form["bytes"].get<std::string>()));
  if (form.contains("integer")) return IntegerKey(form["integer"]);
  return ItemKey(Text(form.at("item")[0]), form.at("item")[1]);
}

HashAlgorithm Algorithm(const std::string& name) {
  const auto algorithm = ParseHashAlgorithm(name);
  EXPECT_TRUE(algorithm) << name;
  return algorithm.value_or(HashAlgorithm::kSha256);
}

bool IsPickled(HashAlgorithm algorithm) {
  return algorithm == HashAlgorithm::kSha256 || algorithm == HashAlgorithm::kXxhash;
}

std::string Serialised(HashAlgorithm algorithm, std::string_view parent,
                       std::span<const TokenId> tokens, const ExtraKeys& extras) {
  std::string bytes;
  EXPECT_TRUE(IsPickled(algorithm) ? PickleBlock(parent, tokens, extras, bytes)
                                   : CborBlock(parent, tokens, extras, bytes));
  return bytes;
}

void CheckChain(const Json& test, const std::string& algorithm_name, const Json& chain) {
  SCOPED_TRACE(test["name"].get<std::string>() + ", " + algorithm_name);
  const HashAlgorithm algorithm = Algorithm(algorithm_name);
  HashProfile profile{.algorithm = algorithm};
  if (test.contains("seed")) profile.seed = Text(test["seed"]);
  VllmHasher hasher(profile);
  std::string parent = *FromHex(chain["root"].get<std::string>());
  if (test.contains("seed")) {
    EXPECT_EQ(ToHex(hasher.root()), ToHex(parent));
  }
  const std::vector<TokenId> tokens = Tokens(test["tokens"]);
  const size_t block_size = test["block_size"];
  ASSERT_EQ(chain["digests"].size(), tokens.size() / block_size);
  for (size_t i = 0; i < chain["digests"].size(); ++i) {
    ExtraKeys extras;
    if (test.contains("extras") && i < test["extras"].size()) {
      for (const Json& form : test["extras"][i]) extras.push_back(Key(form));
    }
    const auto block = std::span(tokens).subspan(i * block_size, block_size);
    if (i == 0 && chain.contains("serialised")) {
      EXPECT_EQ(ToHex(Serialised(algorithm, parent, block, extras)), chain["serialised"]);
    }
    const auto digest = hasher.Next(parent, block, extras);
    ASSERT_TRUE(digest) << digest.error().Message();
    ASSERT_EQ(ToHex(*digest), chain["digests"][i]) << "block " << i;
    parent = *digest;
  }
}

TEST(VllmVectors, EveryChainThatPythonComputedIsComputedHere) {
  const Json document = ReadJson(CONDUCTOR_TESTDATA "/hash/vllm_vectors.json");
  ASSERT_GT(document["cases"].size(), 30U);
  for (const Json& test : document["cases"]) {
    ASSERT_EQ(test["chains"].size(), 4U);
    for (const auto& [algorithm, chain] : test["chains"].items()) {
      CheckChain(test, algorithm, chain);
    }
  }
}

// Another generator's vectors of the same chains, for who has them: $CONDUCTOR_REFERENCE, or
// shared/reference beside the checkout.
TEST(VllmVectors, TheReferenceVectorsAgree) {
  const char* given = std::getenv("CONDUCTOR_REFERENCE");
  const std::filesystem::path folder =
      given != nullptr ? given : CONDUCTOR_BESIDE "/shared/reference";
  const auto path = folder / "vllm_hash_vectors.json";
  if (!std::filesystem::exists(path)) {
    GTEST_SKIP() << path << " is not there (CONDUCTOR_REFERENCE names its folder)";
  }
  const Json document = ReadJson(path);
  ASSERT_FALSE(document["vectors"].empty());
  for (const Json& vector : document["vectors"]) {
    SCOPED_TRACE(vector["name"].get<std::string>());
    HashProfile profile{.algorithm = Algorithm(vector["algorithm"])};
    if (!vector["seed_text"].is_null()) profile.seed = vector["seed_text"];
    VllmHasher hasher(profile);
    std::string parent = *FromHex(vector["root_digest"].get<std::string>());
    if (!vector["seed_text"].is_null()) {
      EXPECT_EQ(ToHex(hasher.root()), vector["root_digest"]);
    }
    const std::vector<TokenId> tokens = vector["token_ids"];
    const size_t block_size = vector["block_size"];
    for (size_t i = 0; i < vector["blocks"].size(); ++i) {
      ExtraKeys extras;
      if (!vector["lora_name"].is_null())
        extras.push_back(TextKey(vector["lora_name"].get<std::string>()));
      if (!vector["cache_salt"].is_null() && i == 0) {
        extras.push_back(TextKey(vector["cache_salt"].get<std::string>()));
      }
      const Json& expected = vector["blocks"][i];
      const auto block = std::span(tokens).subspan(i * block_size, block_size);
      if (expected.contains("serialised_hex")) {
        EXPECT_EQ(ToHex(Serialised(profile.algorithm, parent, block, extras)),
                  expected["serialised_hex"]);
      }
      const auto digest = hasher.Next(parent, block, extras);
      ASSERT_TRUE(digest) << digest.error().Message();
      ASSERT_EQ(ToHex(*digest), expected["digest"]) << "block " << i;
      EXPECT_EQ(std::to_string(static_cast<uint64_t>(VllmHasher::NameOf(*digest))),
                expected["low64"]);
      parent = *digest;
    }
  }
}

}  // namespace
}  // namespace conductor::hash
