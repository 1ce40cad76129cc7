// The worked bytes of docs/wire-formats.md: what each generation of publishers sends.

#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "lib/wire/vllm_decoder.h"
#include "lib/wire/vllm_encoder.h"
#include "payloads.h"

namespace conductor::wire {
namespace {

constexpr EngineHash kHash{0xfedcba9876543210};

EventBatch DecodeGolden(const std::string& name) {
  VllmDecoder decoder;
  auto batch = decoder.Decode(Golden(name));
  EXPECT_TRUE(batch) << name << ": " << batch.error().Message();
  EXPECT_TRUE(batch->skips.empty()) << name << ": " << batch->skips.front().message;
  return batch ? std::move(*batch) : EventBatch();
}

// What every vLLM example but the offload one stores.
BlockStored Stored() {
  BlockStored event;
  event.hashes = {kHash};
  event.tokens = {7, 300};
  event.block_size = 2;
  return event;
}

TEST(GoldenBatches, Vllm090) {
  const EventBatch batch = DecodeGolden("vllm_v0_9_0");
  EXPECT_EQ(batch.timestamp, 1.5);
  EXPECT_EQ(batch.dp_rank, std::nullopt);
  EXPECT_EQ(batch.events, (std::vector<KvEvent>{Stored()}));
}

TEST(GoldenBatches, Vllm011) {
  const EventBatch batch = DecodeGolden("vllm_v0_11");
  EXPECT_EQ(batch.timestamp, 1.5);
  EXPECT_EQ(batch.dp_rank, 0);
  BlockStored stored = Stored();
  stored.medium = "GPU";
  EXPECT_EQ(batch.events,
            (std::vector<KvEvent>{stored, BlockRemoved{{kHash}, "GPU", {}}, AllBlocksCleared{}}));
}

TEST(GoldenBatches, Vllm023) {
  const EventBatch batch = DecodeGolden("vllm_v0_23");
  EXPECT_EQ(batch.dp_rank, 0);
  BlockStored stored = Stored();
  stored.medium = "GPU";
  stored.extra_keys = {{}};
  stored.group = {0, "full_attention"};
  EXPECT_EQ(batch.events,
            (std::vector<KvEvent>{stored, BlockRemoved{{kHash}, "GPU", {0, std::nullopt}}}));
}

TEST(GoldenBatches, Vllm024) {
  const EventBatch batch = DecodeGolden("vllm_v0_24");
  EXPECT_EQ(batch.timestamp, 1.5);
  EXPECT_EQ(batch.dp_rank, 0);
  BlockStored stored = Stored();
  stored.medium = "GPU";
  stored.extra_keys = {{}};
  stored.group = {0, "full_attention"};
  EXPECT_EQ(batch.events,
            (std::vector<KvEvent>{stored, BlockRemoved{{kHash}, "GPU", {0, std::nullopt}},
                                  AllBlocksCleared{}}));
}

TEST(GoldenBatches, Vllm024Offload) {
  const EventBatch batch = DecodeGolden("vllm_v0_24_offload");
  BlockStored stored;
  stored.hashes = {kHash};
  stored.medium = "CPU";
  stored.group = {0, std::nullopt};
  EXPECT_EQ(batch.events, (std::vector<KvEvent>{stored}));
}

TEST(GoldenBatches, SglangPositionalWithSalt) {
  const EventBatch batch = DecodeGolden("sglang_positional_salt");
  EXPECT_EQ(batch.timestamp, 1.0);
  EXPECT_EQ(batch.dp_rank, std::nullopt);
  BlockStored stored;
  stored.hashes = {EngineHash{static_cast<uint64_t>(int64_t{-5})}};
  stored.tokens = {1, 2};
  stored.block_size = 2;
  stored.medium = "GPU";
  stored.cache_salt = "tenant-a";
  EXPECT_EQ(batch.events, (std::vector<KvEvent>{stored}));
}

TEST(GoldenBatches, SglangMapsWithSalt) {
  const EventBatch batch = DecodeGolden("sglang_map_salt");
  EXPECT_EQ(batch.timestamp, 12.5);
  EXPECT_EQ(batch.dp_rank, 4);
  const EngineHash minus_one{~uint64_t{0}};
  BlockStored stored;
  stored.hashes = {minus_one, EngineHash{2}};
  stored.tokens = {1, 2, 3, 4};
  stored.block_size = 2;
  stored.medium = "GPU";
  stored.cache_salt = "s";
  EXPECT_EQ(batch.events, (std::vector<KvEvent>{stored, BlockRemoved{{minus_one}, "GPU", {}},
                                                AllBlocksCleared{}}));
}

TEST(GoldenBatches, TheEncoderWritesTheBytesOfVllm024) {
  for (const std::string name : {"vllm_v0_24", "vllm_v0_24_offload"}) {
    EXPECT_EQ(ToHex(EncodeVllmBatch(DecodeGolden(name))), ToHex(Golden(name))) << name;
  }
}

// What the page of the formats says of the hash of a block with extra keys.
TEST(GoldenBatches, ExtraKeysGoIntoTheHashOfTheirBlock) {
  VllmDecoder decoder;
  const auto batch = decoder.Decode(Msgpack(
      R"([1.5, [["BlockStored", [1], null, [7, 300], 2, null, "GPU", null,
                 [["salt", ["image", 4]]]]], 0])"));
  ASSERT_TRUE(batch) << batch.error().Message();
  const auto& stored = std::get<BlockStored>(batch->events.at(0));
  EXPECT_EQ(hash::HashBlock(stored.tokens, stored.extra_keys.at(0), hash::kDefaultSeed),
            LocalHash{13313301866259861514u});
}

TEST(GoldenBatches, ThePageOfTheFormatsShowsTheseBytes) {
  std::ifstream file(CONDUCTOR_WIRE_FORMATS);
  ASSERT_TRUE(file);
  std::string page;
  for (std::string word; file >> word;) page += word;
  for (const std::string& name : GoldenNames()) {
    EXPECT_NE(page.find("```" + ToHex(Golden(name)) + "```"), std::string::npos) << name;
  }
}

TEST(GoldenBatches, EveryOneShowsItsTimestampAtOnce) {
  for (const std::string& name : GoldenNames()) {
    EXPECT_EQ(PeekTimestamp(Golden(name)), DecodeGolden(name).timestamp) << name;
  }
}

}  // namespace
}  // namespace conductor::wire
