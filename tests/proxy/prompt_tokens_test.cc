#include "daemon/proxy/prompt_tokens.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

namespace conductor::proxy {
namespace {

using Kind = TokenSource::Kind;
using Ids = std::vector<uint32_t>;

TokenSource SourceOf(const std::string& text) {
  const auto members = JsonMembers::Parse(text);
  EXPECT_TRUE(members) << text;
  return TokenSourceOf(*members);
}

TEST(PromptTokensTest, TokenIdsAreReadStrictly) {
  EXPECT_EQ(ReadTokenIds("[ 1 , 2,4294967295 ]"), (Ids{1, 2, 4294967295}));
  EXPECT_EQ(ReadTokenIds("[]"), Ids{});
  for (const char* text : {"", "1", "[", "[1,]", "[,1]", "[1 2]", "[-1]", "[1.5]", "[4294967296]",
                           "[\"1\"]", "[[1]]"}) {
    EXPECT_EQ(ReadTokenIds(text), std::nullopt) << text;
  }
  EXPECT_EQ(ReadTokenized(R"({"count": 2, "tokens": [5, 6]})"), (Ids{5, 6}));
  EXPECT_EQ(ReadTokenized(R"({"count": 2})"), std::nullopt);
}

TEST(PromptTokensTest, APromptOfTokensIsItsTokens) {
  EXPECT_EQ(SourceOf(R"({"prompt": [1, 2]})").tokens, (Ids{1, 2}));
  EXPECT_EQ(SourceOf(R"({"prompt": [[1, 2]]})").tokens, (Ids{1, 2}));
}

TEST(PromptTokensTest, TextIsForTheTokenizer) {
  const TokenSource text = SourceOf(R"({"prompt": "a, \"b\"", "stream": true, "x": 1.0})");
  EXPECT_EQ(text.kind, Kind::kTokenize);
  EXPECT_EQ(text.body, R"({"prompt": "a, \"b\"", "stream": false, "x": 1.0, "max_tokens": 1})");
  EXPECT_EQ(SourceOf(R"({"messages": []})").kind, Kind::kTokenize);
  EXPECT_EQ(SourceOf(R"({"prompt": ["one"]})").body,
            R"({"prompt": "one", "stream": false, "max_tokens": 1})");
}

TEST(PromptTokensTest, ABatchHasNoOneAnswer) {
  for (const char* text :
       {R"({"prompt": ["a", "b"]})", R"({"prompt": [[1], [2]]})", R"({"prompt": []})"}) {
    EXPECT_EQ(SourceOf(text).kind, Kind::kNone) << text;
    EXPECT_EQ(SourceOf(text).why, "batch") << text;
  }
  EXPECT_EQ(SourceOf("{}").why, "no_prompt");
  // As SGLang has them.
  EXPECT_EQ(SourceOf(R"({"input_ids": [5, 6]})").tokens, (Ids{5, 6}));
  const TokenSource native = SourceOf(R"({"text": "a b"})");
  EXPECT_EQ(native.kind, Kind::kTokenize);
  EXPECT_EQ(JsonMembers::Parse(native.body)->Find("prompt"), R"("a b")");
}

TEST(PromptTokensTest, TheCacheForgetsWhatWasUsedLongestAgo) {
  TokenCache cache(3 * 700);  // of 100 tokens each: three
  const auto tokens = std::make_shared<Ids>(100);
  for (const char* body : {"a", "b", "c"}) cache.Put(TokenCache::KeyOf("/p", body), tokens);
  EXPECT_NE(cache.Find(TokenCache::KeyOf("/p", "a")), nullptr);
  cache.Put(TokenCache::KeyOf("/p", "d"), tokens);
  EXPECT_EQ(cache.Find(TokenCache::KeyOf("/p", "b")), nullptr);
  EXPECT_NE(cache.Find(TokenCache::KeyOf("/p", "a")), nullptr);
  EXPECT_EQ(cache.Find(TokenCache::KeyOf("/q", "a")), nullptr);
  cache.Put(TokenCache::KeyOf("/p", "large"), std::make_shared<Ids>(10000));
  EXPECT_EQ(cache.Find(TokenCache::KeyOf("/p", "large")), nullptr);
  EXPECT_NE(cache.Find(TokenCache::KeyOf("/p", "d")), nullptr);
}

}  // namespace
}  // namespace conductor::proxy
