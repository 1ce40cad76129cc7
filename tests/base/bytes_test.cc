#include "lib/base/bytes.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>

namespace conductor {
namespace {

using namespace std::string_literals;

TEST(Bytes, BigEndianHasTheMostSignificantByteFirst) {
  EXPECT_EQ(LoadBigEndian64("\x01\x02\x03\x04\x05\x06\x07\x08"), 0x0102030405060708u);
  EXPECT_EQ(LoadBigEndian64("\xff\xff\xff\xff\xff\xff\xff\xfe"), 0xfffffffffffffffeu);
  EXPECT_EQ(LoadBigEndian64("\0\0\0\0\0\0\0\x2a and more"s), 42u);
}

TEST(Bytes, StoreAndLoadAreInverse) {
  for (const uint64_t value :
       {uint64_t{0}, uint64_t{1}, uint64_t{0x80}, std::numeric_limits<uint64_t>::max()}) {
    const auto bytes = StoreBigEndian64(value);
    EXPECT_EQ(LoadBigEndian64(std::string_view(bytes.data(), bytes.size())), value);
  }
}

TEST(Bytes, HexIsLowerCaseWithTwoDigitsAByte) {
  EXPECT_EQ(ToHex("\x00\x0f\xa0\xff"s), "000fa0ff");
  EXPECT_EQ(ToHex(""), "");
}

TEST(Bytes, FromHexReadsAnyCaseAndSkipsWhiteSpace) {
  EXPECT_EQ(FromHex("00 0F\na0\tfF"), "\x00\x0f\xa0\xff"s);
  EXPECT_EQ(FromHex(""), "");
  EXPECT_EQ(FromHex("a b"), "\xab");
}

TEST(Bytes, FromHexRefusesWhatIsNotHex) {
  for (const char* text : {"0", "abc", "0g", "0x00", "-1"}) {
    EXPECT_EQ(FromHex(text), std::nullopt) << text;
  }
}

}  // namespace
}  // namespace conductor
