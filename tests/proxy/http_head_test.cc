#include "daemon/proxy/http_head.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

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

// Each is read in another way by somebody, so that what follows it is another request.
TEST(HttpHeadTest, WhatCouldBeReadInTwoWaysIsRefused) {
  struct Case {
    std::string fields;
    int status = 400;
  };
  const std::string kChunked = "Transfer-Encoding: chunked\r\n";
  const std::string kLength = "Content-Length: 5\r\n";
  const std::vector<Case> cases = {
      {"Transfer-Encoding:\r\n" + kChunked},
      {kChunked + "Transfer-Encoding:\r\n"},
      {"Transfer-Encoding: \r\n"},
      {"Transfer-Encoding:\r\n" + kLength},
      {kChunked + kChunked},
      {kChunked + kLength},
      {kLength + kChunked},
      {kChunked + "Transfer-Encoding: identity\r\n"},
      {"Transfer-Encoding: identity\r\n", 501},
      {"Transfer-Encoding: gzip, chunked\r\n", 501},
      {"Transfer-Encoding: chunked, chunked\r\n", 501},
      {"Transfer-Encoding: chunked, identity\r\n", 501},
      {"Transfer-Encoding: xchunked\r\n", 501},
      {"Transfer-Encoding: \"chunked\"\r\n", 501},
      {"Transfer-Encoding: chunked;q=1\r\n", 501},
      {"Transfer-Encoding: ,chunked\r\n", 501},
      {std::string("Transfer-Encoding: chunked\0\r\n", 29)},
      {"Transfer-Encoding: \vchunked\r\n"},
      {"Transfer-Encoding : chunked\r\n"},
      {"Transfer-Encoding\t: chunked\r\n"},
      {" Transfer-Encoding: chunked\r\n"},
      {"Transfer-Encoding:\r\n chunked\r\n"},
      {"Transfer-Encoding\r\n: chunked\r\n"},
      {"X: y\r\n\tTransfer-Encoding: chunked\r\n"},
      {"X: y\nTransfer-Encoding: chunked\r\n"},
      {"X: y\rTransfer-Encoding: chunked\r\n"},
      {"X: y\r\n\nTransfer-Encoding: chunked\r\n"},
      {kLength + kLength},
      {kLength + "Content-Length: 6\r\n"},
      {"Content-Length: 5, 5\r\n"},
      {"Content-Length: +5\r\n"},
      {"Content-Length: -5\r\n"},
      {"Content-Length: 0x5\r\n"},
      {"Content-Length: 5 5\r\n"},
      {"Content-Length: 5;\r\n"},
      {"Content-Length: \"5\"\r\n"},
      {"Content-Length:\r\n"},
      {"Content-Length: 18446744073709551621\r\n"},
      {"Content-Length: 9999999999999999999\r\n"},
      {"Content-Length : 5\r\n"},
      {"Content-Length: 5\r\n 5\r\n"},
      {std::string("Content-Length: 5\0\r\n", 20)},
      {": 5\r\n"},
      {"Content Length: 5\r\n"},
      {"Content-Length\r\n"},
      {std::string("X\0: y\r\n", 8)},
  };
  for (const Case& one : cases) {
    const auto read = ReadRequestHead("POST / HTTP/1.1\r\nHost: a\r\n" + one.fields + "\r\n");
    ASSERT_FALSE(read) << one.fields;
    EXPECT_EQ(read.error().status, one.status) << one.fields;
    EXPECT_FALSE(ReadResponseHead("HTTP/1.1 200 OK\r\n" + one.fields + "\r\n")) << one.fields;
  }
  EXPECT_FALSE(ReadRequestHead("POST / HTTP/1.0\r\n" + kChunked + "\r\n"));
  EXPECT_FALSE(ReadResponseHead("HTTP/1.0 200 OK\r\n" + kChunked + "\r\n"));
  for (const char* line : {"GET / HTTP/1.1\n", "GET /\r HTTP/1.1\r\n", "GET / x HTTP/1.1\r\n",
                           "GET  / HTTP/1.1\r\n", " GET / HTTP/1.1\r\n", "GET /\tHTTP/1.1\r\n",
                           "G ET / HTTP/1.1\r\n", "GET / HTTP/1.1 \r\n", "GET / HTTP/1.10\r\n"}) {
    EXPECT_FALSE(ReadRequestHead(line + std::string("Host: a\r\n\r\n"))) << line;
  }
}

TEST(HttpHeadTest, SpaceAroundAValueAndCaseAreOfNoMeaning) {
  const auto read =
      ReadRequestHead("POST / HTTP/1.1\r\ntransfer-ENCODING:\t ChunkeD \t\r\nX: \xc3\xa9\r\n\r\n");
  ASSERT_TRUE(read);
  EXPECT_EQ(read->body_end, BodyEnd::kChunked);
  EXPECT_EQ(read->fields.Get("X"), "\xc3\xa9");
  EXPECT_EQ(ReadRequestHead("POST / HTTP/1.1\r\nContent-Length:007 \r\n\r\n")->length, 7u);
}

TEST(HttpHeadTest, AHeadOfTooManyFieldsIsTooLarge) {
  const auto with = [](size_t count) {
    std::string head = "GET / HTTP/1.1\r\n";
    for (size_t i = 0; i < count; ++i) head += "a:\r\n";
    return ReadRequestHead(head + "\r\n");
  };
  EXPECT_TRUE(with(kMaxFields));
  EXPECT_EQ(with(kMaxFields + 1).error().status, 431);
}

TEST(HttpHeadTest, OfAWholeUrlPathAndQueryAreTheTarget) {
  const auto target = [](const std::string& sent) {
    return ReadRequestHead("GET " + sent + " HTTP/1.1\r\n\r\n")->target;
  };
  EXPECT_EQ(target("http://host:8000/v1/models?a=http://b/c"), "/v1/models?a=http://b/c");
  EXPECT_EQ(target("HTTPS://host/"), "/");
  EXPECT_EQ(target("http://host"), "/");
  EXPECT_EQ(target("http://host?a"), "/?a");
  EXPECT_EQ(target("/http://host/a"), "/http://host/a");
  EXPECT_EQ(target("*"), "*");
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
