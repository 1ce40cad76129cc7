#include "chunks.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>

namespace conductor::bench {
namespace {

constexpr std::string_view kBody = "5\r\nhello\r\n1\r\n \r\nA\r\nwide world\r\n0\r\n\r\n";

TEST(Chunks, AreTakenApartWhereverTheyAreCut) {
  for (size_t first = 0; first <= kBody.size(); ++first) {
    for (size_t second = first; second <= kBody.size(); ++second) {
      Chunks chunks;
      std::string body;
      const auto take = [&body](std::string_view piece) { body += piece; };
      for (const std::string_view bytes :
           {kBody.substr(0, first), kBody.substr(first, second - first), kBody.substr(second)}) {
        EXPECT_EQ(chunks.Feed(bytes, take), bytes.size());
      }
      EXPECT_EQ(body, "hello wide world");
      EXPECT_TRUE(chunks.has_ended());
    }
  }
}

TEST(Chunks, LeaveWhatIsBehindTheBody) {
  Chunks chunks;
  const std::string bytes = std::string(kBody) + "HTTP/1.1 200 OK\r\n";
  EXPECT_EQ(chunks.Feed(bytes, [](std::string_view) {}), kBody.size());
  EXPECT_TRUE(chunks.has_ended());
}

TEST(Chunks, MayHaveTrailers) {
  Chunks chunks;
  const std::string_view bytes = "1\r\nx\r\n0\r\nserver-timing: a\r\n\r\n";
  EXPECT_EQ(chunks.Feed(bytes, [](std::string_view) {}), bytes.size());
  EXPECT_TRUE(chunks.has_ended());
}

TEST(Chunks, AreRefusedInAnyOtherForm) {
  for (const std::string_view bytes : {"data: x", "5\rx", "1\r\nxy", "fffffffffffffffffff\r\n"}) {
    Chunks chunks;
    (void)chunks.Feed(bytes, [](std::string_view) {});
    EXPECT_TRUE(chunks.is_bad()) << bytes;
    EXPECT_FALSE(chunks.has_ended()) << bytes;
  }
}

}  // namespace
}  // namespace conductor::bench
