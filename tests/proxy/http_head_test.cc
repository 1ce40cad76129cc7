#include "daemon/proxy/http_head.h"

#include <gtest/gtest.h>

#include <string>

namespace conductor::proxy {
namespace {

TEST(HttpHeadTest, ARequestSaysHowItsBodyEnds) {
  const auto length = ReadRequestHead(
      "POST /v1/x?y=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
  ASSERT_TRUE(length);
  EXPECT_EQ(length->method, "POST");
  EXPECT_EQ(length->target, "/v1/x?y=1");
  EXPECT_EQ(length->path(), "/v1/x");
  EXPECT_EQ(length->body_end, BodyEnd::kLength);
  EXPECT_EQ(length->length, 5u);
  EXPECT_TRUE(length->keep_alive);
  EXPECT_TRUE(length->expects_continue);
  const auto chunked =
      ReadRequestHead("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n");
  ASSERT_TRUE(chunked);
  EXPECT_EQ(chunked->body_end, BodyEnd::kChunked);
  EXPECT_FALSE(chunked->keep_alive);
  const auto old = ReadRequestHead("GET / HTTP/1.0\r\n\r\n");
  ASSERT_TRUE(old);
  EXPECT_EQ(old->body_end, BodyEnd::kNoBody);
  EXPECT_FALSE(old->keep_alive);
  EXPECT_FALSE(old->is_http_1_1);
}

TEST(HttpHeadTest, WhatIsNoRequestIsRefusedWithItsStatus) {
  for (const char* head :
       {"GARBAGE\r\n\r\n", "GET / HTTP/2.0\r\n\r\n", "GET / HTTP/1.1\r\nbad header\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"}) {
    const auto read = ReadRequestHead(head);
    ASSERT_FALSE(read) << head;
    EXPECT_EQ(read.error().status, 400) << head;
  }
  EXPECT_EQ(ReadRequestHead("POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n").error().status,
            501);
}

TEST(HttpHeadTest, AResponseSaysHowItsBodyEnds) {
  const auto of = [](const std::string& rest, bool to_head = false) {
    return *ReadResponseHead("HTTP/1.1 " + rest + "\r\n\r\n", to_head);
  };
  EXPECT_EQ(of("200 OK\r\nContent-Length: 7").body_end, BodyEnd::kLength);
  EXPECT_EQ(of("200 OK\r\nTransfer-Encoding: chunked").body_end, BodyEnd::kChunked);
  EXPECT_EQ(of("200 OK").body_end, BodyEnd::kClose);
  EXPECT_FALSE(of("200 OK").keep_alive);
  EXPECT_EQ(of("204 No Content").body_end, BodyEnd::kNoBody);
  EXPECT_EQ(of("200 OK\r\nContent-Length: 7", true).body_end, BodyEnd::kNoBody);
  EXPECT_FALSE(of("200 OK\r\nContent-Length: 0\r\nConnection: close").keep_alive);
  EXPECT_FALSE(ReadResponseHead("nothing\r\n\r\n"));
}

TEST(HttpHeadTest, WhatIsOfThisConnectionOnlyIsNotPassedOn) {
  Fields fields;
  for (const char* name : {"Connection", "KEEP-ALIVE", "Transfer-Encoding", "Content-Length", "TE",
                           "Upgrade", "X-Private"}) {
    fields.Add(name, SameName(name, "connection") ? "close, x-private" : "1");
  }
  fields.Add("X-Kept", "a");
  fields.Add("x-kept", "b");
  EXPECT_EQ(WithoutHopByHop(fields).all(), (std::vector<Field>{{"X-Kept", "a"}, {"x-kept", "b"}}));
}

TEST(HttpHeadTest, FieldsAreFoundWithoutCase) {
  Fields fields;
  fields.Add("A", "1");
  fields.Add("a", "2");
  EXPECT_EQ(fields.Get("A"), "1");
  fields.Set("a", "3");
  EXPECT_EQ(fields.all(), (std::vector<Field>{{"a", "3"}}));
  EXPECT_EQ(fields.Get("b"), "");
}

TEST(HttpHeadTest, AHeadEndsWithItsEmptyLine) {
  EXPECT_EQ(HeadEnd("GET / HTTP/1.1\r\n\r\nbody"), 18u);
  EXPECT_EQ(HeadEnd("GET / HTTP/1.1\r\n"), std::nullopt);
}

}  // namespace
}  // namespace conductor::proxy
