#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "decoding.h"
#include "lib/wire/timestamp.h"

namespace conductor::wire {
namespace {

EventBatch Decode(const std::string& payload) { return DecodeAs(Dialect::kVllm, payload); }
EventBatch Decode(const char* json) { return Decode(Msgpack(json)); }

template <typename Json>
EventBatch DecodeEvent(const Json& event) {
  return DecodeEventAs(Dialect::kVllm, event);
}
EventBatch DecodeEvent(std::initializer_list<nlohmann::json> event) {
  return DecodeEventAs(Dialect::kVllm, nlohmann::json(event));
}

BlockStored StoredOf(const EventBatch& batch) { return Only<BlockStored>(batch); }

TEST(VllmEvent, ReadsBatchesOfTwoOfThreeAndMaps) {
  EXPECT_EQ(Decode(R"([2.5, []])").dp_rank, std::nullopt);
  EXPECT_EQ(Decode(R"([2.5, [], null])").dp_rank, std::nullopt);
  EXPECT_EQ(Decode(R"([2.5, [], 3])").dp_rank, 3);
  const EventBatch map =
      Decode(R"({"ts": 2.5, "events": [{"type": "AllBlocksCleared"}], "data_parallel_rank": 3})");
  EXPECT_EQ(map.timestamp, 2.5);
  EXPECT_EQ(map.dp_rank, 3);
  EXPECT_EQ(map.events, std::vector<KvEvent>{AllBlocksCleared{}});
}

TEST(VllmEvent, RefusesWhatIsNoBatch) {
  struct Case {
    const char* json;
    const char* message;
  };
  const Case cases[] = {
      {"7",
       "the batch is an integer (expected [ts, events, data_parallel_rank] or a map of these)"},
      {"[]", "ts: is nil (expected a finite number of seconds, or whole milliseconds)"},
      {R"(["now", []])",
       "ts: is text (expected a finite number of seconds, or whole milliseconds)"},
      {"[1.5]", "events: is nil (expected an array)"},
      {R"([1.5, {}])", "events: is a map (expected an array)"},
      {R"([1.5, [], "0"])", "data_parallel_rank: is text (expected nil or an integer)"},
      {R"({"events": []})",
       "ts: is nil (expected a finite number of seconds, or whole milliseconds)"},
  };
  for (const Case& test : cases) {
    Decoder decoder(Dialect::kVllm);
    const auto batch = decoder.Decode(Msgpack(test.json));
    ASSERT_FALSE(batch) << test.json;
    EXPECT_EQ(batch.error().Message(), test.message);
  }
}

TEST(VllmEvent, CountsSlotsAndKeysOfTheBatchThatAreNotKnown) {
  const EventBatch longer = Decode(R"([1.5, [["AllBlocksCleared"]], 0, "later"])");
  EXPECT_EQ(longer.events.size(), 1u);
  EXPECT_EQ(Skipped(longer, SkipReason::kUnknownField), 1u);
  EXPECT_EQ(longer.skips.front().Describe(), "batch: slot 3 holds text, and 3 are known");
  const EventBatch map = Decode(R"({"ts": 1.5, "events": [], "epoch": 4})");
  EXPECT_EQ(Skipped(map, SkipReason::kUnknownField), 1u);
  EXPECT_EQ(map.skips.front().message, "the key 'epoch' is not known");
}

TEST(VllmEvent, TakesLargeIntegersForMilliseconds) {
  struct Case {
    const char* json;
    double seconds;
  };
  const Case cases[] = {
      {"[1700000000123, []]", 1700000000.123},
      {"[1700000000, []]", 1700000000},
      {"[100000000000, []]", 1e8},
      {"[99999999999, []]", 99999999999},
      {"[0, []]", 0},
      {"[-5, []]", -5},
      {"[1700000000123.0, []]", 1700000000123},
  };
  for (const Case& test : cases) {
    EXPECT_DOUBLE_EQ(Decode(test.json).timestamp, test.seconds) << test.json;
    EXPECT_DOUBLE_EQ(PeekTimestamp(Msgpack(test.json)).value_or(-1), test.seconds) << test.json;
  }
}

TEST(VllmEvent, PeeksWithoutReadingTheEvents) {
  EXPECT_EQ(PeekTimestamp(Hex("92 cb3ff8000000000000")), 1.5);
  EXPECT_EQ(PeekTimestamp(Msgpack(R"({"a": ["ts", 4, {"ts": 8}], "ts": 1.5})")), 1.5);
  for (const char* json : {"[]", "[1.5]", R"(["x", []])", "[[1.5], []]", R"({"ts": [1.5]})",
                           R"({"a": 1.5})", "1.5", "null", R"("ts")"}) {
    EXPECT_EQ(PeekTimestamp(Msgpack(json)), std::nullopt) << json;
  }
  EXPECT_EQ(PeekTimestamp(""), std::nullopt);
  EXPECT_EQ(PeekTimestamp(Hex("92 cb7ff8000000000000 90")), std::nullopt);
  EXPECT_EQ(PeekTimestamp(std::string(1000, '\x81')), std::nullopt);
}

TEST(VllmEvent, ReadsPositionalEventsOfEveryLength) {
  const auto all = nlohmann::json::parse(
      R"(["BlockStored", [1], 9, [7, 8], 2, 5, "CPU", "adapter", [["salt"]], 1, "mamba", 128])");
  BlockStored expected;
  expected.hashes = {EngineHash{1}};
  for (size_t slots = 2; slots <= all.size(); ++slots) {
    if (slots > 2) expected.parent = EngineHash{9};
    if (slots > 3) expected.tokens = {7, 8};
    if (slots > 4) expected.block_size = 2;
    if (slots > 5) expected.lora_id = 5;
    if (slots > 6) expected.medium = "CPU";
    if (slots > 7) expected.lora_name = "adapter";
    if (slots > 8) expected.extra_keys = {{hash::TextKey("salt")}};
    if (slots > 9) expected.group.index = 1;
    if (slots > 10) expected.group.spec_kind = "mamba";
    nlohmann::json event = nlohmann::json::array();
    for (size_t slot = 0; slot < slots; ++slot) event.push_back(all[slot]);
    const EventBatch batch = DecodeEvent(event);
    EXPECT_EQ(StoredOf(batch), expected) << slots << " slots";
    EXPECT_TRUE(batch.skipped.empty()) << slots << " slots";
  }
}

TEST(VllmEvent, CountsTrailingSlotsAndUsesTheEvent) {
  const EventBatch batch = DecodeEvent(
      R"(["BlockStored", [1], null, [7, 8], 2, null, "GPU", null, null, 0, "full_attention", null,
          "later", 4])");
  EXPECT_EQ(StoredOf(batch).hashes.size(), 1u);
  EXPECT_EQ(Skipped(batch, SkipReason::kUnknownField), 2u);
  EXPECT_EQ(batch.skips[0].message, "slot 12 holds text, and 12 are known");
  EXPECT_EQ(batch.skips[0].event_index, 0u);

  const EventBatch removed = DecodeEvent(R"(["BlockRemoved", [1], "GPU", 0, "later"])");
  EXPECT_EQ(removed.events.size(), 1u);
  EXPECT_EQ(Skipped(removed, SkipReason::kUnknownField), 1u);

  const EventBatch cleared = DecodeEvent(R"(["AllBlocksCleared", "later"])");
  EXPECT_EQ(cleared.events.size(), 1u);
  EXPECT_EQ(Skipped(cleared, SkipReason::kUnknownField), 1u);
}

TEST(VllmEvent, CountsKeysThatAreNotKnownAndUsesTheEvent) {
  const EventBatch batch = DecodeEvent(
      R"({"type": "BlockStored", "block_hashes": [1], "token_ids": [7, 8], "block_size": 2,
          "origin": "NEW", "event_version": 3})");
  EXPECT_EQ(StoredOf(batch).tokens, (std::vector<TokenId>{7, 8}));
  EXPECT_EQ(Skipped(batch, SkipReason::kUnknownField), 2u);
  const EventBatch removed =
      DecodeEvent(R"({"type": "BlockRemoved", "block_hashes": [1], "remaining_copy_counts": [1]})");
  EXPECT_EQ(removed.events.size(), 1u);
  EXPECT_EQ(removed.skips.front().message, "the key 'remaining_copy_counts' is not known");
  const EventBatch number_key =
      Decode(Hex("92 01 91 82 a474797065 b0416c6c426c6f636b73436c6561726564 07 08"));
  EXPECT_EQ(number_key.events.size(), 1u);
  EXPECT_EQ(Skipped(number_key, SkipReason::kUnknownField), 1u);
}

TEST(VllmEvent, KnowsTheFieldsThatItDoesNotUse) {
  const EventBatch batch = DecodeEvent(
      R"({"type": "BlockStored", "block_hashes": [1], "kv_cache_spec_sliding_window": 128,
          "locality": "LOCAL", "ownership": "engine", "session_id": "s"})");
  EXPECT_TRUE(batch.skipped.empty());
  const EventBatch removed = DecodeEvent(
      R"({"type": "BlockRemoved", "block_hashes": [1], "locality": null, "ownership": "engine"})");
  EXPECT_TRUE(removed.skipped.empty());
}

// A block that lies elsewhere is no holding of the engine, and what other words mean is not known.
TEST(VllmEvent, PassesOverBlocksThatAreNotLocal) {
  for (const char* locality : {"null", R"("")", R"("LOCAL")", R"("local")"}) {
    const std::string fields = std::string(R"("block_hashes": [1], "locality": )") + locality + "}";
    const EventBatch batch = Decode(Msgpack((R"([1.5, [{"type": "BlockStored", )" + fields +
                                             R"(, {"type": "BlockRemoved", )" + fields + "]]")
                                                .c_str()));
    EXPECT_EQ(batch.events.size(), 2u) << locality;
    EXPECT_TRUE(batch.skipped.empty()) << locality;
  }
  for (const char* locality : {"REMOTE", "remote", "SHARED"}) {
    for (const char* type : {"BlockStored", "BlockRemoved"}) {
      const EventBatch batch = DecodeEvent(
          nlohmann::json{{"type", type}, {"block_hashes", {1}}, {"locality", locality}});
      EXPECT_TRUE(batch.events.empty()) << locality;
      EXPECT_EQ(Skipped(batch, SkipReason::kNotLocal), 1u) << locality;
      EXPECT_FALSE(batch.lost_stores) << locality;
      EXPECT_FALSE(batch.lost_removals) << locality;
    }
  }
  const EventBatch wrong =
      DecodeEvent(R"({"type": "BlockRemoved", "block_hashes": [1], "locality": 3})");
  EXPECT_EQ(wrong.skips.at(0).message, "locality: is 3 (expected nil or text)");
  EXPECT_TRUE(wrong.lost_removals);
}

TEST(VllmEvent, ReadsMapKeysInAnyOrderAndTheTagUnderEitherName) {
  const auto backwards =
      Hex("92 01 91 84"
          "aa626c6f636b5f73697a65 02"              // block_size
          "a9746f6b656e5f696473 92 07 08"          // token_ids
          "ac626c6f636b5f686173686573 91 01"       // block_hashes
          "a474797065 ab426c6f636b53746f726564");  // type
  EXPECT_EQ(StoredOf(Decode(backwards)).tokens, (std::vector<TokenId>{7, 8}));
  EXPECT_EQ(StoredOf(DecodeEvent(R"({"event_type": "BlockStored", "block_hashes": [4]})")).hashes,
            std::vector<EngineHash>{EngineHash{4}});
  EXPECT_EQ(StoredOf(DecodeEvent(
                         R"({"event_type": "stored", "type": "BlockStored", "block_hashes": [4]})"))
                .hashes,
            std::vector<EngineHash>{EngineHash{4}});
}

TEST(VllmEvent, NamesBlocksByTheLastEightBytesOfTheirHash) {
  std::string digest;
  for (int i = 0; i < 64; ++i) digest.push_back(static_cast<char>(i));
  const struct {
    nlohmann::json sent;
    uint64_t name;
  } cases[] = {
      {18446744073709551615u, ~uint64_t{0}},
      {-1, ~uint64_t{0}},
      {std::numeric_limits<int64_t>::min(), uint64_t{1} << 63},
      {Binary(digest.substr(0, 8)), 0x0001020304050607},
      {Binary(digest.substr(0, 16)), 0x08090a0b0c0d0e0f},
      {Binary(digest.substr(0, 32)), 0x18191a1b1c1d1e1f},
      {Binary(digest), 0x38393a3b3c3d3e3f},
      {"0xFEDCba9876543210", 0xfedcba9876543210},
      {"12345", 12345},
      {"-2", ~uint64_t{1}},
      {ToHex(digest.substr(0, 32)), 0x18191a1b1c1d1e1f},
  };
  for (const auto& test : cases) {
    const EventBatch batch =
        DecodeEvent({"BlockStored", nlohmann::json::array({test.sent}), test.sent});
    const BlockStored stored = StoredOf(batch);
    EXPECT_EQ(stored.hashes, std::vector<EngineHash>{EngineHash{test.name}}) << test.sent;
    EXPECT_EQ(stored.parent, EngineHash{test.name}) << test.sent;
  }
}

// Digests that vLLM computes under seed "0" (tokens 5, 300, 70000, 2 and 1, 2, 3, 4; LoRA "ad",
// salt "salt"; without these for the xxhash pair) and the integers that its events have for them.
TEST(VllmEvent, NamesADigestAsTheIntegerThatStandsForIt) {
  const struct {
    const char* digest;
    uint64_t name;
  } cases[] = {
      {"e527dc7a97ca005b3ad795bbef77409e8f568af72293ad002e6c1cafac74632a", 3345080164067599146u},
      {"931ec14dc7078a633d868f83b9a792f5d2d2818dacc941d1c834dcf574c60fb0", 14426398453158776752u},
      {"02a0278360a9f4b90f96ca748b1df0e7472fc4f00be0a4f63156698c08ff5a24", 3555145006022875684u},
      {"1dc0b8536b3ad623d1eb7a89abbd873d0909cb84775ca62ffa381a3b2d082c3f", 18030189949638683711u},
      {"9a767e11ee62963827c3fd947174ee40", 2865412601938243136u},
      {"63dca59131f897222e1a228b424c2ac2", 3322005656647248578u},
  };
  for (const auto& test : cases) {
    const auto sent = nlohmann::json::array({Binary(Hex(test.digest)), test.digest, test.name});
    EXPECT_EQ(Only<BlockRemoved>(DecodeEvent({"BlockRemoved", sent})).hashes,
              std::vector<EngineHash>(3, EngineHash{test.name}))
        << test.digest;
  }
}

TEST(VllmEvent, TakesNoTokensForNil) {
  EXPECT_TRUE(StoredOf(DecodeEvent(R"(["BlockStored", [1], null, null, 16])")).tokens.empty());
}

TEST(VllmEvent, TakesTheFirstOfEachTokenPair) {
  EXPECT_EQ(StoredOf(DecodeEvent(R"(["BlockStored", [1], null, [[5, 6], [6, 7]], 2])")).tokens,
            (std::vector<TokenId>{5, 6}));
}

TEST(VllmEvent, ReadsLoraNameOrMetadataFromSlotSeven) {
  const char* head = R"(["BlockStored", [1], null, [7, 8], 2, null, "GPU", )";
  const auto decode = [&](const std::string& slot) {
    return DecodeEvent((head + slot + "]").c_str());
  };
  EXPECT_EQ(StoredOf(decode(R"("adapter")")).lora_name, "adapter");
  EXPECT_EQ(StoredOf(decode("null")).lora_name, std::nullopt);
  const BlockStored salted = StoredOf(decode(R"({"cache_salt": "s", "lora_name": "l"})"));
  EXPECT_EQ(salted.cache_salt, "s");
  EXPECT_EQ(salted.lora_name, "l");
  const EventBatch unknown = decode(R"({"cache_salt": "s", "epoch": 1})");
  EXPECT_EQ(StoredOf(unknown).cache_salt, "s");
  EXPECT_EQ(Skipped(unknown, SkipReason::kUnknownField), 1u);
}

TEST(VllmEvent, KeepsExtraKeysBlockByBlock) {
  const BlockStored stored = StoredOf(DecodeEvent(
      R"(["BlockStored", [1, 2, 3], null, [1, 2, 3], 1, null, "GPU", null,
          [["adapter", "salt"], null, [["image", 4]]]])"));
  EXPECT_EQ(
      stored.extra_keys,
      (std::vector<hash::ExtraKeys>{
          {hash::TextKey("adapter"), hash::TextKey("salt")}, {}, {hash::ItemKey("image", 4)}}));
}

TEST(VllmEvent, LetsExtraKeysThatSayNothingBeOfAnyNumber) {
  const EventBatch batch =
      DecodeEvent(R"(["BlockStored", [1], null, [1, 2], 2, null, "GPU", null, [null, null]])");
  EXPECT_TRUE(StoredOf(batch).extra_keys.empty());
}

TEST(VllmEvent, SkipsAnEventThatCannotBeReadAndKeepsItsBatch) {
  struct Case {
    const char* event;
    const char* message;
  };
  const Case cases[] = {
      {"7", "the event is an integer (expected an array or a map)"},
      {"[]", "type: the tag is nil (expected the event's name)"},
      {"{}", "type: the tag is nil (expected the event's name)"},
      {R"([["BlockStored"]])", "type: the tag is an array (expected the event's name)"},
      {R"(["BlockStored"])", "block_hashes: is nil (expected an array of hashes)"},
      {R"(["BlockStored", 5])", "block_hashes: is an integer (expected an array of hashes)"},
      {R"(["BlockStored", [5, "zz"]])",
       "block_hashes[1]: is 'zz' (expected an integer of 64 bits, a digest of 8, 16 or a multiple "
       "of 32 bytes, or its hex text)"},
      {R"(["BlockStored", [1.5]])",
       "block_hashes[0]: is a float (expected an integer of 64 bits, a digest of 8, 16 or a "
       "multiple of 32 bytes, or its hex text)"},
      {R"(["BlockStored", [5], []])",
       "parent_block_hash: is an array (expected nil or an integer of 64 bits, a digest of 8, 16 "
       "or a multiple of 32 bytes, or its hex text)"},
      {R"(["BlockStored", [5], null, ["Hello", " world"], 2])",
       "token_ids[0]: is 'Hello' (expected an integer from 0 to 4294967295, its decimal text, or a "
       "pair of "
       "integers)"},
      {R"(["BlockStored", [5], null, [1, 4294967296], 2])",
       "token_ids[1]: is 4294967296 (expected an integer from 0 to 4294967295, its decimal text, "
       "or a pair of "
       "integers)"},
      {R"(["BlockStored", [5], null, [-1], 2])",
       "token_ids[0]: is -1 (expected an integer from 0 to 4294967295, its decimal text, or a pair "
       "of "
       "integers)"},
      {R"(["BlockStored", [5], null, [[1, 2, 3]], 2])",
       "token_ids[0]: is an array (expected an integer from 0 to 4294967295, its decimal text, or "
       "a pair of "
       "integers)"},
      {R"(["BlockStored", [5], null, [[1, "x"]], 2])",
       "token_ids[0]: is an array (expected an integer from 0 to 4294967295, its decimal text, or "
       "a pair of "
       "integers)"},
      {R"(["BlockStored", [5], null, 4, 2])",
       "token_ids: is an integer (expected nil or an array)"},
      {R"(["BlockStored", [5], null, [1], -2])",
       "block_size: is -2 (expected an integer from 0 to 4294967295)"},
      {R"(["BlockStored", [5], null, [1], 4294967296])",
       "block_size: is 4294967296 (expected an integer from 0 to 4294967295)"},
      {R"(["BlockStored", [5], null, [1], 1, "x"])",
       "lora_id: is 'x' (expected nil or a signed integer of 64 bits)"},
      {R"(["BlockStored", [5], null, [1], 1, 9223372036854775808])",
       "lora_id: is 9223372036854775808 (expected nil or a signed integer of 64 bits)"},
      {R"(["BlockStored", [5], null, [1], 1, null, 3])", "medium: is 3 (expected nil or text)"},
      {R"(["BlockStored", [5], null, [1], 1, null, null, 3])",
       "lora_name: is 3 (expected nil or text)"},
      {R"(["BlockStored", [5], null, [1], 1, null, null, {"cache_salt": 3}])",
       "cache_salt: is 3 (expected nil or text)"},
      {R"(["BlockStored", [5], null, [1], 1, null, null, null, "x"])",
       "extra_keys: is text (expected nil or an array with an entry for each block)"},
      {R"(["BlockStored", [5], null, [1], 1, null, null, null, [["x"], null]])",
       "extra_keys: has 2 entries for 1 blocks (expected an entry for each block)"},
      {R"(["BlockStored", [5], null, [1], 1, null, null, null, [[{}]]])",
       "extra_keys[0]: a key is or holds a map or an extension, item 0 (expected text, bytes, "
       "numbers and arrays of these)"},
      {R"(["BlockStored", [5], null, [1], 1, null, null, null, null, "x"])",
       "group_idx: is 'x' (expected nil or a signed integer of 64 bits)"},
      {R"({"type": "BlockRemoved"})", "block_hashes: is nil (expected an array of hashes)"},
      {R"({"type": "BlockRemoved", "block_hashes": [1], "medium": 7})",
       "medium: is 7 (expected nil or text)"},
  };
  for (const Case& test : cases) {
    const auto event = nlohmann::json::parse(test.event);
    const EventBatch batch = Decode(Msgpack(
        nlohmann::json::array({1.5, {{"BlockRemoved", {1}}, event, {"AllBlocksCleared"}}, 0})));
    EXPECT_EQ(batch.events.size(), 2u) << test.event;
    EXPECT_EQ(Skipped(batch, SkipReason::kMalformedEvent), 1u) << test.event;
    ASSERT_EQ(batch.skips.size(), 1u) << test.event;
    EXPECT_EQ(batch.skips[0].event_index, 1u);
    EXPECT_EQ(batch.skips[0].message, test.message);
    EXPECT_EQ(batch.skips[0].Describe(), std::string("event 1: ") + test.message);
  }
}

TEST(VllmEvent, TellsWhetherStoresOrRemovalsWereLost) {
  struct Case {
    const char* event;
    bool stores;
    bool removals;
  };
  const Case cases[] = {
      {R"(["BlockStored", [7], null, [1], 1])", false, false},
      {R"(["BlockStored", 7])", true, false},
      {R"({"type": "BlockStored", "block_hashes": [7], "token_ids": "x"})", true, false},
      {R"(["BlockRemoved", [7]])", false, false},
      {R"(["BlockRemoved", 7])", false, true},
      {R"({"type": "BlockRemoved"})", false, true},
      {R"(["AllBlocksCleared"])", false, false},
      {R"(["TierBlocksCleared", "CPU"])", false, false},  // known to be none of the three
      // It could have been anything.
      {R"([])", false, true},
      {R"(7)", false, true},
      {R"([["BlockStored"]])", false, true},
      {R"({"type": 5})", false, true},
      {R"({"no": "type"})", false, true},
  };
  for (const Case& test : cases) {
    const EventBatch batch = DecodeEvent(nlohmann::json::parse(test.event));
    EXPECT_EQ(batch.lost_stores, test.stores) << test.event;
    EXPECT_EQ(batch.lost_removals, test.removals) << test.event;
  }
}

TEST(VllmEvent, TellsWhatWasLostBeyondTheSkipsThatAreKept) {
  nlohmann::json events = nlohmann::json::array();
  for (int i = 0; i < 100; ++i) events.push_back({"Unheard"});
  events.push_back({"BlockStored", 7});
  events.push_back({"BlockRemoved", 7});
  const EventBatch batch = Decode(Msgpack(nlohmann::json::array({1.5, events})));
  EXPECT_TRUE(batch.lost_stores);
  EXPECT_TRUE(batch.lost_removals);
}

TEST(VllmEvent, RefusesDigestsOfOtherLengths) {
  for (const size_t size : {0u, 1u, 4u, 7u, 9u, 20u, 24u, 33u, 48u}) {
    const EventBatch batch =
        DecodeEvent({"BlockStored", nlohmann::json::array({Binary(std::string(size, 'x'))})});
    EXPECT_EQ(Skipped(batch, SkipReason::kMalformedEvent), 1u) << size;
  }
}

TEST(VllmEvent, SkipsEventTypesThatAreNotKnownAndKeepsTheirBatch) {
  const EventBatch batch = Decode(
      R"([1.5, [["TierBlocksCleared", "CPU"], ["AllBlocksCleared"], {"type": "Block\nInactive"}], 0])");
  EXPECT_EQ(batch.events.size(), 1u);
  EXPECT_EQ(Skipped(batch, SkipReason::kUnknownEventType), 2u);
  EXPECT_EQ(batch.skips[0].message, "type: 'TierBlocksCleared' is not known");
  EXPECT_EQ(batch.skips[1].event_index, 2u);
  EXPECT_EQ(batch.skips[1].message, "type: 'Block\\x0aInactive' is not known");
}

TEST(VllmEvent, CountsEverySkipAndKeepsTheFirstTexts) {
  nlohmann::json events = nlohmann::json::array();
  for (int i = 0; i < 100; ++i) events.push_back({"Unheard"});
  const EventBatch batch = Decode(Msgpack(nlohmann::json::array({1.5, events})));
  EXPECT_EQ(Skipped(batch, SkipReason::kUnknownEventType), 100u);
  EXPECT_EQ(batch.skips.size(), EventBatch::kMaxSkips);
}

TEST(VllmEvent, MixesPositionalAndMapEvents) {
  const EventBatch batch =
      Decode(R"([1.5, [["BlockRemoved", [1]], {"type": "BlockRemoved", "block_hashes": [1]}], 0])");
  ASSERT_EQ(batch.events.size(), 2u);
  EXPECT_EQ(batch.events[0], batch.events[1]);
}

TEST(SkipReason, NamesAreMetricLabels) {
  EXPECT_EQ(SkipReasonName(SkipReason::kUnknownEventType), "unknown_event_type");
  EXPECT_EQ(SkipReasonName(SkipReason::kMalformedEvent), "malformed_event");
  EXPECT_EQ(SkipReasonName(SkipReason::kUnknownField), "unknown_field");
  EXPECT_EQ(SkipReasonName(SkipReason::kNotLocal), "not_local");
}

}  // namespace
}  // namespace conductor::wire
