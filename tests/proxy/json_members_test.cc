#include "daemon/proxy/json_members.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace conductor::proxy {
namespace {

using Changes = std::vector<JsonMembers::Change>;

std::string Change(const std::string& text, const Changes& changes) {
  const auto members = JsonMembers::Parse(text);
  return members ? members->With(changes) : members.error().Message();
}

TEST(JsonMembersTest, ChangesLeaveAllElseAsItStands) {
  const std::string text = R"( { "a" :1.50 ,"b":{"x":[1e400,"}]"]},
  "c": "\"\\", "d":12345678901234567890123 } )";
  EXPECT_EQ(Change(text, {}), text);
  EXPECT_EQ(Change(text, {{"a", "2"}}), R"( { "a" :2 ,"b":{"x":[1e400,"}]"]},
  "c": "\"\\", "d":12345678901234567890123 } )");
  EXPECT_EQ(Change(text, {{"e", "[]"}}), R"( { "a" :1.50 ,"b":{"x":[1e400,"}]"]},
  "c": "\"\\", "d":12345678901234567890123, "e": [] } )");
}

TEST(JsonMembersTest, RemovedMembersTakeTheirCommaWithThem) {
  const std::string text = R"({"a": 1, "b": 2, "c": 3})";
  EXPECT_EQ(Change(text, {{"a", {}}}), R"({"b": 2, "c": 3})");
  EXPECT_EQ(Change(text, {{"b", {}}}), R"({"a": 1, "c": 3})");
  EXPECT_EQ(Change(text, {{"c", {}}}), R"({"a": 1, "b": 2})");
  EXPECT_EQ(Change(text, {{"a", {}}, {"b", {}}}), R"({"c": 3})");
  EXPECT_EQ(Change(text, {{"a", {}}, {"b", {}}, {"c", {}}}), "{}");
  EXPECT_EQ(Change(text, {{"a", {}}, {"b", {}}, {"c", {}}, {"d", "4"}}), R"({"d": 4})");
  EXPECT_EQ(Change(text, {{"x", {}}}), text);
  EXPECT_EQ(Change("{}", {{"a", "1"}}), R"({"a": 1})");
}

TEST(JsonMembersTest, OfANameThatStandsTwiceTheLastCountsAndAllAreChanged) {
  const std::string text = R"({"a": 1, "b": 0, "a": 2})";
  EXPECT_EQ(JsonMembers::Parse(text)->Find("a"), "2");
  EXPECT_EQ(Change(text, {{"a", "3"}}), R"({"a": 3, "b": 0, "a": 3})");
  EXPECT_EQ(Change(text, {{"a", {}}}), R"({"b": 0})");
}

TEST(JsonMembersTest, NamesAndStringsAreReadThroughTheirEscapes) {
  const auto members = JsonMembers::Parse(R"({"\u0061": "x\ny", "b": true, "c": 5})");
  ASSERT_TRUE(members);
  EXPECT_EQ(members->FindString("a"), "x\ny");
  EXPECT_TRUE(members->IsTrue("b"));
  EXPECT_EQ(members->FindString("c"), std::nullopt);
  EXPECT_EQ(members->Find("d"), std::nullopt);
}

TEST(JsonMembersTest, ElementsOfAnArrayStandAsTheyAre) {
  using Elements = std::vector<std::string_view>;
  EXPECT_EQ(JsonElements(R"( [ 1.50 , {"a": [1, 2]},"],", [] ] )", 4),
            (Elements{"1.50", R"({"a": [1, 2]})", R"("],")", "[]"}));
  EXPECT_EQ(JsonElements("[ ]", 0), Elements{});
  for (const char* text : {"", "1", "{}", "[", "[1", "[1,", "[1,]", "[,1]", "[1] 2", "[[1]"}) {
    EXPECT_FALSE(JsonElements(text, 9)) << text;
  }
  EXPECT_FALSE(JsonElements(std::string(100000, '['), 9));
  EXPECT_FALSE(JsonElements("[1, 2]", 1));
}

TEST(JsonMembersTest, WhatIsNoObjectSaysWhere) {
  for (const char* text :
       {"", "[]", "{", R"({"a")", R"({"a":)", R"({"a":1)", R"({"a":1,})", R"({"a":"x)",
        R"({"a":[1})", R"({"a":1} 2)", R"({a:1})", R"({"\x":1})"}) {
    const auto members = JsonMembers::Parse(text);
    ASSERT_FALSE(members) << text;
    EXPECT_NE(members.error().Message().find("byte"), std::string::npos) << text;
  }
}

TEST(JsonMembersTest, WhatIsTooDeepOrHasTooManyMembersIsRefused) {
  const auto nested = [](size_t depth) {
    return R"({"a":)" + std::string(depth, '[') + std::string(depth, ']') + "}";
  };
  EXPECT_TRUE(JsonMembers::Parse(nested(kMaxJsonDepth)));
  EXPECT_FALSE(JsonMembers::Parse(nested(kMaxJsonDepth + 1)));
  EXPECT_FALSE(JsonMembers::Parse(nested(1'000'000)));
  const auto wide = [](size_t count) {
    std::string text = "{";
    for (size_t i = 0; i < count; ++i) text += i == 0 ? R"("":0)" : R"(,"":0)";
    return text + "}";
  };
  EXPECT_TRUE(JsonMembers::Parse(wide(kMaxJsonMembers)));
  const auto many = JsonMembers::Parse(wide(kMaxJsonMembers + 1));
  ASSERT_FALSE(many);
  EXPECT_NE(many.error().Message().find("at most 1024 members"), std::string::npos);
}

TEST(JsonMembersTest, JsonOfAnyDepthIsLookedThrough) {
  EXPECT_TRUE(IsJson(std::string(1'000'000, '[') + std::string(1'000'000, ']')));
  EXPECT_FALSE(IsJson("[1,,2]"));
  EXPECT_FALSE(IsJson("\"\xff\""));
}

}  // namespace
}  // namespace conductor::proxy
