#include "daemon/proxy/prompt_logprobs.h"

#include <gtest/gtest.h>

#include <string>

namespace conductor::proxy {
namespace {

// What the client gets of `decode`, in pieces of `size` bytes.
std::string Merged(std::string_view prefill, std::string_view decode, std::string_view type,
                   size_t size = 7) {
  WithPromptLogprobs change;
  ResponseHead head;
  head.status = 200;
  head.fields.Add("Content-Type", type);
  change.Begin(head);
  change.Prefilled(prefill);
  std::string out;
  for (size_t at = 0; at < decode.size(); at += size) out += change.Take(decode.substr(at, size));
  return out += change.Take({});
}

std::string Object(std::string_view logprobs, std::string_view more = "") {
  return R"({"text": "x", "meta_info": {"id": 1.50, "input_token_logprobs": )" +
         std::string(logprobs) + "}" + std::string(more) + "}";
}

constexpr std::string_view kJson = "application/json";
constexpr std::string_view kEvents = "text/event-stream; charset=utf-8";

TEST(PromptLogprobsTest, ThoseOfThePrefillerStandBeforeTheDecoders) {
  EXPECT_EQ(Merged(Object("[[null, 5], [-1e400, 6]]"), Object("[[-0.50, 7]]"), kJson),
            Object("[[null, 5], [-1e400, 6], [-0.50, 7]]"));
  EXPECT_EQ(Merged(Object("[[-1, 5]]"), Object("[ ]"), kJson), Object("[[-1, 5]]"));
  EXPECT_EQ(Merged(Object("[[-1, 5]]"), Object("null"), kJson), Object("[[-1, 5]]"));
}

TEST(PromptLogprobsTest, EveryPromptOfABatchHasItsOwn) {
  EXPECT_EQ(Merged("[" + Object("[1]") + "," + Object("[2]") + "]",
                   "[" + Object("[3]") + "," + Object("[4]") + "]", kJson),
            "[" + Object("[1, 3]") + ", " + Object("[2, 4]") + "]");
}

TEST(PromptLogprobsTest, EveryEventHasThoseOfItsPrompt) {
  const std::string prefill = "data: " + Object("[1]", R"(, "index": 0)") +
                              "\n\ndata: " + Object("[2]", R"(, "index": 1)") +
                              "\n\ndata: [DONE]\n\n";
  EXPECT_EQ(Merged(prefill,
                   "data: " + Object("[]", R"(, "index": 1)") +
                       "\r\n\r\n: ping\n\ndata: " + Object("[9]", R"(, "index": 0)") +
                       "\n\ndata: " + Object("[]", R"(, "index": 7)") + "\n\ndata: [DONE]\n\n",
                   kEvents),
            "data: " + Object("[2]", R"(, "index": 1)") +
                "\r\n\r\n: ping\n\ndata: " + Object("[1, 9]", R"(, "index": 0)") +
                "\n\ndata: " + Object("[]", R"(, "index": 7)") + "\n\ndata: [DONE]\n\n");
}

TEST(PromptLogprobsTest, WhatHasNoneToAddOrToAddToPassesAsItIs) {
  for (const std::string& prefill : {std::string(), std::string("no"), std::string("{}"),
                                     std::string("[]"), Object("[]"), Object("{}")}) {
    EXPECT_EQ(Merged(prefill, Object("[1]"), kJson), Object("[1]")) << prefill;
  }
  for (const char* decode : {"", "no", "{}", "[1", R"({"meta_info": 5})", R"([5, {}])"}) {
    EXPECT_EQ(Merged(Object("[1]"), decode, kJson), decode);
  }
}

TEST(PromptLogprobsTest, AClientAsksForAllOrForSomeOfABatch) {
  const auto asks = [](std::string_view body) {
    return AsksPromptLogprobs(*JsonMembers::Parse(body));
  };
  EXPECT_TRUE(asks(R"({"return_logprob": true})"));
  EXPECT_TRUE(asks(R"({"return_logprob": [false, true]})"));
  EXPECT_FALSE(asks(R"({"return_logprob": false})"));
  EXPECT_FALSE(asks(R"({"text": "true"})"));
}

}  // namespace
}  // namespace conductor::proxy
