#include "daemon/serve/query_frames.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace conductor::serve {
namespace {

using Frames = std::vector<std::string_view>;

FramedQuery Read(const Frames& frames) { return ReadQueryFrames(frames, BodyRoutes()); }

TEST(QueryFrames, AreIdPathAndBody) {
  const FramedQuery query = Read({"7", "/v1/query", "body"});
  ASSERT_FALSE(query.error.has_value()) << query.error->error;
  EXPECT_FALSE(query.delimited);
  EXPECT_EQ(query.id, 0U);
  EXPECT_EQ(query.route->path, "/v1/query");
  EXPECT_EQ(query.body, 2U);
}

TEST(QueryFrames, OfAReqSocketBeginWithAnEmptyOne) {
  const FramedQuery query = Read({"", "7", "/v1/query", ""});
  ASSERT_FALSE(query.error.has_value()) << query.error->error;
  EXPECT_TRUE(query.delimited);
  EXPECT_EQ(query.id, 1U);
  EXPECT_EQ(query.body, 3U);
}

TEST(QueryFrames, ThatCannotBeReadAreToldWithTheirIdWhereItCanBe) {
  const std::string longest(FramedQuery::kMostIdBytes, 'i');
  const std::string too_long(FramedQuery::kMostIdBytes + 1, 'i');
  const std::string long_path(100000, 'p');
  struct Case {
    Frames frames;
    bool has_id;
    int status;
    const char* reason;
    const char* error;
  };
  const Case cases[] = {
      {{}, false, 400, "malformed_request", "the message has 0 frames (expected id, path, body)"},
      {{""},
       false,
       400,
       "malformed_request",
       "the message has 0 frames behind the empty one (expected id, path, body)"},
      {{"7"}, true, 400, "malformed_request", "the message has 1 frames (expected id, path, body)"},
      {{"7", "/v1/query", "{}", "token"},
       true,
       400,
       "malformed_request",
       "the message has 4 frames (expected id, path, body)"},
      {{"", "", "/v1/query", "{}"},
       false,
       400,
       "malformed_request",
       "the id has 0 bytes (expected 1 to 64)"},
      {{too_long, "/v1/query", "{}"},
       false,
       400,
       "malformed_request",
       "the id has 65 bytes (expected 1 to 64)"},
      {{longest, "/register", "{}"},
       true,
       404,
       "unknown_path",
       "there is nothing at '/register' (expected one of: /v1/query"},
      {{"7", long_path, "{}"}, true, 404, "unknown_path", "there is nothing at 'ppp"},
  };
  for (const Case& bad : cases) {
    const FramedQuery query = Read(bad.frames);
    ASSERT_TRUE(query.error.has_value()) << bad.error;
    EXPECT_EQ(query.status, bad.status);
    EXPECT_EQ(query.id.has_value(), bad.has_id) << bad.error;
    EXPECT_EQ(query.error->reason, bad.reason);
    EXPECT_TRUE(query.error->error.starts_with(bad.error)) << query.error->error;
    EXPECT_LT(query.error->error.size(), 1000U);
  }
}

}  // namespace
}  // namespace conductor::serve
