#include "answer.h"

#include <gtest/gtest.h>

#include <string>

namespace conductor::bench {
namespace {

TEST(Answer, IsAnEventForEachTokenAndAnEnd) {
  Events events(Form::kCompletions, 17, 2);
  std::string body;
  for (; !events.ended(); events.Advance()) body += events.text();
  EXPECT_EQ(body, R"(data: {"id":"cmpl-00000017","object":"text_completion","created":1764000000,)"
                  R"("model":"bench","choices":[{"index":0,"text":" 000000","logprobs":null,)"
                  R"("finish_reason":null,"stop_reason":null}]})"
                  "\n\n"
                  R"(data: {"id":"cmpl-00000017","object":"text_completion","created":1764000000,)"
                  R"("model":"bench","choices":[{"index":0,"text":" 000001","logprobs":null,)"
                  R"("finish_reason":null,"stop_reason":null}]})"
                  "\n\ndata: [DONE]\n\n");
}

TEST(Answer, DiffersFromUserToUserAndFromTokenToToken) {
  Events events(Form::kChat, 1, 1000);
  const std::string first(events.text());
  EXPECT_NE(first, Events(Form::kChat, 2, 1000).text());
  for (int i = 0; i < 999; ++i) events.Advance();
  EXPECT_TRUE(events.is_token());
  EXPECT_NE(events.text().find(R"("content":" 000999")"), std::string::npos);
  events.Advance();
  EXPECT_FALSE(events.is_token());
  EXPECT_EQ(events.text(), kDone);
}

TEST(Answer, IsAskedForByOneRequest) {
  EXPECT_EQ(
      RequestOf(Form::kChat, 5, 7, 0.025, 6),
      "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\n"
      "Content-Type: application/json\r\nContent-Length: 132\r\n\r\n"
      R"({"model":"bench","stream":true,"max_tokens":7,"interval_us":25000,"user":"00000005",)"
      R"("messages":[{"role":"user","content":"what i"}]})");
}

}  // namespace
}  // namespace conductor::bench
