#include <gtest/gtest.h>

#include "decoding.h"

namespace conductor::wire {
namespace {

EngineHash Signed(int64_t value) { return EngineHash{static_cast<uint64_t>(value)}; }

// Digests of SGLang's chain over the tokens 1000 + 37 * i in pages of 4, and the integers that its
// events have for them; then the same of a chain that the salt "tenant-a" begins.
TEST(SglangEvent, NamesBlocksByTheFirstEightBytesOfTheirDigest) {
  const struct {
    const char* digest;
    int64_t name;
  } cases[] = {
      {"58477e0f96dd726265652cef13380f6161b99b063e50ba44e9558860f7cb5605", 6361191604104819298},
      {"9633519810abb264748def67d695b4ab848bc88dd1745f2f563d48a1d5977f1f", -7623660030651551132},
      {"700aed894ba6763c69adbac9fa5ab09612ac1684f94ca7657f3b010287337b63", 8073526455950538300},
      {"a338d51a5084b35fec52796d81c68cd95fd393bb704338618098014b1cefb0f7", -6685359337834761377},
  };
  for (const Dialect dialect : {Dialect::kSglang, Dialect::kLmcache}) {
    for (const auto& test : cases) {
      const auto sent = nlohmann::json::array({Binary(Hex(test.digest)), test.digest, test.name});
      const auto stored =
          Only<BlockStored>(DecodeEventAs(dialect, {"BlockStored", sent, test.name}));
      EXPECT_EQ(stored.hashes, std::vector<EngineHash>(3, Signed(test.name))) << test.digest;
      EXPECT_EQ(stored.parent, Signed(test.name));
      const auto removed = Only<BlockRemoved>(DecodeEventAs(dialect, {"BlockRemoved", sent}));
      EXPECT_EQ(removed.hashes, stored.hashes);
    }
  }
}

TEST(SglangEvent, ReadsShortDigestsWhole) {
  const auto sent = nlohmann::json::array({Binary(Hex("0102030405060708")), "00000000000000ff"});
  const auto stored = Only<BlockStored>(DecodeEventAs(Dialect::kSglang, {"BlockStored", sent}));
  EXPECT_EQ(stored.hashes,
            (std::vector<EngineHash>{EngineHash{0x0102030405060708}, EngineHash{0xff}}));
}

TEST(SglangEvent, TakesTheFirstOfEachBigram) {
  const auto stored = Only<BlockStored>(DecodeEventAs(
      Dialect::kSglang, R"(["BlockStored", [1], null, [[5, 6], [6, 7]], 2, null, "GPU"])"));
  EXPECT_EQ(stored.tokens, (std::vector<TokenId>{5, 6}));
  EXPECT_EQ(stored.block_size, 2u);
}

TEST(SglangEvent, ReadsTheSaltAsMetadataAndAsKey) {
  for (const char* event :
       {R"(["BlockStored", [1], null, [5], 1, null, "GPU", {"cache_salt": "s"}])",
        R"({"type": "BlockStored", "block_hashes": [1], "token_ids": [5], "block_size": 1,
            "medium": "GPU", "cache_salt": "s", "session_id": "x"})"}) {
    const EventBatch batch = DecodeEventAs(Dialect::kSglang, event);
    const auto stored = Only<BlockStored>(batch);
    EXPECT_EQ(stored.cache_salt, "s") << event;
    EXPECT_EQ(stored.lora_name, std::nullopt);
    EXPECT_TRUE(batch.skipped.empty());
  }
}

TEST(SglangEvent, KeepsTheNamesOfItsMedia) {
  for (const char* medium : {"GPU", "CPU_TIER1", "CPU_TIER2", "CPU_PINNED", "DISK", "EXTERNAL"}) {
    const auto removed = Only<BlockRemoved>(
        DecodeEventAs(Dialect::kSglang, {"BlockRemoved", nlohmann::json::array({1}), medium}));
    EXPECT_EQ(removed.medium, medium);
  }
}

}  // namespace
}  // namespace conductor::wire
