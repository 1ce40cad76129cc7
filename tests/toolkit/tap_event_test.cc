#include "daemon/toolkit/tap_event.h"

#include <gtest/gtest.h>

#include "daemon/toolkit/tap_message.h"

namespace conductor::toolkit {
namespace {

constexpr int64_t kTime = 1'700'000'000'250'000'000;

TapEvent Stored() {
  wire::BlockStored stored;
  stored.hashes = {EngineHash{0xfedcba9876543210}, EngineHash{2}};
  stored.parent = EngineHash{1};
  for (TokenId token = 0; token < 32; ++token) stored.tokens.push_back(token);
  stored.block_size = 16;
  stored.lora_name = "sql";
  stored.medium = "CPU_PINNED";
  TapEvent event = Describe(stored);
  event.time_ns = kTime;
  event.publisher = "tcp://a:5557";
  event.sequence = 3;
  event.rank = 1;
  return event;
}

TEST(TapEvent, AStoredEventAsJson) {
  EXPECT_EQ(JsonLine(Stored()),
            R"({"time":"2023-11-14T22:13:20.250000Z","type":"stored","publisher":"tcp://a:5557",)"
            R"("sequence":3,"replayed":false,"rank":1,"tier":"cpu","medium":"CPU_PINNED",)"
            R"("blocks":2,"cache_group":null,"hashes":["18364758544493064720","2"],"parent":"1",)"
            R"("block_size":16,"tokens":32,"first_tokens":[0,1,2,3,4,5,6,7],"lora_name":"sql"})");
}

TEST(TapEvent, ObjectsAndClearsAsJson) {
  TapEvent object = Describe(wire::ObjectRemoved{.key = "m@1d", .medium = "DISK"});
  EXPECT_EQ(
      JsonLine(object),
      R"({"time":"1970-01-01T00:00:00.000000Z","type":"removed","publisher":"",)"
      R"("sequence":null,"replayed":false,"rank":null,"tier":null,"medium":"DISK","blocks":1,)"
      R"("object":"m@1d"})");
  EXPECT_EQ(JsonLine(Describe(wire::AllBlocksCleared{})),
            R"({"time":"1970-01-01T00:00:00.000000Z","type":"cleared","publisher":"",)"
            R"("sequence":null,"replayed":false,"rank":null,"tier":"gpu","medium":null})");
}

TEST(TapEvent, AnyTimeIsOne) {
  EXPECT_EQ(IsoTime(-1), "1969-12-31T23:59:59.999999Z");
  EXPECT_EQ(IsoTime(-1'000'000'000), "1969-12-31T23:59:59.000000Z");
  EXPECT_EQ(IsoTime(INT64_MIN), "1677-09-21T00:12:43.145224Z");
  EXPECT_EQ(IsoTime(INT64_MAX), "2262-04-11T23:47:16.854775Z");
  EXPECT_EQ(TapColumns(Terminal(), 0).Line({.type = TapType::kEnd, .time_ns = -1}).substr(8, 4),
            ".999");
}

TEST(TapEvent, TimesAreApartHoweverFar) {
  EXPECT_EQ(SecondsBetween(kTime, kTime + 1'500'000'000), 1.5);
  EXPECT_EQ(SecondsBetween(kTime + 1'500'000'000, kTime), -1.5);
  EXPECT_NEAR(SecondsBetween(INT64_MIN, INT64_MAX), 18446744073.7, 0.1);
  EXPECT_NEAR(SecondsBetween(INT64_MAX, INT64_MIN), -18446744073.7, 0.1);
}

TEST(TapEvent, ADaemonsEventThatIsNestedWithoutEndIsNone) {
  const std::string deep =
      R"({"type":"stored","x":)" + std::string(1'000'000, '[') + std::string(1'000'000, ']') + "}";
  const auto event = FromDaemon(deep, 0);
  ASSERT_FALSE(event);
  EXPECT_EQ(event.error().Message(), "an event of the daemon is no JSON object");
}

TEST(TapEvent, WhatIsNoTextIsStillJson) {
  const TapEvent event{.type = TapType::kGap, .publisher = "\xff", .count = 2, .detail = "a\n"};
  EXPECT_EQ(
      JsonLine(event),
      "{\"time\":\"1970-01-01T00:00:00.000000Z\",\"type\":\"gap\",\"publisher\":\"\xef\xbf\xbd\","
      "\"sequence\":null,\"replayed\":false,\"count\":2,\"detail\":\"a\\n\"}");
}

TEST(TapEvent, ColumnsAreAlignedAndCutAtTheTerminalsEdge) {
  ::setenv("TZ", "UTC", 1);
  ::tzset();
  const TapColumns columns({}, 6);
  EXPECT_EQ(
      columns.Line(Stored()),
      "22:13:20.250  a:5557            3     1  stored        cpu        2  fedcba9876543210  "
      "0000000000000001  0 1 2 3 4 5 6 7 …             sql");
  EXPECT_EQ(columns.Line({.type = TapType::kGap,
                          .time_ns = kTime,
                          .publisher = "tcp://a:5557",
                          .sequence = 9,
                          .detail = "2 messages missing"}),
            "22:13:20.250  a:5557            9     -  gap           2 messages missing");
  EXPECT_EQ(columns.Title().find("TYPE"), columns.Line(Stored()).find("stored"));
  const TapColumns narrow({.interactive = true, .width = 40}, 6);
  EXPECT_EQ(WidthOf(narrow.Line(Stored())), 40u);
}

TEST(TapEvent, InANarrowTerminalColumnsAreNarrowerBeforeAnyIsCutOff) {
  ::setenv("TZ", "UTC", 1);
  ::tzset();
  const Terminal eighty{.interactive = true, .width = 80};
  const TapColumns alone(eighty, 14, true);
  EXPECT_EQ(alone.Title(),
            "TIME            SEQ RANK TYPE     TIER BLOCKS FIRST    PARENT   TOKENS      LORA");
  EXPECT_EQ(alone.Line(Stored()),
            "22:13:20.250      3    1 stored   cpu       2 fedcba9… 0000000… 0 1 2 3 4 … sql");
  EXPECT_EQ(alone.Line({.type = TapType::kDisconnected, .time_ns = kTime}),
            "22:13:20.250      -    - disconnected");
  TapEvent of_one = Stored();
  of_one.publisher = "tcp://10.20.30.40:5557";
  const TapColumns several(eighty, 16);
  EXPECT_EQ(several.Line(of_one),
            "22:13:20.250 …40:5557      3    1 stored   cpu       2 fedcb… 00000… 0 1 2… sql");
  const TapColumns wide({.interactive = true, .width = 200}, 16, true);
  EXPECT_NE(wide.Line(of_one).find("  10.20.30.40:5557  "), std::string::npos);
  EXPECT_NE(wide.Line(of_one).find("  fedcba9876543210  "), std::string::npos);
}

TEST(TapEvent, GapsAreRedAndWhatComesFromTheWireMovesNoCursor) {
  const TapColumns columns({.interactive = true, .colour = true, .width = 0}, 6);
  const std::string line = columns.Line({.type = TapType::kGap, .detail = "\x1b[2J"});
  EXPECT_TRUE(line.starts_with("\x1b[31m")) << line;
  EXPECT_NE(line.find("\\x1b[2J"), std::string::npos);
}

TEST(TapEvent, ADaemonsEventsBecomeTheSameLines) {
  const auto stored = FromDaemon(
      R"({"type":"stored","publisher":"vllm-1|default|0","instance_id":"vllm-1","dp_rank":0,)"
      R"("tenant_id":"default","model":"demo","sequence":7,"tier":"gpu","medium":"GPU",)"
      R"("lora_name":"","cache_group":null,"block_size":16,"tokens":32,)"
      R"("parent":"11229014551871434121","blocks":2,)"
      R"("hashes":["5180240713265319312","7284921175243086405"]})",
      kTime);
  ASSERT_TRUE(stored);
  EXPECT_EQ(stored->type, TapType::kStored);
  EXPECT_EQ(stored->publisher, "vllm-1|default|0");
  EXPECT_EQ(stored->sequence, 7u);
  EXPECT_EQ(stored->rank, 0);
  EXPECT_EQ(stored->tier, Tier::kGpu);
  EXPECT_EQ(stored->parent, EngineHash{11229014551871434121u});
  EXPECT_EQ(stored->hashes.size(), 2u);
  EXPECT_EQ(stored->tokens, 32u);
  const auto trust = FromDaemon(
      R"({"type":"trust","publisher":"p","sequence":null,"state":"stale","reason":"r","detail":""})",
      kTime);
  ASSERT_TRUE(trust);
  EXPECT_EQ(trust->detail, "stale: r");
  const auto lost = FromDaemon(R"({"type":"lost","events":12})", kTime);
  ASSERT_TRUE(lost);
  EXPECT_EQ(lost->count, 12u);
  for (const char* wrong : {"", "[]", "{", "{}", R"({"type":"news"})"}) {
    EXPECT_FALSE(FromDaemon(wrong, kTime)) << wrong;
  }
  EXPECT_TRUE(FromDaemon(R"({"type":"stored","hashes":[1,"x",null],"sequence":"1"})", kTime));
}

TEST(TapMessage, BothFormsOfAReplayAreRead) {
  const std::string seven("\0\0\0\0\0\0\0\7", 8);
  const std::string end(8, '\xff');
  using Frames = std::vector<std::string_view>;
  EXPECT_EQ(ReadMessage(Frames{"t", seven, "p"}, false)->sequence, 7u);
  EXPECT_EQ(ReadMessage(Frames{"", seven, "p"}, true)->payload, "p");
  EXPECT_EQ(ReadMessage(Frames{"", "t", seven, "p"}, true)->topic, "t");
  EXPECT_TRUE(ReadMessage(Frames{"", "", end, ""}, true)->replay_end);
  EXPECT_TRUE(ReadMessage(Frames{"", end, ""}, true)->replay_end);
  EXPECT_FALSE(ReadMessage(Frames{"", end, ""}, false)->replay_end);
  EXPECT_EQ(ReadMessage(Frames{"t"}, false).error().Message(),
            "a message of 1 frame (expected topic, sequence, payload)");
  EXPECT_EQ(ReadMessage(Frames{"t", "123", "p"}, false).error().Message(),
            "a sequence of 3 bytes (expected 8, big-endian)");
  EXPECT_FALSE(ReadMessage(Frames{}, false));
  EXPECT_FALSE(ReadMessage(Frames{"", "", "", seven, "p"}, true));
}

TEST(TapMessage, HexHasWhatItMeansBesideIt) {
  const std::vector<std::string_view> frames = {"ab", "0123456789abcdefg"};
  EXPECT_EQ(HexDump(frames, {"first", "second", "third"}, {}),
            "  frame 1: 2 bytes\n"
            "  61 62\n"
            "  frame 2: 17 bytes\n"
            "  30 31 32 33 34 35 36 37 38 39 61 62 63 64 65 66  first\n"
            "  67                                               second\n"
            "                                                   third\n");
}

TEST(TapMessage, WhatHasNoRoomBesideTheHexStandsUnderItWhole) {
  const std::vector<std::string_view> frames = {"ab"};
  EXPECT_EQ(HexDump(frames, {"malformed: a message of 1 frame (expected topic, sequence, payload)"},
                    {.width = 60}),
            "  frame 1: 2 bytes\n"
            "  61 62\n"
            "  malformed: a message of 1 frame (expected topic, sequence,\n"
            "  payload)\n");
}

}  // namespace
}  // namespace conductor::toolkit
