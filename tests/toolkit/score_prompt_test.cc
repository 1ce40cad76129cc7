#include "daemon/toolkit/score_prompt.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace conductor::toolkit {
namespace {

using Texts = std::vector<std::string>;

ScorePrompt Read(const std::string& line, const ScorePrompt& defaults = {}, bool chat = false) {
  const auto prompt = ParsePromptLine(line, defaults, chat);
  EXPECT_TRUE(prompt.has_value()) << line << ": " << prompt.error().Message();
  return prompt.value_or(ScorePrompt());
}

std::string ErrorOf(const std::string& line) {
  const auto prompt = ParsePromptLine(line, {}, false);
  return prompt ? "none" : prompt.error().Message();
}

TEST(PromptLine, IsAnArrayOfTokensOrAnObject) {
  const std::vector<TokenId> tokens{1, 2, 4294967295};
  for (const char* line :
       {"[1, 2, 4294967295]", R"({"token_ids": [1, 2, 4294967295]})",
        R"({"tokens": [1, 2, 4294967295]})", R"({"prompt": [1, 2, 4294967295]})"}) {
    EXPECT_EQ(Read(line).tokens, tokens) << line;
    EXPECT_EQ(Read(line).to_tokenize, "");
  }
}

TEST(PromptLine, HasWhatItSaysAndTheDefaultsForTheRest) {
  ScorePrompt defaults;
  defaults.model = "m";
  defaults.tenant = "t";
  defaults.expect.min_tokens = 7;
  defaults.load["a"].waiting = 1;
  const ScorePrompt plain = Read("[1]", defaults);
  EXPECT_EQ(plain.model, "m");
  EXPECT_EQ(plain.tenant, "t");
  EXPECT_EQ(plain.load.at("a").waiting, 1);
  EXPECT_EQ(plain.expect.min_tokens, 7U);
  const ScorePrompt own = Read(R"({"tokens": [1], "id": 3.5, "model": "n", "tenant_id": "u",
    "lora": "l", "salt": "s", "additional_salt": "", "block_size": 16, "instances": ["a", "b"],
    "load": {"b": {"waiting": 2, "kv_use": 0.5}, "c": {}}, "expect": "a", "min_tokens": 0,
    "live": true})",
                               defaults);
  EXPECT_EQ(own.id, "3.5");
  EXPECT_EQ(own.model, "n");
  EXPECT_EQ(own.tenant, "u");
  EXPECT_EQ(own.lora, "l");
  EXPECT_EQ(own.salt, "s");
  EXPECT_EQ(own.additional_salt, "");
  EXPECT_EQ(own.block_size, 16U);
  EXPECT_EQ(own.instances, (Texts{"a", "b"}));
  EXPECT_EQ(own.load.size(), 2U);
  EXPECT_EQ(own.load.at("b").kv_use, 0.5);
  EXPECT_EQ(own.expect.instance, "a");
  EXPECT_EQ(own.expect.min_tokens, 0U);
  EXPECT_TRUE(own.expect.live);
  const client::ScoreSpec spec = own.Spec();
  EXPECT_EQ(spec.query.model, "n");
  EXPECT_EQ(spec.query.token_ids.size(), 1U);
  EXPECT_EQ(spec.query.block_size, 16U);
}

TEST(PromptLine, WhatATokenizerIsSentIsTheLinesOwn) {
  EXPECT_EQ(Read(R"({"prompt": "a \u00e4"})").to_tokenize, R"({"prompt":"a ä"})");
  EXPECT_EQ(Read(R"({"prompt": "a", "add_special_tokens": false})").to_tokenize,
            R"({"prompt":"a","add_special_tokens":false})");
  EXPECT_EQ(Read(R"({"prompt": "a"})", {}, true).to_tokenize,
            R"({"messages":[{"role":"user","content":"a"}]})");
  EXPECT_EQ(
      Read(R"({"messages": [{"role": "system", "content": []}], "tools": [{"x": 1}],
                     "chat_template_kwargs": {"thinking": true}, "chat_template": null})")
          .to_tokenize,
      R"({"messages":[{"role":"system","content":[]}],"chat_template_kwargs":{"thinking":true},)"
      R"("tools":[{"x":1}]})");
}

TEST(PromptLine, WhatIsWrongIsNamed) {
  struct Case {
    const char* line;
    const char* message;
  };
  for (const Case& bad : {
           Case{"", "is no JSON: something is wrong at byte 1 of 0"},
           Case{"[1] 2", "is no JSON: something is wrong at byte 5 of 5"},
           Case{"7", "it is 7 (expected an array of token ids, or an object)"},
           Case{"[1.5]", "the array[0] is 1.5 (expected an integer from 0 to 4294967295)"},
           Case{R"({})", "there is no prompt (expected one of token_ids, prompt and messages)"},
           Case{R"({"tokens": [1], "token_ids": [1]})",
                "token_ids and tokens are both there (expected one of them)"},
           Case{R"({"prompt": 7})", "prompt is 7 (expected text, or an array of token ids)"},
           Case{R"({"messages": []})", "messages is [] (expected an array of messages)"},
           Case{R"({"tokens": [1], "modle": 1})",
                "'modle' is no member of a prompt (expected perhaps model)"},
           Case{R"({"tokens": [1], "model": 1})", "model is 1 (expected text)"},
           Case{R"({"tokens": [1], "id": []})", "id is [] (expected text or a number)"},
           Case{R"({"tokens": [1], "block_size": 0})",
                "block_size is 0 (expected an integer from 1 to 2147483647)"},
           Case{R"({"tokens": [1], "instances": ["a", 1]})",
                "instances is [\"a\",1] (expected an array of texts)"},
           Case{R"({"tokens": [1], "load": {"a": {"kv_use": 2}}})",
                "load.a.kv_use is 2 (expected a number from 0 to 1)"},
           Case{R"({"tokens": [1], "load": {"a": {"wait": 2}}})",
                "load.a has 'wait' (expected waiting and kv_use)"},
           Case{R"({"tokens": [1], "live": 1})", "live is 1 (expected true or false)"},
       }) {
    EXPECT_EQ(ErrorOf(bad.line), bad.message) << bad.line;
  }
  EXPECT_EQ(ErrorOf(std::string(300, '[')), "is nested deeper than 256 levels");
  EXPECT_EQ(ErrorOf(R"({"prompt": ")" + std::string(300, '[') + R"("})"), "none")
      << "brackets in a text are no nesting";
}

client::RankedInstance Ranked(const std::string& name, double score, uint64_t matched,
                              const std::string& state = "live", const std::string& reason = "") {
  client::RankedInstance instance;
  instance.instance_id = name;
  instance.score = score;
  instance.longest_matched = matched;
  instance.state = state;
  instance.reason = reason;
  return instance;
}

TEST(Expectation, SaysWhatWasExpectedAndWhatCame) {
  client::ScoreAnswer answer;
  answer.ranking = {Ranked("a", 12.5, 32), Ranked("b", 12.5, 16, "degraded", "doubtful"),
                    Ranked("c", 1, 48)};
  EXPECT_EQ(Unmet({}, answer), Texts());
  EXPECT_EQ(Unmet({.instance = "a"}, answer), Texts());
  EXPECT_EQ(Unmet({.instance = "b"}, answer), Texts()) << "nobody is better";
  EXPECT_EQ(Unmet({.instance = "c"}, answer),
            Texts{"expected c to be the best, and a is: 12.500 against 1.000"});
  EXPECT_EQ(Unmet({.instance = "d"}, answer),
            Texts{"expected d to be the best, and it is not among those that serve the model; the "
                  "best is a"});
  EXPECT_EQ(Unmet({.min_tokens = 32}, answer), Texts());
  EXPECT_EQ(Unmet({.instance = "b", .min_tokens = 17, .live = true}, answer),
            (Texts{"expected b to match at least 17 tokens, and it matches 16",
                   "expected b to be live, and it is degraded: doubtful"}));
  EXPECT_EQ(Unmet({.live = true}, client::ScoreAnswer()),
            Texts{"expected an instance, and none serves the model"});
}

}  // namespace
}  // namespace conductor::toolkit
