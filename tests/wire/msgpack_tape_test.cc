#include "lib/wire/msgpack_tape.h"

#include <gtest/gtest.h>

#include <string>

#include "payloads.h"

namespace conductor::wire {
namespace {

using Kind = MsgpackValue::Kind;
using Json = nlohmann::json;

struct IntegerCase {
  const char* hex;
  Kind kind;
  uint64_t bits;
};

TEST(MsgpackTape, ReadsIntegersOfEveryWidth) {
  const IntegerCase cases[] = {
      {"00", Kind::kUint, 0},
      {"7f", Kind::kUint, 127},
      {"cc80", Kind::kUint, 128},
      {"cd0100", Kind::kUint, 256},
      {"ceffffffff", Kind::kUint, 4294967295},
      {"cf0000000000000007", Kind::kUint, 7},
      {"cf0fffffffffffffff", Kind::kUint, (uint64_t{1} << 60) - 1},
      {"cf1000000000000000", Kind::kWideUint, uint64_t{1} << 60},
      {"cf8000000000000000", Kind::kWideUint, uint64_t{1} << 63},
      {"cfffffffffffffffff", Kind::kWideUint, ~uint64_t{0}},
      {"ff", Kind::kNegative, ~uint64_t{0}},
      {"e0", Kind::kNegative, static_cast<uint64_t>(int64_t{-32})},
      {"d080", Kind::kNegative, static_cast<uint64_t>(int64_t{-128})},
      {"d38000000000000000", Kind::kNegative, uint64_t{1} << 63},
      {"d005", Kind::kUint, 5},
      {"d30000000000000005", Kind::kUint, 5},
      {"d34000000000000000", Kind::kWideUint, uint64_t{1} << 62},
  };
  MsgpackTape tape;
  for (const IntegerCase& test : cases) {
    const std::string payload = Hex(test.hex);
    const auto value = tape.Parse(payload);
    ASSERT_TRUE(value) << test.hex;
    EXPECT_EQ(value->kind(), test.kind) << test.hex;
    EXPECT_EQ(value->integer_bits(), test.bits) << test.hex;
    EXPECT_EQ(value->AsUint64().has_value(), test.kind != Kind::kNegative) << test.hex;
  }
}

TEST(MsgpackTape, GivesSignedIntegersOnlyWhereTheyFit) {
  MsgpackTape tape;
  const std::string largest = Hex("cf7fffffffffffffff");
  EXPECT_EQ(tape.Parse(largest)->AsInt64(), std::numeric_limits<int64_t>::max());
  const std::string too_large = Hex("cf8000000000000000");
  EXPECT_EQ(tape.Parse(too_large)->AsInt64(), std::nullopt);
  const std::string smallest = Hex("d38000000000000000");
  EXPECT_EQ(tape.Parse(smallest)->AsInt64(), std::numeric_limits<int64_t>::min());
}

TEST(MsgpackTape, ReadsWhatIsNoInteger) {
  MsgpackTape tape;
  EXPECT_TRUE(tape.Parse(Hex("c0"))->is_nil());
  EXPECT_TRUE(tape.Parse(Hex("c3"))->boolean());
  EXPECT_FALSE(tape.Parse(Hex("c2"))->boolean());
  EXPECT_EQ(tape.Parse(Hex("cb3ff8000000000000"))->real(), 1.5);
  EXPECT_EQ(tape.Parse(Hex("ca3fc00000"))->real(), 1.5);
  const std::string text = Hex("a3475055");
  EXPECT_EQ(tape.Parse(text)->bytes(), "GPU");
  EXPECT_TRUE(tape.Parse(text)->is_text());
  const std::string empty = Hex("a0");
  EXPECT_EQ(tape.Parse(empty)->bytes(), "");
  const std::string bytes = Hex("c403010203");
  EXPECT_EQ(tape.Parse(bytes)->bytes(), std::string("\1\2\3"));
  EXPECT_TRUE(tape.Parse(bytes)->is_bytes());
  const std::string extension = Hex("d60500000001");
  EXPECT_EQ(tape.Parse(extension)->kind(), Kind::kExtension);
  EXPECT_EQ(tape.Parse(extension)->bytes().size(), 5u);
}

TEST(MsgpackTape, WalksPastNestedValuesInOneStep) {
  const std::string payload = Msgpack(
      R"([1, [[], [2, "x", [3.5]], {}], {"a": [4, 5], "b": {"c": null}}, 18446744073709551615, 6])");
  MsgpackTape tape;
  const auto value = tape.Parse(payload);
  ASSERT_TRUE(value);
  ASSERT_EQ(value->size(), 5u);
  std::vector<Kind> kinds;
  for (const MsgpackValue item : value->items()) kinds.push_back(item.kind());
  EXPECT_EQ(kinds, (std::vector<Kind>{Kind::kUint, Kind::kArray, Kind::kMap, Kind::kWideUint,
                                      Kind::kUint}));
}

TEST(MsgpackTape, CopiesArraysOfTokenIdsAndNoOthers) {
  MsgpackTape tape;
  for (const size_t count : {0, 1, 15, 16, 17, 500, 501, 100000}) {
    Json ids = Json::array();
    std::vector<uint32_t> expected;
    for (size_t i = 0; i < count; ++i) {
      expected.push_back(static_cast<uint32_t>(i * 2654435761u >> i % 32));
      ids.push_back(expected.back());
    }
    for (const char* other : {"", "-1", "4294967296", "null", "[]", "\"1\""}) {
      Json items = ids;
      if (*other != '\0')
        items.insert(items.begin() + static_cast<ptrdiff_t>(count / 2), Json::parse(other));
      // Values stand behind it.
      const std::string payload = Msgpack(Json::array({items, 7, "x"}));
      const auto value = tape.Parse(payload);
      ASSERT_TRUE(value) << count << " " << other;
      std::vector<uint32_t> copied = {1, 2, 3};
      auto item = value->items().begin();
      EXPECT_EQ((*item).size(), items.size());
      EXPECT_EQ((*item).CopyIntegers(copied), *other == '\0') << count << " " << other;
      if (*other == '\0') {
        EXPECT_EQ(copied, expected);
      }
      EXPECT_EQ((*++item).AsUint64(), 7u);
      EXPECT_EQ((*++item).bytes(), "x");
    }
  }
}

TEST(MsgpackTape, GivesTheEntriesOfAMapInTheirOrder) {
  const std::string payload = Hex("83 a162 01 a161 9202c0 a162 03");
  MsgpackTape tape;
  const auto value = tape.Parse(payload);
  ASSERT_TRUE(value);
  std::string seen;
  for (const auto& [key, entry] : value->entries()) {
    seen += std::string(key.bytes()) + ":" + std::string(entry.KindName()) + " ";
  }
  EXPECT_EQ(seen, "b:an integer a:an array b:an integer ");
}

TEST(MsgpackTape, RefusesWhatIsNotExactlyOneValue) {
  struct Case {
    const char* hex;
    const char* message;
  };
  const Case cases[] = {
      {"", "byte 0: the payload is empty (expected one MessagePack value)"},
      {"92 01",
       "byte 2: the payload ends inside a value, after 2 bytes (expected one whole "
       "MessagePack value)"},
      {"a3 41",
       "byte 0: the payload ends inside a value, after 2 bytes (expected one whole "
       "MessagePack value)"},
      {"01 02 03", "byte 1: 2 bytes follow the value (expected one MessagePack value)"},
      {"92 01 c1", "byte 2: no MessagePack value begins with this byte (expected MessagePack)"},
  };
  MsgpackTape tape;
  for (const Case& test : cases) {
    const auto value = tape.Parse(Hex(test.hex));
    ASSERT_FALSE(value) << test.hex;
    EXPECT_EQ(value.error().Message(), test.message);
  }
}

TEST(MsgpackTape, NestsAsDeepAsItSaysAndNoDeeper) {
  MsgpackTape tape;
  const std::string deepest = std::string(MsgpackTape::kMaxDepth, '\x91') + '\x01';
  EXPECT_TRUE(tape.Parse(deepest));
  const std::string too_deep = std::string(MsgpackTape::kMaxDepth + 1, '\x91') + '\x01';
  const auto value = tape.Parse(too_deep);
  ASSERT_FALSE(value);
  EXPECT_EQ(value.error().Message(),
            "byte 32: arrays and maps are nested too deep (expected at most 32 levels)");
}

TEST(MsgpackTape, HoldsAsManyWordsAsItSaysAndNoMore) {
  // The array's own two words, then one for each nil.
  const auto nils = [](uint32_t count) {
    return Hex("dd" + ToHex(std::string_view(StoreBigEndian64(count).data(), 8)).substr(8)) +
           std::string(count, '\xc0');
  };
  MsgpackTape tape;
  constexpr uint32_t kMost = MsgpackTape::kMaxWords - 2;
  EXPECT_TRUE(tape.Parse(nils(kMost)));
  const auto value = tape.Parse(nils(kMost + 1));
  ASSERT_FALSE(value);
  EXPECT_EQ(value.error().what, "the payload holds too many values");
}

TEST(MsgpackTape, IsUsableAgainAfterAnError) {
  MsgpackTape tape;
  EXPECT_FALSE(tape.Parse(Hex("93 01")));
  const std::string payload = Hex("92 05 06");
  EXPECT_EQ(tape.Parse(payload)->size(), 2u);
}

}  // namespace
}  // namespace conductor::wire
