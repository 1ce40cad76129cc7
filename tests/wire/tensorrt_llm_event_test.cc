#include <gtest/gtest.h>

#include "decoding.h"

namespace conductor::wire {
namespace {

EventBatch DecodeStored(const char* field, const char* value) {
  auto event = nlohmann::json::parse(
      R"({"type": "BlockStored", "block_hashes": [1, 2], "token_ids": [7, 8, 9, 10],
          "block_size": 2, "medium": "GPU"})");
  event[field] = nlohmann::json::parse(value);
  return DecodeEventAs(Dialect::kTensorRtLlm, event);
}

TEST(TensorRtLlmEvent, ReadsTokensAsIntegersAndAsText) {
  EXPECT_EQ(Only<BlockStored>(DecodeStored("token_ids", R"([7, "8", "0", "4294967295"])")).tokens,
            (std::vector<TokenId>{7, 8, 0, 4294967295}));
}

TEST(TensorRtLlmEvent, ATokenThatIsNoNumberCostsItsEventAlone) {
  for (const char* token : {"Hello", "", "-1", "+1", " 1", "1 ", "0x1", "4294967296"}) {
    const auto bad =
        nlohmann::json{{"type", "BlockStored"}, {"block_hashes", {1}}, {"token_ids", {token}}};
    const EventBatch batch =
        DecodeAs(Dialect::kTensorRtLlm,
                 Msgpack(nlohmann::json::array({1.5, {bad, {"AllBlocksCleared"}}, 0})));
    EXPECT_EQ(batch.events, std::vector<KvEvent>{AllBlocksCleared{}}) << token;
    EXPECT_EQ(Skipped(batch, SkipReason::kMalformedEvent), 1u) << token;
    EXPECT_TRUE(batch.lost_stores);
    EXPECT_FALSE(batch.lost_removals);
  }
}

// An image over both blocks that begins in the first: vLLM's offset counts from the block.
TEST(TensorRtLlmEvent, MakesMmKeysExtraKeysOfTheirBlocks) {
  const EventBatch batch =
      DecodeStored("mm_keys", R"([[{"type": "mm_key", "hash": "aa", "start_offset": 0}],
                     [{"type": "mm_key", "hash": "aa", "start_offset": 2},
                      {"type": "mm_key", "hash": "bb", "start_offset": 0, "uuid": "cat"}]])");
  EXPECT_EQ(Only<BlockStored>(batch).extra_keys,
            (std::vector<hash::ExtraKeys>{{hash::ItemKey("aa", 0)},
                                          {hash::ItemKey("aa", -2), hash::ItemKey("cat", 0)}}));
  EXPECT_TRUE(batch.skipped.empty());
}

TEST(TensorRtLlmEvent, BlocksWithoutImagesHaveNoKeys) {
  for (const char* none : {"null", "[]", "[null]", "[[], []]", "[null, []]"}) {
    EXPECT_TRUE(Only<BlockStored>(DecodeStored("mm_keys", none)).extra_keys.empty()) << none;
  }
  EXPECT_EQ(Only<BlockStored>(DecodeStored("mm_keys", R"([null, [{"hash": "aa"}]])")).extra_keys,
            (std::vector<hash::ExtraKeys>{{}, {hash::ItemKey("aa", 0)}}));
}

TEST(TensorRtLlmEvent, RefusesMmKeysThatItCannotPlace) {
  const struct {
    const char* keys;
    const char* message;
  } cases[] = {
      {"7", "mm_keys: is an integer (expected nil or an array with an entry for each block)"},
      {R"([[{"hash": "aa", "start_offset": 0}]])",
       "mm_keys: has 1 entries for 2 blocks (expected an entry for each block)"},
      {R"([null, {"hash": "aa"}])", "mm_keys[1]: is a map (expected nil or an array)"},
      {R"([["aa"], null])",
       "mm_keys[0]: holds 'aa' (expected a map with hash or uuid as text and start_offset, an "
       "integer from 0 to 2147483647)"},
      {R"([[{"start_offset": 0}], null])",
       "mm_keys[0]: holds a map (expected a map with hash or uuid as text and start_offset, an "
       "integer from 0 to 2147483647)"},
      {R"([[{"hash": "aa", "start_offset": -1}], null])",
       "mm_keys[0]: holds a map (expected a map with hash or uuid as text and start_offset, an "
       "integer from 0 to 2147483647)"},
  };
  for (const auto& test : cases) {
    const EventBatch batch = DecodeStored("mm_keys", test.keys);
    ASSERT_EQ(batch.skips.size(), 1u) << test.keys;
    EXPECT_EQ(batch.skips[0].message, test.message);
    EXPECT_TRUE(batch.lost_stores);
  }
}

TEST(TensorRtLlmEvent, PassesOverRemoteBlocks) {
  EXPECT_EQ(Skipped(DecodeStored("locality", R"("REMOTE")"), SkipReason::kNotLocal), 1u);
}

}  // namespace
}  // namespace conductor::wire
