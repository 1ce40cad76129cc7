#include "lib/hash/hash_profile.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "lib/base/bytes.h"
#include "lib/hash/cbor_block.h"
#include "lib/hash/pickle_block.h"

namespace conductor::hash {
namespace {

std::string PickledText(std::string_view text) {
  std::string bytes;
  PickleText(text, bytes);
  return ToHex(bytes);
}

std::string CborTextHex(std::string_view text) {
  std::string bytes;
  CborText(text, bytes);
  return ToHex(bytes);
}

std::string Hex(std::string_view spaced) { return ToHex(FromHex(spaced).value()); }

std::string Root(HashAlgorithm algorithm, std::string seed) {
  return ToHex(VllmHasher({.algorithm = algorithm, .seed = std::move(seed)}).root());
}

std::string Digest(VllmHasher& hasher, std::string_view parent, const std::vector<TokenId>& tokens,
                   const ExtraKeys& extras = {}) {
  const auto digest = hasher.Next(parent, tokens, extras);
  EXPECT_TRUE(digest) << digest.error().Message();
  return digest.value_or("");
}

const std::vector<TokenId> kFirst = {5, 300, 70000, 2};
const std::vector<TokenId> kSecond = {1, 2, 3, 4};

TEST(VllmHasher, TheRootIsTheDigestOfTheSeedAsText) {
  EXPECT_EQ(PickledText("0"), "80059505000000000000008c0130942e");
  EXPECT_EQ(CborTextHex("0"), "6130");
  EXPECT_EQ(Root(HashAlgorithm::kSha256, "0"),
            "1973e23848344dc43a988a9b478663803cfffe1243480253f9a3cf004b14aa7c");
  EXPECT_EQ(Root(HashAlgorithm::kSha256Cbor, "0"),
            "4e1195df020de59e0d65a33a4279f1183e7ae4e5d980e309f8b55adff2e61c3e");
  EXPECT_EQ(Root(HashAlgorithm::kXxhash, "0"), "6fb31cc38bba6066183f7f2104b9c051");
  EXPECT_EQ(Root(HashAlgorithm::kXxhashCbor, "0"), "1ebe36576dcb573f26b99533a20aaeca");
  EXPECT_EQ(Root(HashAlgorithm::kSha256, "random"),
            "fa1326fc0ad784c54e10f808051a77f999f7b675b12fba49cbef92b3e1a09cb7");
  EXPECT_EQ(Root(HashAlgorithm::kSha256Cbor, "random"),
            "78d6ac7e28de859e492449dcea03e3807377d69998c5af819fed33a6df490cad");
}

TEST(VllmHasher, WithoutASeedOfItsOwnAProfileHasTheOneOfNewerEngines) {
  EXPECT_EQ(PickledText(HashProfile().seed),
            "80059512000000000000008c0e766c6c6d2d6e6f6e652d68617368942e");
  EXPECT_EQ(ToHex(VllmHasher(HashProfile()).root()),
            "066b1e8987e027138e98701c46128929378935f9b6cd1549105ae6b4f0d71198");
  EXPECT_EQ(ToHex(VllmHasher({.algorithm = HashAlgorithm::kSha256Cbor}).root()),
            "9bd96a485ad84efdafb72ee48a1d7a69bcead0f8f0433173941b276b9581eef0");
}

TEST(VllmHasher, SeedsAreTextsAndNotNumbers) {
  EXPECT_NE(Root(HashAlgorithm::kSha256, "0"), Root(HashAlgorithm::kSha256, "00"));
  EXPECT_NE(Root(HashAlgorithm::kSha256, "0"), Root(HashAlgorithm::kSha256, ""));
  EXPECT_EQ(PickledText(""), "80059504000000000000008c00942e");
}

TEST(VllmHasher, HashesPickledBlocks) {
  VllmHasher hasher({.algorithm = HashAlgorithm::kSha256, .seed = "0"});
  const ExtraKeys extras = {TextKey("ad"), TextKey("salt")};
  std::string bytes;
  ASSERT_TRUE(PickleBlock(hasher.root(), kFirst, extras, bytes));
  EXPECT_EQ(ToHex(bytes), Hex("80 05 95 4300000000000000 43 20"
                              "1973e23848344dc43a988a9b478663803cfffe1243480253f9a3cf004b14aa7c 94"
                              "28 4b05 4d2c01 4a70110100 4b02 74 94"
                              "8c02 6164 94 8c04 73616c74 94 86 94 87 94 2e"));
  const std::string first = Digest(hasher, hasher.root(), kFirst, extras);
  EXPECT_EQ(ToHex(first), "e527dc7a97ca005b3ad795bbef77409e8f568af72293ad002e6c1cafac74632a");
  EXPECT_EQ(VllmHasher::NameOf(first), EngineHash{3345080164067599146U});

  // The salt is no part of the second block.
  bytes.clear();
  ASSERT_TRUE(PickleBlock(first, kSecond, {TextKey("ad")}, bytes));
  EXPECT_EQ(ToHex(bytes), Hex("80 05 95 3800000000000000 43 20" + ToHex(first) +
                              "94 28 4b01 4b02 4b03 4b04 74 94 8c02 6164 94 85 94 87 94 2e"));
  const std::string second = Digest(hasher, first, kSecond, {TextKey("ad")});
  EXPECT_EQ(ToHex(second), "931ec14dc7078a633d868f83b9a792f5d2d2818dacc941d1c834dcf574c60fb0");
  EXPECT_EQ(VllmHasher::NameOf(second), EngineHash{14426398453158776752U});
}

TEST(VllmHasher, HashesCanonicalCbor) {
  VllmHasher hasher({.algorithm = HashAlgorithm::kSha256Cbor, .seed = "0"});
  const ExtraKeys extras = {TextKey("ad"), TextKey("salt")};
  std::string bytes;
  ASSERT_TRUE(CborBlock(hasher.root(), kFirst, extras, bytes));
  EXPECT_EQ(ToHex(bytes), Hex("83 5820"
                              "4e1195df020de59e0d65a33a4279f1183e7ae4e5d980e309f8b55adff2e61c3e"
                              "84 05 19012c 1a00011170 02 82 626164 6473616c74"));
  const std::string first = Digest(hasher, hasher.root(), kFirst, extras);
  EXPECT_EQ(ToHex(first), "02a0278360a9f4b90f96ca748b1df0e7472fc4f00be0a4f63156698c08ff5a24");
  EXPECT_EQ(VllmHasher::NameOf(first), EngineHash{3555145006022875684U});
  const std::string second = Digest(hasher, first, kSecond, {TextKey("ad")});
  EXPECT_EQ(ToHex(second), "1dc0b8536b3ad623d1eb7a89abbd873d0909cb84775ca62ffa381a3b2d082c3f");
  EXPECT_EQ(VllmHasher::NameOf(second), EngineHash{18030189949638683711U});
}

TEST(VllmHasher, HashesWithXxh3InItsCanonicalByteOrder) {
  VllmHasher pickled({.algorithm = HashAlgorithm::kXxhash, .seed = "0"});
  const std::string a = Digest(pickled, pickled.root(), kFirst);
  EXPECT_EQ(ToHex(a), "9a767e11ee62963827c3fd947174ee40");
  EXPECT_EQ(VllmHasher::NameOf(a), EngineHash{2865412601938243136U});
  VllmHasher cbor({.algorithm = HashAlgorithm::kXxhashCbor, .seed = "0"});
  const std::string b = Digest(cbor, cbor.root(), kFirst);
  EXPECT_EQ(ToHex(b), "63dca59131f897222e1a228b424c2ac2");
  EXPECT_EQ(VllmHasher::NameOf(b), EngineHash{3322005656647248578U});
}

// The bytes that pickle_block.h and cbor_block.h show.
TEST(VllmHasher, AMultimodalItemIsATupleOfIdentifierAndOffset) {
  const ExtraKeys extras = {TextKey("ad"), ItemKey("img", 3)};
  const std::string parent(32, 'p');
  std::string bytes;
  ASSERT_TRUE(PickleBlock(parent, kFirst, extras, bytes));
  EXPECT_EQ(ToHex(bytes), Hex("80 05 95 4600000000000000 43 20" + ToHex(parent) +
                              "94 28 4b05 4d2c01 4a70110100 4b02 74 94 8c02 6164 94"
                              "8c03 696d67 94 4b03 86 94 86 94 87 94 2e"));
  bytes.clear();
  ASSERT_TRUE(CborBlock(parent, kFirst, extras, bytes));
  EXPECT_EQ(ToHex(bytes),
            Hex("83 5820" + ToHex(parent) + "84 05 19012c 1a00011170 02 82 626164 82 63696d67 03"));
}

TEST(VllmHasher, ATextThatCPythonHasOnceIsPickledOnce) {
  std::string bytes;
  ASSERT_TRUE(PickleBlock("p", std::vector<TokenId>{1}, {TextKey("a"), TextKey("a")}, bytes));
  EXPECT_EQ(ToHex(bytes), "8005951300000000000000430170944b0185948c0161946802869487942e");
}

TEST(VllmHasher, AFailureLeavesTheHasherUsable) {
  VllmHasher hasher({.algorithm = HashAlgorithm::kSha256, .seed = "0"});
  const std::string before = Digest(hasher, hasher.root(), kFirst);
  EXPECT_FALSE(hasher.Next(hasher.root(), kFirst, {TextKey("ad"), "\xc0"}));
  EXPECT_EQ(Digest(hasher, hasher.root(), kFirst), before);
}

TEST(VllmHasher, ExtraKeysThatNoEngineHashesAreErrorsThatNameThem) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"nothing", ""},
      {"nil", "c0"},
      {"boolean", "c3"},
      {"float", "cb3ff8000000000000"},
      {"map", "80"},
      {"extension", "d40100"},
      {"integer above 2^63 - 1", "cf8000000000000000"},
      {"empty array", "90"},
      {"array of one", "91a161"},
      {"array of three", "93a1610000"},
      {"offset before identifier", "9200a161"},
      {"two texts", "92a161a162"},
      {"two integers", "920001"},
      {"bytes in an item", "92c4016100"},
      {"array in an item", "9291a16100"},
      {"text cut off", "a561"},
      {"item cut off", "92a161"},
      {"a second value", "a16100"},
      {"no MessagePack", "c1"},
  };
  for (const HashAlgorithm algorithm : {HashAlgorithm::kSha256, HashAlgorithm::kSha256Cbor}) {
    VllmHasher hasher({.algorithm = algorithm, .seed = "0"});
    for (const auto& [name, hex] : cases) {
      const auto digest = hasher.Next(hasher.root(), kFirst, {TextKey("ad"), *FromHex(hex)});
      ASSERT_FALSE(digest) << name;
      EXPECT_EQ(digest.error().where, "extra key 1") << name;
      EXPECT_NE(digest.error().what.find(hex), std::string::npos) << digest.error().Message();
    }
  }
}

TEST(HashAlgorithm, NamesAreThoseOfVllm) {
  for (const std::string_view name : {"sha256", "sha256_cbor", "xxhash", "xxhash_cbor"}) {
    const auto algorithm = ParseHashAlgorithm(name);
    ASSERT_TRUE(algorithm) << name;
    EXPECT_EQ(HashAlgorithmName(*algorithm), name);
  }
}

TEST(HashAlgorithm, AnotherNameIsRefusedWithThoseThatThereAre) {
  for (const std::string_view name : {"", "builtin", "SHA256", "sha256_cbor_64bit"}) {
    const auto algorithm = ParseHashAlgorithm(name);
    ASSERT_FALSE(algorithm) << name;
    EXPECT_EQ(algorithm.error().expected, "sha256, sha256_cbor, xxhash or xxhash_cbor");
  }
}

}  // namespace
}  // namespace conductor::hash
