#include "lib/wire/vllm_encoder.h"

#include <gtest/gtest.h>

#include "lib/wire/decoder.h"
#include "payloads.h"

namespace conductor::wire {
namespace {

TEST(VllmEncoder, WritesWholeSecondsAsAFloatAndAMissingRankAsNil) {
  EventBatch batch;
  batch.timestamp = 1700000000.0;
  EXPECT_EQ(ToHex(EncodeVllmBatch(batch)), "93cb41d954fc4000000090c0");
}

TEST(VllmEncoder, WritesHashesUnsignedInTheShortestForm) {
  EventBatch batch;
  batch.dp_rank = 1;
  batch.events = {BlockRemoved{{EngineHash{5}, EngineHash{uint64_t{1} << 63}}, std::nullopt, {}}};
  EXPECT_EQ(ToHex(EncodeVllmBatch(batch)),
            "93cb000000000000000091"
            "83a474797065ac426c6f636b52656d6f766564"
            "ac626c6f636b5f6861736865739205cf8000000000000000"
            "a66d656469756dc0"
            "01");
}

// Fields without a declared default are there even when nil; the others are left out.
TEST(VllmEncoder, LeavesOutWhatEqualsItsDefault) {
  EventBatch batch;
  batch.events = {BlockStored{}};
  const auto keys = nlohmann::json::from_msgpack(EncodeVllmBatch(batch))[1][0];
  EXPECT_EQ(keys, nlohmann::json::parse(R"({
      "type": "BlockStored", "block_hashes": [], "parent_block_hash": null, "token_ids": [],
      "block_size": 0, "lora_id": null, "medium": null, "lora_name": null})"));
}

// Neither a nil in their place, which is no event, nor a count that is wrong.
TEST(VllmEncoder, LeavesOutEventsThatVllmHasNoFormFor) {
  EventBatch batch;
  batch.dp_rank = 1;
  batch.events = {ObjectStored{.key = "12"}, AllBlocksCleared{}, ObjectRemoved{.key = "12"},
                  ScopeCleared{}};
  EventBatch cleared = batch;
  cleared.events = {AllBlocksCleared{}};
  EXPECT_EQ(ToHex(EncodeVllmBatch(batch)), ToHex(EncodeVllmBatch(cleared)));
  EXPECT_EQ(ToHex(EncodeVllmPositionalBatch(batch, VllmSlots::kV0_11)),
            ToHex(EncodeVllmPositionalBatch(cleared, VllmSlots::kV0_11)));
}

TEST(VllmEncoder, TheDecoderReadsBackEveryField) {
  BlockStored stored;
  stored.hashes = {EngineHash{1}, EngineHash{~uint64_t{0}}};
  stored.parent = EngineHash{77};
  stored.tokens = {0, 127, 128, 4294967295};
  stored.block_size = 2;
  stored.lora_id = -3;
  stored.lora_name = "adapter";
  stored.medium = "CPU";
  stored.extra_keys = {{hash::TextKey("adapter"), hash::ItemKey("image", -2)},
                       {hash::BytesKey(std::string(32, '\x05'))}};
  stored.cache_salt = "salt";
  stored.group = {1, "mla_attention"};
  EventBatch batch;
  batch.timestamp = 1234.25;
  batch.dp_rank = 3;
  batch.events = {stored, BlockRemoved{{EngineHash{1}}, "CPU", {1, std::nullopt}},
                  AllBlocksCleared{}};

  Decoder decoder(Dialect::kVllm);
  const auto read = decoder.Decode(EncodeVllmBatch(batch));
  ASSERT_TRUE(read) << read.error().Message();
  EXPECT_TRUE(read->skipped.empty());
  EXPECT_EQ(read->timestamp, batch.timestamp);
  EXPECT_EQ(read->dp_rank, batch.dp_rank);
  EXPECT_EQ(read->events, batch.events);

  // No slot for the salt.
  std::get<BlockStored>(batch.events[0]).cache_salt.reset();
  const auto positional = decoder.Decode(EncodeVllmPositionalBatch(batch, VllmSlots::kV0_23));
  ASSERT_TRUE(positional) << positional.error().Message();
  EXPECT_TRUE(positional->skipped.empty());
  EXPECT_EQ(positional->dp_rank, batch.dp_rank);
  EXPECT_EQ(positional->events, batch.events);
}

}  // namespace
}  // namespace conductor::wire
