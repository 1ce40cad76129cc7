#include <gtest/gtest.h>

#include "decoding.h"

namespace conductor::wire {
namespace {

EventBatch DecodeEvent(const char* event) { return DecodeEventAs(Dialect::kRfc1527, event); }

constexpr Dialect kEngines[] = {Dialect::kVllm,    Dialect::kVllmAscend,  Dialect::kSglang,
                                Dialect::kLmcache, Dialect::kTensorRtLlm, Dialect::kRfc1527};

TEST(Rfc1527Event, IsReadWhateverTheEngineWasRegisteredAs) {
  for (const Dialect dialect : kEngines) {
    const EventBatch batch = DecodeEventAs(
        dialect, R"({"event_id": 5, "event_type": "stored", "tenant_id": "t", "block_size": 2,
                     "seq_hashes": [9], "token_ids": [7, 8], "parent_hash": 4})");
    const auto stored = Only<BlockStored>(batch);
    EXPECT_EQ(stored.hashes, std::vector<EngineHash>{EngineHash{9}}) << DialectName(dialect);
    EXPECT_EQ(stored.parent, EngineHash{4});
    EXPECT_EQ(stored.tokens, (std::vector<TokenId>{7, 8}));
    ASSERT_TRUE(stored.origin.has_value());
    EXPECT_EQ(stored.origin->tenant, "t");
    EXPECT_FALSE(stored.standard_hashes);
    EXPECT_EQ(batch.last_event_id, 5u);
    EXPECT_TRUE(batch.skipped.empty());
  }
}

// And the other way round: what has none of its words is vLLM's.
TEST(Rfc1527Event, StreamsMayHoldEventsOfVllm) {
  const EventBatch batch = DecodeAs(Dialect::kRfc1527, Msgpack(R"([1.5, [
      ["BlockStored", [1], null, [7, 8], 2],
      {"type": "BlockRemoved", "block_hashes": [1], "medium": "GPU"},
      {"type": "AllBlocksCleared"}], 0])"));
  ASSERT_EQ(batch.events.size(), 3u);
  EXPECT_EQ(std::get<BlockStored>(batch.events[0]).origin, std::nullopt);
  EXPECT_EQ(std::get<BlockRemoved>(batch.events[1]).origin, std::nullopt);
  EXPECT_EQ(batch.events[2], KvEvent(AllBlocksCleared{}));
}

TEST(Rfc1527Event, TakesVllmsNamesAsLegacyAliases) {
  const EventBatch batch = DecodeAs(Dialect::kRfc1527, Msgpack(R"([1.5, [
      {"event_id": 1, "type": "BlockStored", "seq_hashes": [], "block_hashes": [-1],
       "parent_block_hash": -2, "token_ids": [7], "block_size": 1},
      {"event_id": 2, "type": "BlockRemoved", "block_hashes": [-1], "backend_id": "b"},
      {"event_id": 3, "type": "AllBlocksCleared", "tenant_id": "t"}], 0])"));
  ASSERT_EQ(batch.events.size(), 3u);
  const auto& stored = std::get<BlockStored>(batch.events[0]);
  EXPECT_EQ(stored.hashes, std::vector<EngineHash>{EngineHash{~uint64_t{0}}});
  EXPECT_EQ(stored.parent, EngineHash{~uint64_t{1}});
  EXPECT_TRUE(stored.origin.has_value());
  EXPECT_EQ(std::get<BlockRemoved>(batch.events[1]).origin->backend, "b");
  EXPECT_EQ(std::get<ScopeCleared>(batch.events[2]).tenant, "t");
  EXPECT_EQ(batch.last_event_id, 3u);
}

TEST(Rfc1527Event, PrefersTheStandardsNamesToTheAliases) {
  const auto stored = Only<BlockStored>(DecodeEvent(
      R"({"event_type": "stored", "type": "BlockRemoved", "seq_hashes": [1], "block_hashes": [2],
          "parent_hash": 3, "parent_block_hash": 4})"));
  EXPECT_EQ(stored.hashes, std::vector<EngineHash>{EngineHash{1}});
  EXPECT_EQ(stored.parent, EngineHash{3});
}

TEST(Rfc1527Event, HashesWithoutTokensAreTheStandardsOwn) {
  EXPECT_TRUE(
      Only<BlockStored>(
          DecodeEvent(R"({"event_type": "stored", "seq_hashes": [1], "base_block_idx": 0})"))
          .standard_hashes);
  EXPECT_TRUE(Only<BlockStored>(
                  DecodeEvent(R"({"event_type": "stored", "seq_hashes": [1], "token_ids": []})"))
                  .standard_hashes);
  // vLLM's name promises nothing: an offload placeholder in an envelope.
  EXPECT_FALSE(Only<BlockStored>(DecodeEvent(R"({"event_type": "stored", "block_hashes": [1]})"))
                   .standard_hashes);
}

TEST(Rfc1527Event, TellsABlockSizeThatFollowsFromTheTokens) {
  EXPECT_EQ(Only<BlockStored>(DecodeEvent(R"({"event_type": "stored", "seq_hashes": [1, 2],
                                              "token_ids": [1, 2, 3, 4, 5, 6]})"))
                .block_size,
            3u);
  EXPECT_EQ(Only<BlockStored>(DecodeEvent(R"({"event_type": "stored", "seq_hashes": [1, 2],
                                              "token_ids": [1, 2, 3]})"))
                .block_size,
            0u);
}

TEST(Rfc1527Event, SaysNothingOfWhatIsNilAndOfEmptyNames) {
  const auto stored = Only<BlockStored>(DecodeEvent(
      R"({"event_type": "stored", "seq_hashes": [1], "tenant_id": "", "model_name": null,
          "backend_id": "", "additional_salt": "", "lora_name": ""})"));
  Origin origin;
  origin.additional_salt = "";  // a salt that is empty is one
  EXPECT_EQ(stored.origin, origin);
  EXPECT_EQ(stored.lora_name, "");
}

TEST(Rfc1527Event, ClearsWhatItNames) {
  EXPECT_EQ(Only<ScopeCleared>(DecodeEvent(R"({"event_type": "cleared"})")), ScopeCleared{});
  EXPECT_EQ(Only<ScopeCleared>(DecodeEvent(
                R"({"event_type": "cleared", "tenant_id": "t", "backend_id": "b", "medium": "cpu",
                    "dp_rank": 2})")),
            (ScopeCleared{.tenant = "t", .backend = "b", .medium = "cpu", .dp_rank = 2}));
}

TEST(Rfc1527Event, ReadsWhatOnlyVllmHasANameFor) {
  const auto stored = Only<BlockStored>(DecodeEvent(
      R"({"event_type": "stored", "seq_hashes": [1], "token_ids": [7], "block_size": 1,
          "extra_keys": [["salt"]], "cache_salt": "s", "group_idx": 1,
          "kv_cache_spec_kind": "mamba", "lora_id": 4})"));
  EXPECT_EQ(stored.extra_keys, (std::vector<hash::ExtraKeys>{{hash::TextKey("salt")}}));
  EXPECT_EQ(stored.cache_salt, "s");
  EXPECT_EQ(stored.group, (CacheGroup{1, "mamba"}));
  EXPECT_EQ(stored.lora_id, 4);
  EXPECT_EQ(Skipped(DecodeEvent(R"({"event_type": "removed", "seq_hashes": [1],
                                    "locality": "REMOTE"})"),
                    SkipReason::kNotLocal),
            1u);
}

TEST(Rfc1527Event, CountsWhatItCannotReadAndWhatThatLost) {
  ExpectLost(
      Dialect::kRfc1527,
      {
          {R"({"event_type": "stored"})", "seq_hashes: is nil (expected an array of hashes)", true,
           false},
          {R"({"event_type": "stored", "seq_hashes": 4})",
           "seq_hashes: is an integer (expected an array of hashes)", true, false},
          {R"({"event_type": "stored", "seq_hashes": [1], "base_block_idx": -1})",
           "base_block_idx: is -1 (expected nil or an unsigned integer of 64 bits)", true, false},
          {R"({"event_type": "removed", "block_hashes": 4})",
           "block_hashes: is an integer (expected an array of hashes)", false, true},
          {R"({"event_type": "removed", "seq_hashes": [1], "event_id": "x"})",
           "event_id: is 'x' (expected nil or an unsigned integer of 64 bits)", false, true},
          {R"({"event_type": "cleared", "medium": 4})", "medium: is 4 (expected nil or text)",
           false, true},
      });
}

TEST(Rfc1527Event, CountsTypesAndKeysThatAreNotKnown) {
  EXPECT_EQ(Skipped(DecodeEvent(R"({"event_type": "moved", "seq_hashes": [1]})"),
                    SkipReason::kUnknownEventType),
            1u);
  const EventBatch batch =
      DecodeEvent(R"({"event_type": "removed", "seq_hashes": [1], "epoch": 4})");
  EXPECT_EQ(batch.events.size(), 1u);
  EXPECT_EQ(Skipped(batch, SkipReason::kUnknownField), 1u);
  // Its names are for maps.
  EXPECT_EQ(Skipped(DecodeEvent(R"(["stored", [1]])"), SkipReason::kUnknownEventType), 1u);
}

}  // namespace
}  // namespace conductor::wire
