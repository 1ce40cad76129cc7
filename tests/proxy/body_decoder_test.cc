#include "daemon/proxy/body_decoder.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

namespace conductor::proxy {
namespace {

// All that comes out of `bytes`, handed in `piece` bytes at a time.
std::string Decode(BodyDecoder& decoder, std::string bytes, size_t piece) {
  std::string body;
  while (!bytes.empty() && !decoder.done() && !decoder.bad()) {
    std::string part = bytes.substr(0, piece);
    const auto step = decoder.Decode(part.data(), part.size());
    body += part.substr(0, step.payload);
    bytes.erase(0, std::max<size_t>(step.consumed, decoder.bad() ? 1 : 0));
  }
  return body;
}

TEST(BodyDecoderTest, ChunksInPiecesOfAnySize) {
  const std::string bytes =
      "5;x=\"y\"\r\nhello\r\n1 \r\n,\r\n0A ;x\r\nabcdefghij\r\n0\r\nTrailer: x\r\n\r\nNEXT";
  for (size_t piece = 1; piece <= bytes.size(); ++piece) {
    BodyDecoder decoder(BodyEnd::kChunked, 0);
    EXPECT_EQ(Decode(decoder, bytes, piece), "hello,abcdefghij") << piece;
    EXPECT_TRUE(decoder.done()) << piece;
  }
}

TEST(BodyDecoderTest, BytesBehindTheEndAreLeft) {
  BodyDecoder chunked(BodyEnd::kChunked, 0);
  std::string bytes = "1\r\na\r\n0\r\n\r\nNEXT";
  const auto step = chunked.Decode(bytes.data(), bytes.size());
  EXPECT_EQ(step.payload, 1u);
  EXPECT_EQ(step.consumed, bytes.size() - 4);
  BodyDecoder length(BodyEnd::kLength, 3);
  bytes = "abcNEXT";
  EXPECT_EQ(length.Decode(bytes.data(), bytes.size()).consumed, 3u);
  EXPECT_TRUE(length.done());
}

TEST(BodyDecoderTest, WhatIsNoChunkIsBad) {
  for (const char* bytes :
       {"x\r\n", "\r\n", "-1\r\n", "1\r\nab\r\n", "11111111111111111\r\n", "fffffffffffffff1\r\n",
        "0x5\r\nhello\r\n", "+1\r\na\r\n", " 1\r\na\r\n", "1_0\r\n", ";x\r\n",
        // Behind the size.
        "5 junk\r\nhello\r\n", "5\t5\r\nhello\r\n", "5,\r\nhello\r\n",
        // Lines that do not end with CR LF.
        "1\na\r\n0\r\n\r\n", "1\r\na\n0\r\n\r\n", "1;x\na\r\n", "1\r\r\na\r\n", "1\ra\r\n",
        "1\r\na\r0\r\n", "0\r\n\n", "0\r\nX: y\n\r\n", "0\r\n\r\r\n", "1\r\na0\r\n\r\n",
        "1;\x01\r\na\r\n", "0\r\nX: \x7f\r\n\r\n"}) {
    for (const size_t piece : {size_t{1}, size_t{100}}) {
      BodyDecoder decoder(BodyEnd::kChunked, 0);
      Decode(decoder, bytes, piece);
      EXPECT_TRUE(decoder.bad()) << bytes;
      EXPECT_FALSE(decoder.done()) << bytes;
    }
  }
  const std::string with_nul("1;x\0\r\na\r\n", 10);
  BodyDecoder nul(BodyEnd::kChunked, 0);
  Decode(nul, with_nul, 100);
  EXPECT_TRUE(nul.bad());
}

TEST(BodyDecoderTest, WhatHasNoEndIsBad) {
  for (const std::string& bytes : {"1;" + std::string(100000, 'x'), [] {
                                     std::string trailers = "0\r\n";
                                     for (int i = 0; i < 10000; ++i) trailers += "X: y\r\n";
                                     return trailers;
                                   }()}) {
    BodyDecoder decoder(BodyEnd::kChunked, 0);
    Decode(decoder, bytes, 1000);
    EXPECT_TRUE(decoder.bad()) << bytes.substr(0, 10);
    EXPECT_FALSE(decoder.done()) << bytes.substr(0, 10);
  }
}

TEST(BodyDecoderTest, OnlyABodyWithoutLengthEndsWithTheConnection) {
  BodyDecoder until_close(BodyEnd::kClose, 0);
  EXPECT_EQ(Decode(until_close, "abc", 2), "abc");
  EXPECT_TRUE(until_close.Closed());
  BodyDecoder length(BodyEnd::kLength, 3);
  EXPECT_EQ(Decode(length, "ab", 2), "ab");
  EXPECT_FALSE(length.Closed());
  EXPECT_TRUE(BodyDecoder(BodyEnd::kLength, 0).done());
  EXPECT_TRUE(BodyDecoder(BodyEnd::kNoBody, 0).done());
}

}  // namespace
}  // namespace conductor::proxy
