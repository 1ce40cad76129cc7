// The worked bytes of docs/wire-formats.md: what each generation of publishers sends.

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <string>

#include "lib/wire/decoder.h"
#include "lib/wire/mooncake_encoder.h"
#include "lib/wire/sglang_encoder.h"
#include "lib/wire/timestamp.h"
#include "lib/wire/vllm_encoder.h"
#include "payloads.h"

namespace conductor::wire {
namespace {

constexpr EngineHash kHash{0xfedcba9876543210};

EventBatch DecodeGolden(const std::string& name) {
  const std::vector<GoldenPayload> goldens = Goldens();
  const auto golden = std::ranges::find(goldens, name, &GoldenPayload::name);
  EXPECT_NE(golden, goldens.end()) << name;
  Decoder decoder(golden->dialect);
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

TEST(GoldenBatches, AscendStore) {
  const EventBatch batch = DecodeGolden("ascend_store");
  BlockStored stored;
  stored.hashes = {kHash};
  stored.block_size = 128;
  stored.medium = "cpu";
  EXPECT_EQ(batch.events, (std::vector<KvEvent>{stored}));
}

TEST(GoldenBatches, SglangBigrams) {
  const EventBatch batch = DecodeGolden("sglang_bigram");
  BlockStored stored = Stored();
  stored.parent = EngineHash{static_cast<uint64_t>(int64_t{-5})};
  stored.medium = "CPU_PINNED";
  EXPECT_EQ(batch.events, (std::vector<KvEvent>{stored}));
}

TEST(GoldenBatches, Lmcache) {
  const EventBatch batch = DecodeGolden("lmcache");
  BlockStored stored = Stored();
  stored.hashes = {EngineHash{static_cast<uint64_t>(int64_t{-2})}};
  stored.medium = "cpu";
  EXPECT_EQ(batch.events, (std::vector<KvEvent>{stored}));
}

TEST(GoldenBatches, TensorRtLlm) {
  const EventBatch batch = DecodeGolden("tensorrt_llm");
  BlockStored stored = Stored();
  stored.parent = EngineHash{5};
  stored.medium = "GPU";
  stored.extra_keys = {{hash::ItemKey("image", -3)}};
  BlockRemoved removed;
  removed.hashes = {EngineHash{5}};
  removed.medium = "GPU";
  EXPECT_EQ(batch.events, (std::vector<KvEvent>{stored, removed}));
}

TEST(GoldenBatches, Rfc1527) {
  const EventBatch batch = DecodeGolden("rfc1527");
  EXPECT_EQ(batch.last_event_id, 10u);
  EXPECT_EQ(batch.dp_rank, 1);
  const Origin origin{
      .tenant = "default", .model = "m", .additional_salt = "", .backend = "e0", .dp_rank = 1};
  BlockStored first = Stored();
  first.medium = "gpu";
  first.origin = origin;
  first.base_block_idx = 0;
  BlockStored second;
  second.hashes = {EngineHash{5}};
  second.parent = kHash;
  second.block_size = 2;
  second.medium = "gpu";
  second.origin = origin;
  second.base_block_idx = 1;
  second.standard_hashes = true;
  BlockRemoved removed;
  removed.hashes = {EngineHash{5}};
  removed.medium = "gpu";
  removed.origin = origin;
  const ScopeCleared cleared{.tenant = "default", .backend = "e0", .medium = "gpu", .dp_rank = 1};
  EXPECT_EQ(batch.events, (std::vector<KvEvent>{first, second, removed, cleared}));
}

TEST(GoldenBatches, MooncakeMaster) {
  const EventBatch batch = DecodeGolden("mooncake_master");
  EXPECT_EQ(batch.timestamp, 1739000000.0);
  EXPECT_EQ(batch.last_event_id, 1u);
  EXPECT_EQ(batch.dp_rank, 0);
  const ObjectStored stored{.key = "m@tp_rank:0@1d",
                            .described = std::nullopt,
                            .tenant = "default",
                            .backend = "mc0",
                            .medium = "cpu"};
  EXPECT_EQ(batch.events, (std::vector<KvEvent>{stored}));
}

TEST(GoldenBatches, MooncakeConductor) {
  const EventBatch batch = DecodeGolden("mooncake_conductor");
  EXPECT_EQ(batch.last_event_id, 3u);
  ObjectKey described;
  described.family = KeyFamily::kDescribed;
  described.prefix = "blue";
  described.model = "m";
  described.hash = kHash;
  described.tp_rank = 1;
  described.pcp_rank = 0;
  described.dcp_rank = 0;
  described.pp_rank = 2;
  described.layer = 3;
  const ObjectStored stored{
      .key = "any", .described = described, .tenant = "default", .backend = "m0", .medium = "cpu"};
  const ObjectRemoved removed{.key = "any", .tenant = "default", .backend = "m0", .medium = "cpu"};
  const ScopeCleared cleared{.tenant = "default", .backend = "m0", .medium = "cpu", .dp_rank = 0};
  EXPECT_EQ(batch.events, (std::vector<KvEvent>{stored, removed, cleared}));
}

TEST(GoldenBatches, TheEncodersWriteTheBytesOfEveryVllm) {
  for (const std::string name : {"vllm_v0_24", "vllm_v0_24_offload"}) {
    EXPECT_EQ(ToHex(EncodeVllmBatch(DecodeGolden(name))), ToHex(Golden(name))) << name;
  }
  const std::pair<std::string, VllmSlots> positional[] = {{"vllm_v0_9_0", VllmSlots::kV0_9_0},
                                                          {"vllm_v0_11", VllmSlots::kV0_11},
                                                          {"vllm_v0_23", VllmSlots::kV0_23}};
  for (const auto& [name, slots] : positional) {
    EXPECT_EQ(ToHex(EncodeVllmPositionalBatch(DecodeGolden(name), slots)), ToHex(Golden(name)))
        << name;
  }
}

TEST(GoldenBatches, TheEncodersWriteTheBytesOfSglang) {
  EXPECT_EQ(ToHex(EncodeSglangPositionalBatch(DecodeGolden("sglang_positional_salt"))),
            ToHex(Golden("sglang_positional_salt")));
  EXPECT_EQ(ToHex(EncodeSglangBatch(DecodeGolden("sglang_map_salt"))),
            ToHex(Golden("sglang_map_salt")));
}

TEST(GoldenBatches, TheEncoderWritesTheBytesOfAMooncakeMaster) {
  MasterBatch batch;
  batch.timestamp_ms = 1739000000000;
  batch.events = {{.key = "m@tp_rank:0@1d",
                   .backend = "mc0",
                   .group_id = "sess-a",
                   .medium = "cpu",
                   .hashes = {EngineHash{0x8000000000000001}}}};
  EXPECT_EQ(ToHex(EncodeMooncakeBatch(batch)), ToHex(Golden("mooncake_master")));
}

// What the page of the formats says of the hash of a block with extra keys.
TEST(GoldenBatches, ExtraKeysGoIntoTheHashOfTheirBlock) {
  Decoder decoder(Dialect::kVllm);
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
  for (const auto& [name, dialect] : Goldens()) {
    EXPECT_NE(page.find("```" + ToHex(Golden(name)) + "```"), std::string::npos) << name;
  }
}

TEST(GoldenBatches, EveryOneShowsItsTimestampAtOnce) {
  for (const auto& [name, dialect] : Goldens()) {
    EXPECT_EQ(PeekTimestamp(Golden(name)), DecodeGolden(name).timestamp) << name;
  }
}

}  // namespace
}  // namespace conductor::wire
