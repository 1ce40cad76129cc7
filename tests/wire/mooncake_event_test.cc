#include <gtest/gtest.h>

#include "decoding.h"
#include "lib/wire/mooncake_encoder.h"

namespace conductor::wire {
namespace {

EventBatch DecodeEvent(const char* event) { return DecodeEventAs(Dialect::kMooncake, event); }

MasterBatch TwoEvents() {
  MasterBatch batch;
  batch.timestamp_ms = 1739000000500;
  batch.first_event_id = 7;
  batch.events = {{.key = "m@tp_rank:0@pcp0@dcp0@pp_rank:0@0123456789abcdef",
                   .tenant = "t",
                   .backend = "m0",
                   .medium = "disk"},
                  {.is_stored = false,
                   .key = "9223372036854775809",
                   .tenant = "t",
                   .backend = "m0",
                   .medium = "cpu",
                   .hashes = {EngineHash{0x8000000000000001}}}};
  return batch;
}

ObjectRemoved RemovedOfTwoEvents() {
  return {.key = "9223372036854775809", .tenant = "t", .backend = "m0", .medium = "cpu"};
}

TEST(MooncakeEvent, ReadsAMasterWithAndWithoutLegacyAliases) {
  for (const bool legacy : {true, false}) {
    MasterBatch sent = TwoEvents();
    sent.emit_legacy_compat = legacy;
    const EventBatch batch = DecodeAs(Dialect::kMooncake, EncodeMooncakeBatch(sent));
    EXPECT_TRUE(batch.skipped.empty());
    EXPECT_EQ(batch.timestamp, 1739000000.5);
    EXPECT_EQ(batch.last_event_id, 8u);
    const ObjectStored stored{.key = sent.events[0].key,
                              .described = std::nullopt,
                              .tenant = "t",
                              .backend = "m0",
                              .medium = "disk"};
    EXPECT_EQ(batch.events, (std::vector<KvEvent>{stored, RemovedOfTwoEvents()}));
  }
}

TEST(MooncakeEvent, NamesAnObjectWithoutKeyByItsNumber) {
  for (const bool legacy : {true, false}) {
    MasterBatch sent = TwoEvents();
    sent.emit_legacy_compat = legacy;
    sent.emit_object_key = false;
    const EventBatch batch = DecodeAs(Dialect::kMooncake, EncodeMooncakeBatch(sent));
    EXPECT_EQ(batch.events, (std::vector<KvEvent>{RemovedOfTwoEvents()}));
    EXPECT_EQ(batch.last_event_id, 7u);
  }
  EXPECT_EQ(Only<ObjectRemoved>(
                DecodeEvent(R"({"event_type": "removed", "seq_hashes": [], "block_hashes": [-1]})"))
                .key,
            "18446744073709551615");
}

TEST(MooncakeEvent, ObjectsAreObjectsWhateverTheirPublisherWasRegisteredAs) {
  for (const Dialect dialect : kEveryDialect) {
    EXPECT_EQ(Only<ObjectStored>(
                  DecodeEventAs(
                      dialect, R"({"type": "BlockStored", "object_key": "k", "block_hashes": []})"))
                  .key,
              "k");
  }
}

TEST(MooncakeEvent, StreamsMayHoldEventsOfVllm) {
  const EventBatch batch =
      DecodeAs(Dialect::kMooncake, Msgpack(R"([1.5, [["BlockRemoved", [1], "GPU"]], 0])"));
  EXPECT_EQ(batch.events.size(), 1u);
  EXPECT_TRUE(std::holds_alternative<BlockRemoved>(batch.events[0]));
}

TEST(MooncakeEvent, DescribesAnObjectByTheLastSixteenDigitsOfItsHash) {
  const auto stored = Only<ObjectStored>(DecodeEvent(
      R"({"event_type": "stored", "object_key": "k", "model_name": "m",
          "connector_block_hash":
              "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
          "head_or_tp_rank": 3})"));
  ASSERT_TRUE(stored.described.has_value());
  EXPECT_EQ(stored.described->family, KeyFamily::kDescribed);
  EXPECT_EQ(stored.described->hash, EngineHash{0x8899aabbccddeeff});
  EXPECT_EQ(stored.described->model, "m");
  EXPECT_EQ(stored.described->tp_rank, 3u);
  EXPECT_EQ(stored.described->pp_rank, std::nullopt);
  EXPECT_EQ(stored.described->layer, std::nullopt);
}

TEST(MooncakeEvent, ClearsWhatItNames) {
  EXPECT_EQ(Only<ScopeCleared>(
                DecodeEvent(R"({"event_type": "cleared", "tenant_id": "t", "backend_id": "m0"})")),
            (ScopeCleared{
                .tenant = "t", .backend = "m0", .medium = std::nullopt, .dp_rank = std::nullopt}));
}

TEST(MooncakeEvent, LooksOnlyAtWhatItNeeds) {
  EXPECT_EQ(DecodeEvent(R"({"event_type": "stored", "object_key": "k", "seq_hashes": "x",
                            "token_ids": 4, "block_size": -1, "dp_rank": "none"})")
                .events.size(),
            1u);
}

TEST(MooncakeEvent, CountsWhatItCannotReadAndWhatThatLost) {
  ExpectLost(
      Dialect::kMooncake,
      {
          {R"({"event_type": "stored"})",
           "object_key: is not given, beside 0 hashes (expected the object's key, or one hash in "
           "its place)",
           true, false},
          {R"({"event_type": "removed", "seq_hashes": [1, 2]})",
           "object_key: is not given, beside 2 hashes (expected the object's key, or one hash in "
           "its place)",
           false, true},
          {R"({"event_type": "stored", "object_key": 4})",
           "object_key: is 4 (expected nil or text)", true, false},
          {R"({"event_type": "stored", "object_key": "k", "connector_block_hash": "0123"})",
           "connector_block_hash: is '0123' (expected 16 hex digits or more)", true, false},
          {R"({"event_type": "stored", "object_key": "k", "connector_block_hash": "0123456789abcdeg"})",
           "connector_block_hash: is '0123456789abcdeg' (expected 16 hex digits or more)", true,
           false},
          {R"({"event_type": "stored", "object_key": "k", "connector_block_hash": "0123456789abcdef",
           "tp_rank": -1})",
           "tp_rank: is -1 (expected an integer from 0 to 4294967295)", true, false},
          {R"({"event_type": "cleared", "tenant_id": 4})", "tenant_id: is 4 (expected nil or text)",
           false, true},
      });
}

}  // namespace
}  // namespace conductor::wire
