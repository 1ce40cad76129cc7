#include "daemon/serve/json_tokens.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "daemon/serve/document.h"
#include "daemon/serve/http_router.h"

namespace conductor::serve {
namespace {

using Json = nlohmann::ordered_json;

// A body as connections have it, in memory that ends where they end it.
std::string Padded(const std::string& text) {
  std::string body;
  body.reserve(text.size() + HttpRequest::kBodyPadding);
  body.append(text);
  return body;
}

// All that a value holds.
Json Tree(Value value) {
  switch (value.kind()) {
    case Value::Kind::kArray: {
      Json items = Json::array();
      value.ForEachItem([&](Value item) {
        items.push_back(Tree(item));
        return true;
      });
      EXPECT_EQ(items.size(), value.size());
      return items;
    }
    case Value::Kind::kMap: {
      Json members = Json::object();
      value.ForEachEntry([&](std::optional<std::string_view> key, Value member) {
        members[std::string(*key)] = Tree(member);
        return true;
      });
      return members;
    }
    case Value::Kind::kText:
      return std::string(*value.AsText());
    case Value::Kind::kInteger:
      if (const auto number = value.AsInt64()) return *number;
      return *value.AsUint64();
    case Value::Kind::kReal:
      return *value.AsReal();
    case Value::Kind::kBool:
      return *value.AsBool();
    default:
      return nullptr;
  }
}

// What a body says, or "" and an error. Without padding nothing is taken out of it.
struct Read {
  std::string error;
  Json tree;
};
Read ReadOf(const std::string& body) {
  const auto document = Document::Parse(body, BodyForm::kJson);
  if (!document) return {document.error().Message(), nullptr};
  return {"", Tree(document->root())};
}

// The text says the same whether its arrays are taken out or not.
void ExpectSame(const std::string& text) {
  const std::string padded = Padded(text);
  std::string exact(text);
  exact.shrink_to_fit();
  const Read with = ReadOf(padded);
  const Read without = ReadOf(exact);
  EXPECT_EQ(with.error, without.error) << text;
  EXPECT_EQ(with.tree, without.tree) << text;
}

bool IsLifted(const std::string& text) {
  JsonTokens tokens;
  return tokens.Lift(Padded(text), 64);
}

// `count` items of each of these in turn.
std::string ArrayOf(const std::vector<std::string>& items, size_t count,
                    const std::string& comma = ",") {
  std::string text = "[";
  for (size_t i = 0; i < count; ++i) text += (i > 0 ? comma : "") + items[i % items.size()];
  return text + "]";
}

TEST(JsonTokens, ALongArrayIsTakenOut) {
  const std::string array = ArrayOf({"0", "7", "42", "128000", "4294967295"}, 999);
  JsonTokens tokens;
  ASSERT_TRUE(tokens.Lift(Padded(R"({"token_ids":)" + array + R"(,"model":"m"})"), 64));
  EXPECT_EQ(tokens.rest(), R"({"token_ids":["\u00010"],"model":"m"})");
  EXPECT_GE(tokens.rest().capacity(), tokens.rest().size() + 64);
  const auto ids = tokens.At(
      "\x01"
      "0");
  ASSERT_EQ(ids.size(), 999U);
  EXPECT_EQ(ids[0], 0U);
  EXPECT_EQ(ids[4], 4294967295U);
  EXPECT_EQ(ids[998], 128000U);
  EXPECT_TRUE(tokens
                  .At("\x01"
                      "1")
                  .empty());
}

TEST(JsonTokens, EveryWayToWriteAnArrayIsReadAsTheLibraryReadsIt) {
  for (const std::string comma : {",", ", ", " ,", "\n,\t", ",  ", " , \r\n "}) {
    for (const size_t count : {64, 65, 257, 1000, 8192}) {
      const std::string array =
          ArrayOf({"1", "23", "456", "7890", "12345", "678901"}, count, comma);
      EXPECT_EQ(IsLifted(array), array.size() >= JsonTokens::kLongArray + 2);
      ExpectSame(array);
      ExpectSame(R"({"a":")" + std::string(300, 'x') + R"(","token_ids":)" + array + "}");
    }
  }
  ExpectSame("[ " + ArrayOf({"1000000", "99999999", "4294967295"}, 300) + " ]");
  ExpectSame("[\n" + std::string(300, ' ') + "1" + std::string(300, ' ') + ",2]");
}

// What is lifted out of a text by a processor that takes so many numbers at once.
std::vector<TokenId> LiftedBy(size_t most_at_once, const std::string& text) {
  JsonTokens tokens(most_at_once);
  if (!tokens.Lift(Padded(text), 64)) return {};
  const auto ids = tokens.At(
      "\x01"
      "0");
  return {ids.begin(), ids.end()};
}

TEST(JsonTokens, EveryProcessorReadsAnArrayAlike) {
  std::mt19937_64 random(11);  // NOLINT: the same every time
  size_t lifted = 0;
  for (int round = 0; round < 500; ++round) {
    // Of all lengths in one array, mostly short ones in another, a wrong one in a third.
    std::vector<std::string> items;
    const uint64_t shift = 32 + round % 24;
    for (int i = 0; i < 300; ++i)
      items.push_back(std::to_string(random() >> (shift + random() % 8)));
    for (const std::string other : {"", "0", "00", "07", "12345678", "123456789", "4294967295",
                                    "4294967296", "1 ", " 1", "-1", "1,", "x"}) {
      if (random() % 8 != 0) continue;
      items[random() % items.size()] = other;
    }
    const std::string array = ArrayOf(items, items.size(), random() % 2 == 0 ? "," : ", ");
    const std::vector<TokenId> one_by_one = LiftedBy(1, array);
    EXPECT_EQ(LiftedBy(2, array), one_by_one) << array;
    EXPECT_EQ(LiftedBy(8, array), one_by_one) << array;
    lifted += one_by_one.empty() ? 0 : 1;
  }
  EXPECT_GT(lifted, 100U);
  EXPECT_LT(lifted, 400U);
}

TEST(JsonTokens, SeveralArraysKeepTheirPlaces) {
  std::string prompts = "[";
  for (int i = 0; i < 12; ++i) {
    prompts += (i > 0 ? "," : "") + std::string(R"({"token_ids":)") +
               ArrayOf({std::to_string(i), "77777"}, 100 + static_cast<size_t>(i)) + "}";
  }
  prompts += "]";
  EXPECT_TRUE(IsLifted(prompts));
  ExpectSame(prompts);
  ExpectSame("[" + prompts + "," + ArrayOf({"9"}, 500) + "]");
}

TEST(JsonTokens, WhatIsNoArrayOfTokenIdsIsLeftToTheLibrary) {
  const std::vector<std::string> wrong = {
      "-1", "4294967296", "99999999999", "1.5", "1e3",  "01", "007", "+1",   "0x10",
      "",   "1 2",        "\"1\"",       "[1]", "null", "{}", "1.",  "1\v1", "\xc3\xa9"};
  for (const std::string& item : wrong) {
    for (const size_t at : {0, 1, 499, 998, 999}) {
      std::vector<std::string> items(1000, "1234");
      items[at] = item;
      const std::string array = ArrayOf(items, items.size());
      EXPECT_FALSE(IsLifted(array)) << item << " at " << at;
      ExpectSame(array);
      ExpectSame(R"({"a":)" + array + R"(,"b":[1,2]})");
    }
  }
  const std::string array = ArrayOf({"1234"}, 1000);
  ExpectSame(array.substr(0, array.size() - 1));         // not closed
  ExpectSame(array.substr(0, array.size() - 1) + ",]");  // a comma more
  ExpectSame("[," + array.substr(1));
  ExpectSame(array + array);            // two values
  ExpectSame("{" + array + ":1}");      // as a key
  ExpectSame(R"({"a")" + array + "}");  // no colon
  ExpectSame(R"({"a":)" + array);       // cut off
}

TEST(JsonTokens, ArraysInTextsAreTexts) {
  const std::string array = ArrayOf({"1234"}, 1000);
  EXPECT_FALSE(IsLifted("\"" + array + "\""));
  ExpectSame("\"" + array + "\"");
  ExpectSame(R"({"a\"":"\\\")" + array + R"(","b":)" + array + "}");
  ExpectSame(R"(["\\",)" + array + "]");
  ExpectSame(R"(["\)" + array);  // a text that does not end
}

TEST(JsonTokens, NoClientCanNameAnArrayThatWasTakenOut) {
  const std::string array = ArrayOf({"1234"}, 1000);
  const auto with = [&array](const std::string& forged) {
    return "{\"token_ids\":" + array + ",\"other\":" + forged + "}";
  };
  for (const std::string forged :
       {R"(["\u00010"])", R"("\u00010")", R"(["\u00011"])", R"(["\\u00010"])"}) {
    EXPECT_FALSE(IsLifted(with(forged))) << forged;
    ExpectSame(with(forged));
  }
  // As it is, JSON does not have it.
  ExpectSame(with("[\"\x01\x30\"]"));
}

TEST(JsonTokens, NestedBracketsAreNotReadOverAndOver) {
  // Each of these begins like an array of numbers that reaches to the end.
  std::string text;
  for (int i = 0; i < 200000; ++i) text += "[1";
  EXPECT_FALSE(IsLifted(text));
  EXPECT_FALSE(IsLifted(text + "]"));
  ExpectSame(text + "]");
}

TEST(JsonTokens, RandomTextsAreReadAsTheLibraryReadsThem) {
  std::mt19937_64 random(7);  // NOLINT: the same every time
  const std::vector<std::string> pieces = {
      "1", "22", "333", "128000", "4294967295", "4294967296", ",",  ",", ",",   ", ", " ",    "[",
      "]", "\"", "\\",  "a",      "-1",         "0",          "00", "{", "\":", "}",  "null", "\n"};
  size_t lifted = 0;
  for (int round = 0; round < 3000; ++round) {
    // Mostly numbers and commas, so that a good part is taken out.
    const size_t count = 60 + random() % 200;
    std::string inner;
    const bool broken = random() % 2 == 0;
    for (size_t i = 0; i < count; ++i) {
      if (i > 0) inner += random() % 8 == 0 ? " ,\n" : ",";
      inner += std::to_string(random() >> (32 + random() % 32));
      if (broken && random() % 100 == 0) inner += pieces[random() % pieces.size()];
    }
    std::string text = R"({"a":[)" + inner + R"(],"b":[)" + inner + "]}";
    if (random() % 4 == 0) text.insert(random() % text.size(), pieces[random() % pieces.size()]);
    lifted += IsLifted(text) ? 1 : 0;
    ExpectSame(text);
  }
  EXPECT_GT(lifted, 500U);
  EXPECT_LT(lifted, 2900U);
}

}  // namespace
}  // namespace conductor::serve
