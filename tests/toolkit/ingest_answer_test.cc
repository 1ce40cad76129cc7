#include "daemon/toolkit/ingest_answer.h"

#include <gtest/gtest.h>

#include <string>

namespace conductor::toolkit {
namespace {

using client::Form;

TEST(IngestAnswer, IsReadInBothForms) {
  const std::string json = R"({"accepted": 3, "state": "live", "reason": "", "error": "full"})";
  const IngestAnswer read = ReadIngestAnswer({.status = 429, .form = Form::kJson, .body = json});
  EXPECT_TRUE(read.readable);
  EXPECT_EQ(read.accepted, 3U);
  EXPECT_EQ(read.state, "live");
  EXPECT_EQ(read.error, "full");
  const std::string packed(
      "\x82\xa8"
      "accepted\x05\xa6"
      "reason\xa2"
      "ab",
      21);
  const IngestAnswer same =
      ReadIngestAnswer({.status = 200, .form = Form::kMsgpack, .body = packed});
  EXPECT_TRUE(same.readable);
  EXPECT_EQ(same.accepted, 5U);
  EXPECT_EQ(same.reason, "ab");
}

TEST(IngestAnswer, OfAnotherShapeOrNestedDeepIsNone) {
  const std::string deep(2 << 20, '\x91');
  EXPECT_FALSE(ReadIngestAnswer({.status = 200, .form = Form::kMsgpack, .body = deep}).readable);
  const std::string brackets(2 << 20, '[');
  EXPECT_FALSE(ReadIngestAnswer({.status = 200, .form = Form::kJson, .body = brackets}).readable);
  EXPECT_FALSE(ReadIngestAnswer({.status = 200, .form = Form::kJson, .body = "[1]"}).readable);
  EXPECT_FALSE(ReadIngestAnswer({.status = 502, .form = Form::kJson, .body = "oh"}).readable);
}

TEST(IngestAnswer, FieldsOfAnotherTypeAreAsIfTheyWereMissing) {
  const std::string json = R"({"accepted": "all", "state": 7, "error": null})";
  const IngestAnswer read = ReadIngestAnswer({.status = 200, .form = Form::kJson, .body = json});
  EXPECT_TRUE(read.readable);
  EXPECT_EQ(read.accepted, 0U);
  EXPECT_EQ(read.state, "");
  EXPECT_EQ(read.error, "");
}

}  // namespace
}  // namespace conductor::toolkit
