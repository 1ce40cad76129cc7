#include "daemon/proxy/recomputed.h"

#include <gtest/gtest.h>

#include <string>

namespace conductor::proxy {
namespace {

std::string Continued(std::string_view body, AskedBy by, const SaidSoFar& said) {
  return ContinuedBody(*JsonMembers::Parse(body), by, said);
}

bool Can(std::string_view body, AskedBy by) { return CanContinue(*JsonMembers::Parse(body), by); }

ResponseHead HeadOf(std::string_view type) {
  ResponseHead head;
  head.status = 200;
  head.fields.Add("Content-Type", type);
  return head;
}

// The answer in pieces of `size` bytes, as far as the client gets it.
std::string Through(AscendAnswer& answer, std::string_view type, std::string_view body,
                    size_t size) {
  ResponseHead head = HeadOf(type);
  answer.Begin(head);
  std::string out;
  for (size_t at = 0; at < body.size() && !answer.is_interrupted(); at += size) {
    out += answer.Take(body.substr(at, size));
  }
  if (!answer.is_interrupted()) out += answer.Take({});
  return out;
}

TEST(RecomputedTest, WhatWasSaidStandsBehindThePrompt) {
  EXPECT_EQ(Continued(R"({"prompt": "a\u00e9", "max_tokens": 9, "x": 1.0})", AskedBy::kPrompt,
                      {" \"b\"\n", 2}),
            R"({"prompt": "aé \"b\"\n", "max_tokens": 7, "x": 1.0})");
  EXPECT_EQ(Continued(R"({"messages": [{"role": "user"}], "max_completion_tokens": 3})",
                      AskedBy::kMessages, {"b", 5}),
            R"({"messages": [{"role": "user"}, {"role": "assistant", "content": "b"}], )"
            R"("max_completion_tokens": 1, "continue_final_message": true, )"
            R"("add_generation_prompt": false})");
  EXPECT_EQ(Continued(R"({"prompt": "a", "max_tokens": null, "min_tokens": 1})", AskedBy::kPrompt,
                      {"b", 5}),
            R"({"prompt": "ab", "max_tokens": null, "min_tokens": 0})");
}

TEST(RecomputedTest, WhatTheEngineDoesNotReadIsNotContinued) {
  EXPECT_EQ(Continued(R"({"prompt": "a", "messages": []})", AskedBy::kPrompt, {"b", 1}),
            R"({"prompt": "ab", "messages": []})");
  EXPECT_EQ(Continued(R"({"prompt": "a", "messages": null})", AskedBy::kPrompt, {"b", 1}),
            R"({"prompt": "ab", "messages": null})");
  EXPECT_EQ(Continued(R"({"prompt": "a", "messages": []})", AskedBy::kMessages, {"b", 1}),
            R"({"prompt": "a", "messages": [{"role": "assistant", "content": "b"}], )"
            R"("continue_final_message": true, "add_generation_prompt": false})");
  EXPECT_EQ(AskedByOf("/v1/completions"), AskedBy::kPrompt);
  EXPECT_EQ(AskedByOf("/v1/chat/completions"), AskedBy::kMessages);
}

TEST(RecomputedTest, OnlyOneTextCanBeContinued) {
  EXPECT_TRUE(Can(R"({"prompt": "a"})", AskedBy::kPrompt));
  EXPECT_TRUE(Can(R"({"prompt": "a", "messages": null})", AskedBy::kPrompt));
  EXPECT_TRUE(Can(R"({"messages": [], "n": 1})", AskedBy::kMessages));
  for (const char* body :
       {R"({"prompt": [1, 2]})", R"({"prompt": ["a"]})", "{}", R"({"prompt": "a", "n": 2})",
        R"({"prompt": "a", "best_of": 2})", R"({"prompt": "a", "echo": true})",
        R"({"prompt": "a", "suffix": "b"})"}) {
    EXPECT_FALSE(Can(body, AskedBy::kPrompt)) << body;
  }
  for (const char* body : {R"({"messages": null, "prompt": "a"})", R"({"messages": "[]"})",
                           R"({"messages": {"a": []}})", R"({"prompt": "a"})"}) {
    EXPECT_FALSE(Can(body, AskedBy::kMessages)) << body;
  }
}

TEST(RecomputedTest, AStreamPassesByteForByteUntilItIsRecomputed) {
  const std::string kept =
      ": hello\r\n\r\n"
      "data:{\"choices\": [{\"text\": \" a\"}], \"x\":  1.50}\n\n"
      "event: y\ndata: {\"choices\": [{\"text\": \" b\"}]}\r\n\r\n";
  const std::string body = kept +
                           R"(data: {"choices": [{"text": " c", "stop_reason": "recomputed"}]})" +
                           "\n\ndata: [DONE]\n\n";
  for (size_t size = 1; size < body.size(); ++size) {
    SaidSoFar said{"before", 4};
    AscendAnswer answer(said, {}, true);
    EXPECT_EQ(Through(answer, "text/event-stream", body, size), kept) << size;
    EXPECT_TRUE(answer.is_interrupted());
    EXPECT_EQ(said.text, "before a b c");
    EXPECT_EQ(said.tokens, 7u);
    SaidSoFar other;
    AscendAnswer whole(other, {}, false);
    EXPECT_EQ(Through(whole, "text/event-stream", body, size), body) << size;
    EXPECT_FALSE(whole.is_interrupted());
  }
}

TEST(RecomputedTest, UsageHasWhatThePrefillerHadCachedAndWhatWasSaidBefore) {
  const std::string body =
      R"({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11, )"
      R"("prompt_tokens_details": {"cached_tokens": 1, "audio_tokens": 3}}, "z": 1})";
  SaidSoFar said{"x", 4};
  AscendAnswer answer(said, "7", true);
  EXPECT_EQ(
      Through(answer, "application/json", body, 10),
      R"({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11, )"
      R"("prompt_tokens_details": {"cached_tokens": 7, "audio_tokens": 3}}, "z": 1})");
  AscendAnswer second(said, "7", true);
  EXPECT_EQ(Through(second, "text/event-stream", "data: {\"usage\": null}\n\n", 5),
            "data: {\"usage\": null}\n\n");
}

TEST(RecomputedTest, AWholeAnswerHasTheTextOfAllItsParts) {
  SaidSoFar said;
  AscendAnswer first(said, {}, true);
  EXPECT_EQ(Through(first, "application/json",
                    R"({"choices": [{"message": {"content": "a"}, "stop_reason": "recomputed"}],
                        "usage": {"completion_tokens": 3}})",
                    1000),
            "");
  EXPECT_TRUE(first.is_interrupted());
  EXPECT_EQ(said.tokens, 3u);
  AscendAnswer second(said, {}, true);
  EXPECT_EQ(Through(second, "application/json",
                    R"({"choices": [{"message": {"content": "b"}, "stop_reason": null}]})", 1000),
            R"({"choices":[{"message":{"content":"ab"},"stop_reason":null}]})");
}

TEST(RecomputedTest, AMessageThatIsNoObjectPassesAsItIs) {
  for (const char* message : {R"("b")", "[]", "null", "1"}) {
    const std::string body = std::string(R"({"choices": [{"message": )") + message + "}]}";
    SaidSoFar said{"a", 1};
    AscendAnswer answer(said, {}, true);
    EXPECT_EQ(Through(answer, "application/json", body, 1000), body);
  }
}

TEST(RecomputedTest, ToolCallsAndReasoningAreNotContinued) {
  for (const char* other : {R"("tool_calls": [{}])", R"("reasoning_content": "x")"}) {
    const std::string body = std::string("data: {\"choices\": [{\"delta\": {") + other +
                             "}}]}\n\ndata: {\"choices\": [{\"stop_reason\": \"recomputed\"}]}\n\n";
    SaidSoFar said;
    AscendAnswer answer(said, {}, true);
    EXPECT_EQ(Through(answer, "text/event-stream", body, 7), body);
    EXPECT_FALSE(answer.is_interrupted());
  }
}

TEST(RecomputedTest, WhatIsNoAnswerPassesAsItIs) {
  for (const char* body : {"", "x", "{", "[]", "{\"choices\": 1}", "{\"choices\": [1]}", "null"}) {
    SaidSoFar said;
    AscendAnswer whole(said, "7", true);
    EXPECT_EQ(Through(whole, "application/json", body, 1), body);
    const std::string event = std::string("data: ") + body + "\n";
    AscendAnswer stream(said, "7", true);
    EXPECT_EQ(Through(stream, "text/event-stream", event, 1), event);
  }
}

TEST(RecomputedTest, CachedTokensAreReadFromAPrefillersAnswer) {
  EXPECT_EQ(CachedTokens(R"({"usage": {"prompt_tokens_details": {"cached_tokens": 12}}})"), "12");
  for (const char* answer : {"", "{}", R"({"usage": null})", R"({"usage": {}})",
                             R"({"usage": {"prompt_tokens_details": null}})",
                             R"({"usage": {"prompt_tokens_details": {"cached_tokens": null}}})"}) {
    EXPECT_EQ(CachedTokens(answer), "") << answer;
  }
}

}  // namespace
}  // namespace conductor::proxy
