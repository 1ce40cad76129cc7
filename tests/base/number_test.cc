#include "lib/base/number.h"

#include <gtest/gtest.h>

namespace conductor {
namespace {

TEST(Number, IsADecimalIntegerInItsRange) {
  EXPECT_EQ(ParseNumber("0", "a port", 0, 65535), 0u);
  EXPECT_EQ(ParseNumber("65535", "a port", 0, 65535), 65535u);
  for (const char* text : {"", "-1", "65536", "1.0", "0x1", " 1", "1 ", "99999999999999999999"}) {
    const auto number = ParseNumber(text, "a port", 0, 65535);
    ASSERT_FALSE(number) << text;
    EXPECT_EQ(number.error().what, std::string("'") + text + "' is not a port");
    EXPECT_EQ(number.error().expected, "an integer from 0 to 65535");
  }
}

TEST(Size, IsInBytesOrLargerUnits) {
  const struct {
    const char* text;
    uint64_t bytes;
  } cases[] = {
      {"1", 1},          {"65536", 65536},    {"512k", 512 << 10}, {"64m", 64 << 20},
      {"64M", 64 << 20}, {"64MiB", 64 << 20}, {"1gib", 1 << 30},   {"2G", uint64_t{2} << 30},
  };
  for (const auto& [text, bytes] : cases) EXPECT_EQ(ParseSize(text), bytes) << text;
  for (const char* text : {"", "0", "k", "64q", "64mb", "64ib", "ib", "iB", "1 m", "-1",
                           "99999999999g", "18446744073709551616"}) {
    EXPECT_FALSE(ParseSize(text)) << text;
  }
}

TEST(Size, IsShownInTheLargestWholeUnitAndReadBack) {
  for (const char* text : {"1", "1023", "1k", "1025", "16m", "1g", "1536m", "3g"}) {
    EXPECT_EQ(FormatSize(*ParseSize(text)), text);
  }
}

TEST(Number, IsGroupedForPeople) {
  EXPECT_EQ(Grouped(0), "0");
  EXPECT_EQ(Grouped(999), "999");
  EXPECT_EQ(Grouped(1000), "1,000");
  EXPECT_EQ(Grouped(12345678), "12,345,678");
}

TEST(Number, OneOfAThingIsNoPlural) {
  EXPECT_EQ(Counted(0, "line"), "0 lines");
  EXPECT_EQ(Counted(1, "line"), "1 line");
  EXPECT_EQ(Counted(2, "line"), "2 lines");
  EXPECT_EQ(Counted(1, "batch"), "1 batch");
  EXPECT_EQ(Counted(2000, "batch"), "2,000 batches");
}

}  // namespace
}  // namespace conductor
