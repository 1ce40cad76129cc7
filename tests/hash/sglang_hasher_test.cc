#include "lib/hash/sglang_hasher.h"

#include <gtest/gtest.h>

#include <span>
#include <string>
#include <vector>

#include "lib/base/bytes.h"

namespace conductor::hash {
namespace {

// Computed with Python's hashlib from the recipe in sglang_hasher.h.

std::vector<TokenId> TwoPages() {
  std::vector<TokenId> tokens;
  for (TokenId i = 0; i < 8; ++i) tokens.push_back(1000 + 37 * i);
  return tokens;
}

int64_t SignedName(std::string_view digest) {
  return static_cast<int64_t>(SglangHasher::NameOf(digest));
}

TEST(SglangHasher, ChainsPagesFromNothing) {
  SglangHasher hasher;
  EXPECT_EQ(hasher.root(), "");
  const std::vector<TokenId> tokens = TwoPages();
  const std::string first = hasher.Next(hasher.root(), std::span(tokens).first(4));
  EXPECT_EQ(ToHex(first), "58477e0f96dd726265652cef13380f6161b99b063e50ba44e9558860f7cb5605");
  EXPECT_EQ(SignedName(first), 6361191604104819298);
  const std::string second = hasher.Next(first, std::span(tokens).last(4));
  EXPECT_EQ(ToHex(second), "9633519810abb264748def67d695b4ab848bc88dd1745f2f563d48a1d5977f1f");
  EXPECT_EQ(SignedName(second), -7623660030651551132);
}

TEST(SglangHasher, ChainsPagesOfASaltedRequestFromTheSalt) {
  SglangHasher hasher("tenant-a");
  EXPECT_EQ(ToHex(hasher.root()),
            "f5d0f785efe6042a4e4b0297a4d712917e1763c850835e93df58b373fd47fd2c");
  const std::vector<TokenId> tokens = TwoPages();
  const std::string first = hasher.Next(hasher.root(), std::span(tokens).first(4));
  EXPECT_EQ(ToHex(first), "700aed894ba6763c69adbac9fa5ab09612ac1684f94ca7657f3b010287337b63");
  EXPECT_EQ(SignedName(first), 8073526455950538300);
  const std::string second = hasher.Next(first, std::span(tokens).last(4));
  EXPECT_EQ(ToHex(second), "a338d51a5084b35fec52796d81c68cd95fd393bb704338618098014b1cefb0f7");
  EXPECT_EQ(SignedName(second), -6685359337834761377);
}

TEST(SglangHasher, AnEmptySaltIsASalt) { EXPECT_EQ(SglangHasher("").root().size(), 32U); }

}  // namespace
}  // namespace conductor::hash
