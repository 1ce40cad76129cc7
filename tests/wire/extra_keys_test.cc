#include "lib/wire/extra_keys.h"

#include <gtest/gtest.h>

#include "payloads.h"

namespace conductor::wire {
namespace {

Result<hash::ExtraKeys> Read(const std::string& payload) {
  MsgpackTape tape;
  const auto value = tape.Parse(payload);
  EXPECT_TRUE(value);
  return ReadExtraKeys(*value);
}

TEST(ExtraKeys, AreTheEncodingsThatQueriesMake) {
  EXPECT_EQ(*Read(Msgpack("null")), hash::ExtraKeys{});
  EXPECT_EQ(*Read(Msgpack("[]")), hash::ExtraKeys{});
  EXPECT_EQ(*Read(Msgpack(R"(["adapter", ["image", 5], "salt"])")),
            (hash::ExtraKeys{hash::TextKey("adapter"), hash::ItemKey("image", 5),
                             hash::TextKey("salt")}));
  const std::string digest(32, '\x11');
  EXPECT_EQ(*Read(Msgpack(nlohmann::json::array({Binary(digest)}))),
            hash::ExtraKeys{hash::BytesKey(digest)});
}

TEST(ExtraKeys, ASingleTextOrBytesIsOneKey) {
  EXPECT_EQ(*Read(Msgpack(R"("salt")")), hash::ExtraKeys{hash::TextKey("salt")});
  EXPECT_EQ(*Read(Msgpack(Binary("digest"))), hash::ExtraKeys{hash::BytesKey("digest")});
}

// Every sender's choice of widths gives the same bytes, at every depth.
TEST(ExtraKeys, AreTheSameHoweverWideTheirHeadsWere) {
  struct Case {
    const char* sent;
    const char* key;
  };
  const Case cases[] = {
      {"91 d901 61", "a161"},
      {"91 da0001 61", "a161"},
      {"dd00000001 db00000001 61", "a161"},
      {"91 cf0000000000000007", "07"},
      {"91 d3ffffffffffffffff", "ff"},
      {"91 d30000000000000080", "cc80"},
      {"91 c600000001 61", "c40161"},
      {"91 ca3fc00000", "cb3ff8000000000000"},
      {"91 dc0002 d90161 ce00000005", "92a16105"},
      {"91 92 dc0001 dd00000000 c0", "929190c0"},
      {"91 c3", "c3"},
  };
  for (const Case& test : cases) {
    const auto keys = Read(Hex(test.sent));
    ASSERT_TRUE(keys) << test.sent;
    ASSERT_EQ(keys->size(), 1u) << test.sent;
    EXPECT_EQ(ToHex(keys->front()), test.key) << test.sent;
  }
}

TEST(ExtraKeys, RefuseMapsExtensionsAndEntriesOfAnotherKind) {
  for (const char* sent : {"91 80", "91 91 81a16101", "91 d60500000001", "07", "80", "c3"}) {
    EXPECT_FALSE(Read(Hex(sent))) << sent;
  }
}

}  // namespace
}  // namespace conductor::wire
