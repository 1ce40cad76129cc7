#include "lib/wire/mooncake_encoder.h"

#include <gtest/gtest.h>

#include "payloads.h"

namespace conductor::wire {
namespace {

MasterBatch OneOfEach() {
  MasterBatch batch;
  batch.timestamp_ms = 1739000000000;
  batch.events = {{.key = "12", .backend = "m0", .medium = "cpu", .hashes = {EngineHash{12}}},
                  {.is_stored = false, .key = "13", .backend = "m0", .hashes = {EngineHash{13}}}};
  return batch;
}

TEST(MooncakeEncoder, WritesAsManyKeysAsTheMasterDoes) {
  const struct {
    bool legacy;
    bool object_key;
    size_t stored;
    size_t removed;
  } cases[] = {
      {true, true, 20, 17}, {true, false, 19, 16}, {false, true, 17, 15}, {false, false, 16, 14}};
  for (const auto& test : cases) {
    MasterBatch batch = OneOfEach();
    batch.emit_legacy_compat = test.legacy;
    batch.emit_object_key = test.object_key;
    const auto sent = nlohmann::json::from_msgpack(EncodeMooncakeBatch(batch));
    ASSERT_EQ(sent.size(), 3u);
    EXPECT_EQ(sent[0], 1739000000000);
    EXPECT_EQ(sent[2], 0);
    EXPECT_EQ(sent[1][0].size(), test.stored);
    EXPECT_EQ(sent[1][1].size(), test.removed);
    EXPECT_EQ(sent[1][1]["base_block_idx"], nullptr);
    EXPECT_EQ(sent[1][1]["medium"], nullptr);
  }
}

TEST(MooncakeEncoder, DoesNotSendWhatHasNeitherKeyNorNumber) {
  MasterBatch batch = OneOfEach();
  batch.first_event_id = 5;
  batch.events[0].hashes.clear();
  batch.emit_object_key = false;
  const auto events = nlohmann::json::from_msgpack(EncodeMooncakeBatch(batch))[1];
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0]["event_id"], 5);
  EXPECT_EQ(events[0]["seq_hashes"], nlohmann::json::array({13}));
}

}  // namespace
}  // namespace conductor::wire
