#include "lib/wire/sglang_encoder.h"

#include <gtest/gtest.h>

#include <limits>

#include "decoding.h"

namespace conductor::wire {
namespace {

TEST(SglangEncoder, WritesHashesSignedInTheShortestForm) {
  EventBatch batch;
  BlockRemoved removed;
  for (const int64_t hash : {int64_t{-1}, std::numeric_limits<int64_t>::min(), int64_t{5}}) {
    removed.hashes.push_back(EngineHash{static_cast<uint64_t>(hash)});
  }
  batch.events = {removed};
  EXPECT_EQ(ToHex(EncodeSglangPositionalBatch(batch)),
            "93cb00000000000000009193ac426c6f636b52656d6f76656493ffd3800000000000000005c0c0");
}

TEST(SglangEncoder, HasAnEighthFieldForSaltedRequestsOnly) {
  EventBatch batch;
  BlockStored salted;
  salted.cache_salt = "s";
  batch.events = {BlockStored{}, salted};
  const auto slots = nlohmann::json::from_msgpack(EncodeSglangPositionalBatch(batch))[1];
  EXPECT_EQ(slots, nlohmann::json::parse(R"([
      ["BlockStored", [], null, [], 0, null, null],
      ["BlockStored", [], null, [], 0, null, null, {"cache_salt": "s"}]])"));
  const auto maps = nlohmann::json::from_msgpack(EncodeSglangBatch(batch))[1];
  EXPECT_FALSE(maps[0].contains("cache_salt"));
  EXPECT_EQ(maps[1]["cache_salt"], "s");
}

TEST(SglangEncoder, LeavesOutEventsThatSglangHasNoFormFor) {
  EventBatch batch;
  batch.events = {ObjectStored{.key = "12"}, AllBlocksCleared{}, ScopeCleared{}};
  EXPECT_EQ(nlohmann::json::from_msgpack(EncodeSglangBatch(batch))[1].size(), 1u);
  EXPECT_EQ(nlohmann::json::from_msgpack(EncodeSglangPositionalBatch(batch))[1].size(), 1u);
}

TEST(SglangEncoder, TheDecoderReadsBackEveryField) {
  BlockStored stored;
  stored.hashes = {EngineHash{1}, EngineHash{~uint64_t{0}}};
  stored.parent = EngineHash{uint64_t{1} << 63};
  stored.tokens = {0, 127, 128, 4294967295};
  stored.block_size = 2;
  stored.medium = "CPU_PINNED";
  stored.cache_salt = "salt";
  BlockRemoved removed;
  removed.hashes = {EngineHash{1}};
  removed.medium = "DISK";
  EventBatch batch;
  batch.timestamp = 1234.25;
  batch.dp_rank = 3;
  batch.events = {stored, removed, AllBlocksCleared{}};
  for (const std::string& payload :
       {EncodeSglangBatch(batch), EncodeSglangPositionalBatch(batch)}) {
    const EventBatch read = DecodeAs(Dialect::kSglang, payload);
    EXPECT_TRUE(read.skipped.empty());
    EXPECT_EQ(read.timestamp, batch.timestamp);
    EXPECT_EQ(read.dp_rank, batch.dp_rank);
    EXPECT_EQ(read.events, batch.events);
  }
}

}  // namespace
}  // namespace conductor::wire
