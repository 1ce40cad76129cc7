#include "daemon/serve/http_framing.h"

#include <gtest/gtest.h>

#include <string>

namespace conductor::serve {
namespace {

int StatusOf(const std::string& head) {
  const auto parsed = ParseHead(head);
  return parsed ? 200 : parsed.error().status;
}

std::string HeadWith(const std::string& fields) {
  return "POST /query HTTP/1.1\r\n" + fields + "\r\n";
}

TEST(ParseHead, ReadsWhatFramesTheRequest) {
  const auto head = ParseHead(
      "POST /v1/query?x=1 HTTP/1.1\r\nHost: a\r\ncontent-LENGTH: \t12 \r\n"
      "Content-Type: application/json\r\nExpect: 100-continue\r\n\r\n");
  ASSERT_TRUE(head.has_value());
  EXPECT_EQ(head->method, "POST");
  EXPECT_EQ(head->path, "/v1/query");
  EXPECT_EQ(head->content_length, 12U);
  EXPECT_EQ(head->content_type, "application/json");
  EXPECT_TRUE(head->keep_alive);
  EXPECT_TRUE(head->expects_continue);
  EXPECT_FALSE(head->chunked);
}

TEST(ParseHead, TakesTheAbsoluteFormThatProxiesSend) {
  EXPECT_EQ(ParseHead("GET http://conductor:13333/healthz HTTP/1.1\r\n\r\n")->path, "/healthz");
  EXPECT_EQ(ParseHead("GET http://conductor:13333 HTTP/1.1\r\n\r\n")->path, "/");
}

TEST(ParseHead, KeepsAConnectionAsItsVersionAndFieldsSay) {
  EXPECT_TRUE(ParseHead("GET / HTTP/1.1\r\n\r\n")->keep_alive);
  EXPECT_FALSE(ParseHead("GET / HTTP/1.1\r\nConnection: foo, Close\r\n\r\n")->keep_alive);
  EXPECT_FALSE(ParseHead("GET / HTTP/1.0\r\n\r\n")->keep_alive);
  EXPECT_TRUE(ParseHead("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")->keep_alive);
}

TEST(ParseHead, RefusesWhatIsNotTheGrammar) {
  const std::string cases[] = {
      "\r\n",
      "GET\r\n\r\n",
      "GET /\r\n\r\n",
      "GET  HTTP/1.1\r\n\r\n",
      "GET / x HTTP/1.1\r\n\r\n",
      "GE T / HTTP/1.1\r\n\r\n",
      "G\x01T / HTTP/1.1\r\n\r\n",
      "GET query HTTP/1.1\r\n\r\n",
      std::string("GET /\0 HTTP/1.1\r\n\r\n", 20),
      "GET / HTTPS/1.1\r\n\r\n",
      HeadWith("no colon\r\n"),
      HeadWith(": empty name\r\n"),
      HeadWith("Content-Length : 1\r\n"),
      HeadWith(" folded: line\r\n"),
      HeadWith("X: a\rb\r\n"),
      HeadWith(std::string("X: a\0b\r\n", 8)),
  };
  for (const std::string& head : cases) EXPECT_EQ(StatusOf(head), 400) << head;
}

TEST(ParseHead, RefusesLengthsThatTwoReadersCouldUnderstandDifferently) {
  for (const char* fields :
       {"Content-Length: -1\r\n", "Content-Length: +1\r\n", "Content-Length: 1x\r\n",
        "Content-Length: \r\n", "Content-Length: 0x10\r\n",
        "Content-Length: 99999999999999999999\r\n", "Content-Length: 1\r\nContent-Length: 1\r\n",
        "Content-Length: 1, 1\r\n", "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"}) {
    EXPECT_EQ(StatusOf(HeadWith(fields)), 400) << fields;
  }
  EXPECT_EQ(StatusOf("GET / HTTP/1.1\r\nContent-Length: 1\r\n\r\n"), 400);
  EXPECT_EQ(StatusOf("GET / HTTP/1.1\r\nContent-Length: 0\r\n\r\n"), 200);
  EXPECT_EQ(StatusOf("HEAD / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"), 400);
}

TEST(ParseHead, RefusesWhatIsNotSpokenHereWithItsOwnStatus) {
  EXPECT_EQ(StatusOf(HeadWith("Transfer-Encoding: gzip, chunked\r\n")), 501);
  EXPECT_EQ(StatusOf(HeadWith("Content-Encoding: gzip\r\n")), 415);
  EXPECT_EQ(StatusOf(HeadWith("Content-Encoding: identity\r\n")), 200);
  EXPECT_EQ(StatusOf(HeadWith("Content-Type: multipart/form-data; boundary=x\r\n")), 415);
  EXPECT_EQ(StatusOf(HeadWith("Expect: 200-ok\r\n")), 417);
  EXPECT_EQ(StatusOf("GET / HTTP/2.0\r\n\r\n"), 505);
}

TEST(FindHeadEnd, FindsTheBlankLineWhereverTheBytesAreCut) {
  const std::string bytes = "GET / HTTP/1.1\r\nHost: x\r\n\r\nrest";
  size_t scanned = 0;
  for (size_t size = 0; size + 4 < bytes.size(); ++size) {
    EXPECT_EQ(FindHeadEnd(std::string_view(bytes).substr(0, size), scanned).value(), 0U) << size;
  }
  EXPECT_EQ(FindHeadEnd(bytes, scanned).value(), bytes.size() - 4);
}

TEST(FindHeadEnd, RefusesALineFeedAlone) {
  size_t scanned = 0;
  EXPECT_FALSE(FindHeadEnd("GET / HTTP/1.1\n\n", scanned).has_value());
}

struct Decoded {
  int status = 0;  // 0: needs more, 200: complete
  std::string body;
  std::string rest;
};

// Feeds the bytes `step` at a time.
Decoded Decode(std::string_view bytes, size_t step, uint64_t limit = 100) {
  ChunkedDecoder decoder(limit);
  Decoded decoded;
  while (!bytes.empty()) {
    std::string_view part = bytes.substr(0, step);
    const size_t size = part.size();
    const auto done = decoder.Decode(part, decoded.body);
    bytes.remove_prefix(size - part.size());
    if (!done) {
      decoded.status = done.error().status;
      return decoded;
    }
    if (*done) {
      decoded.status = 200;
      decoded.rest = bytes;
      return decoded;
    }
  }
  return decoded;
}

TEST(ChunkedDecoder, JoinsChunksHoweverTheyCome) {
  const std::string bytes =
      "4\r\nWiki\r\n5;ext=1\r\npedia\r\nA \r\n0123456789\r\n0\r\nT: x\r\n\r\nGET";
  for (size_t step = 1; step <= bytes.size(); ++step) {
    const Decoded decoded = Decode(bytes, step);
    EXPECT_EQ(decoded.status, 200) << step;
    EXPECT_EQ(decoded.body, "Wikipedia0123456789");
    EXPECT_EQ(decoded.rest, "GET");
  }
}

TEST(ChunkedDecoder, RefusesWhatIsNotAChunk) {
  for (const std::string bytes : {"x\r\n", "\r\n", "-1\r\n", "0x5\r\n", "FFFFFFFFFFFFFFFFF\r\n",
                                  "5\nhello", "2\r\nabc\r\n"}) {
    EXPECT_EQ(Decode(bytes, bytes.size()).status, 400) << bytes;
  }
  EXPECT_EQ(Decode(std::string(2000, '1'), 7).status, 400) << "a size line without end";
  std::string trailers = "0\r\n";
  for (int i = 0; i < 1000; ++i) trailers += "name: value\r\n";
  EXPECT_EQ(Decode(trailers, 4096).status, 400) << "a trailer without end";
}

TEST(ChunkedDecoder, RefusesABodyAsSoonAsAChunkSaysThatItIsTooLarge) {
  EXPECT_EQ(Decode("65\r\n", 4).status, 413);
  EXPECT_EQ(Decode("FFFFFFFFFFFFFFFF\r\n", 18).status, 413);
  EXPECT_EQ(Decode("32\r\n" + std::string(50, 'x') + "\r\n33\r\n", 200).status, 413);
  EXPECT_EQ(Decode("64\r\n" + std::string(100, 'x') + "\r\n0\r\n\r\n", 200).status, 200);
}

}  // namespace
}  // namespace conductor::serve
