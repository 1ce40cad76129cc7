#include "lib/hash/block_hash.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "lib/base/bytes.h"

namespace conductor::hash {
namespace {

struct Hashes {
  std::vector<uint64_t> locals;
  std::vector<uint64_t> prefixes;
};

// Local and prefix hashes of every whole block of `tokens`.
Hashes HashPrompt(const std::vector<TokenId>& tokens, size_t block_size, uint64_t seed,
                  const std::vector<ExtraKeys>& extra_keys = {}) {
  Hashes hashes;
  PrefixHash prefix{};
  for (size_t i = 0; (i + 1) * block_size <= tokens.size(); ++i) {
    const auto block = std::span(tokens).subspan(i * block_size, block_size);
    const LocalHash local =
        HashBlock(block, i < extra_keys.size() ? extra_keys[i] : ExtraKeys{}, seed);
    prefix = i == 0 ? FirstPrefix(local) : NextPrefix(prefix, local, seed);
    hashes.locals.push_back(static_cast<uint64_t>(local));
    hashes.prefixes.push_back(static_cast<uint64_t>(prefix));
  }
  return hashes;
}

std::vector<TokenId> OneTo(TokenId last) {
  std::vector<TokenId> tokens(last);
  std::iota(tokens.begin(), tokens.end(), 1U);
  return tokens;
}

std::vector<uint64_t> U64s(std::initializer_list<uint64_t> values) { return values; }

// The vectors were computed with python3-xxhash from the recipe of Mooncake's RFC 1527.

TEST(BlockHash, AgreesWithTheStandardRecipeWithoutASeed) {
  const Hashes hashes = HashPrompt(OneTo(8), 4, 0);
  EXPECT_EQ(hashes.locals, U64s({8052976908588476977U, 13852901005659965728U}));
  EXPECT_EQ(hashes.prefixes, U64s({8052976908588476977U, 4185132130981121146U}));
}

TEST(BlockHash, AgreesWithTheStandardRecipeUnderTheUsualSeed) {
  EXPECT_EQ(kDefaultSeed, 1337U);
  const Hashes hashes = HashPrompt(OneTo(8), 4, kDefaultSeed);
  EXPECT_EQ(hashes.locals, U64s({14643705804678351452U, 16777012769546811212U}));
  EXPECT_EQ(hashes.prefixes, U64s({14643705804678351452U, 4945711292740353085U}));
}

TEST(BlockHash, AgreesWithTheStandardRecipeOnLongerBlocks) {
  std::vector<TokenId> tokens;
  for (TokenId i = 0; i < 64; ++i) tokens.push_back(1000 + 37 * i);
  const Hashes hashes = HashPrompt(tokens, 16, 1337);
  EXPECT_EQ(hashes.locals, U64s({16278386181694985406U, 29871285380332776U, 8505129374697510313U,
                                 5671384651373371359U}));
  EXPECT_EQ(hashes.prefixes, U64s({16278386181694985406U, 5307342425408119614U,
                                   14662258459323067736U, 7701826713196416158U}));
}

TEST(BlockHash, AgreesWithTheStandardRecipeAtTheEndsOfTheTokenRange) {
  const Hashes hashes = HashPrompt({151643, 0, 65535, 4294967295, 7, 7}, 2, 42);
  EXPECT_EQ(hashes.locals,
            U64s({12785413839116637234U, 4107177596989216178U, 11353720925329097360U}));
  EXPECT_EQ(hashes.prefixes,
            U64s({12785413839116637234U, 1801588457773330614U, 2928701802954078424U}));
}

TEST(BlockHash, NoExtraKeysAndAnEmptyListOfThemAreTheSame) {
  const auto tokens = OneTo(4);
  EXPECT_EQ(HashBlock(tokens, {}, 1337), HashBlock(tokens, ExtraKeys{}, 1337));
  EXPECT_EQ(static_cast<uint64_t>(HashBlock(tokens, {}, 1337)), 14643705804678351452U);
}

TEST(BlockHash, AnExtraKeyMakesAnotherBlock) {
  const auto tokens = OneTo(4);
  EXPECT_NE(HashBlock(tokens, {TextKey("a")}, 1337), HashBlock(tokens, {}, 1337));
  EXPECT_NE(HashBlock(tokens, {TextKey("a")}, 1337), HashBlock(tokens, {TextKey("b")}, 1337));
  EXPECT_EQ(HashBlock(tokens, {TextKey("a")}, 1337), HashBlock(tokens, {TextKey("a")}, 1337));
}

TEST(BlockHash, TheOrderOfExtraKeysMatters) {
  const auto tokens = OneTo(4);
  EXPECT_NE(HashBlock(tokens, {TextKey("a"), TextKey("b")}, 1337),
            HashBlock(tokens, {TextKey("b"), TextKey("a")}, 1337));
}

TEST(BlockHash, OneLongKeyIsNotTwoShortOnes) {
  const auto tokens = OneTo(4);
  EXPECT_NE(HashBlock(tokens, {TextKey("ab")}, 1337),
            HashBlock(tokens, {TextKey("a"), TextKey("b")}, 1337));
}

TEST(BlockHash, TheSeedChangesLocalAndPrefixHashes) {
  const Hashes a = HashPrompt(OneTo(8), 4, 1);
  const Hashes b = HashPrompt(OneTo(8), 4, 2);
  EXPECT_NE(a.locals[0], b.locals[0]);
  EXPECT_NE(NextPrefix(PrefixHash{1}, LocalHash{2}, 1), NextPrefix(PrefixHash{1}, LocalHash{2}, 2));
}

TEST(BlockHash, ACacheSaltOfTheFirstBlockChangesEveryLaterPrefixAndNoOtherLocal) {
  const Hashes plain = HashPrompt(OneTo(12), 4, 1337);
  const Hashes salted = HashPrompt(OneTo(12), 4, 1337, {{TextKey("tenant-a")}});
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_NE(plain.prefixes[i], salted.prefixes[i]) << "block " << i;
    EXPECT_EQ(plain.locals[i] == salted.locals[i], i > 0) << "block " << i;
  }
}

// The bytes that are hashed: tokens as little-endian u32, then the MessagePack array of the keys.
// A token list of the same bytes must have the same hash, for plain tokens are hashed as they lie.
TEST(BlockHash, ExtraKeysAreHashedAsOneMessagePackArrayBehindTheTokens) {
  const std::vector<TokenId> tokens = {1, 2};
  const ExtraKeys keys = {TextKey("abcd"), TextKey("e")};
  const std::string bytes = *FromHex("01000000 02000000 92 a461626364 a165");
  ASSERT_EQ(bytes.size() % sizeof(TokenId), 0U);
  std::vector<TokenId> words(bytes.size() / sizeof(TokenId));
  for (size_t i = 0; i < words.size(); ++i) {
    for (size_t k = sizeof(TokenId); k-- > 0;) {
      words[i] = words[i] << 8U | static_cast<uint8_t>(bytes[i * sizeof(TokenId) + k]);
    }
  }
  EXPECT_EQ(HashBlock(tokens, keys, 1337), HashBlock(words, {}, 1337));
}

struct Encoding {
  std::string name;
  std::string key;
  std::string hex;
};

TEST(ExtraKey, IsOneMessagePackValueInItsShortestForm) {
  const std::vector<Encoding> cases = {
      {"empty text", TextKey(""), "a0"},
      {"text", TextKey("salt"), "a473616c74"},
      {"UTF-8 text", TextKey("\xc3\xa4"), "a2c3a4"},
      {"text of 31 bytes", TextKey(std::string(31, 'x')), "bf" + ToHex(std::string(31, 'x'))},
      {"text of 32 bytes", TextKey(std::string(32, 'x')), "d920" + ToHex(std::string(32, 'x'))},
      {"text of 256 bytes", TextKey(std::string(256, 'x')),
       "da0100" + ToHex(std::string(256, 'x'))},
      {"item at 0", ItemKey("img", 0), "92a3696d6700"},
      {"item at 127", ItemKey("img", 127), "92a3696d677f"},
      {"item at 128", ItemKey("img", 128), "92a3696d67cc80"},
      {"item at 300", ItemKey("img", 300), "92a3696d67cd012c"},
      {"item at 70000", ItemKey("img", 70000), "92a3696d67ce00011170"},
      {"item begun in the block before", ItemKey("img", -1), "92a3696d67ff"},
      {"item begun 33 tokens before", ItemKey("img", -33), "92a3696d67d0df"},
      {"item begun 1000 tokens before", ItemKey("img", -1000), "92a3696d67d1fc18"},
      {"embeds digest", BytesKey(std::string("\x00\xff", 2)), "c40200ff"},
      {"embeds digest of 32 bytes", BytesKey(std::string(32, '\x01')),
       "c420" + ToHex(std::string(32, '\x01'))},
  };
  for (const Encoding& encoding : cases) {
    EXPECT_EQ(ToHex(encoding.key), encoding.hex) << encoding.name;
  }
}

TEST(ExtraKey, TextAndBytesOfTheSameLettersDiffer) {
  const auto tokens = OneTo(4);
  EXPECT_NE(HashBlock(tokens, {TextKey("a")}, 1337), HashBlock(tokens, {BytesKey("a")}, 1337));
}

}  // namespace
}  // namespace conductor::hash
