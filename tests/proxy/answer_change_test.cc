#include "daemon/proxy/answer_change.h"

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <string_view>

namespace conductor::proxy {
namespace {

// Puts each document in brackets.
class Bracketed : public AnswerChange {
 private:
  std::optional<std::string> Changed(std::string_view document, bool is_event) override {
    (void)is_event;
    return "[" + std::string(document) + "]";
  }
};

ResponseHead HeadOf(std::string_view type) {
  ResponseHead head;
  head.status = 200;
  head.fields.Add("Content-Type", type);
  return head;
}

TEST(AnswerChangeTest, WhatWaitsForItsEndIsCounted) {
  Bracketed stream;
  ResponseHead head = HeadOf("text/event-stream");
  stream.Begin(head);
  EXPECT_EQ(stream.Take("data: {\"a\""), "");
  EXPECT_EQ(stream.pending(), 10u);
  EXPECT_EQ(stream.Take(": 1}\n: b\n\nda"), "data: [{\"a\": 1}]\n: b\n\n");
  EXPECT_EQ(stream.pending(), 2u);
  EXPECT_EQ(stream.Take("ta: {}"), "");
  EXPECT_EQ(stream.Take("\n"), "data: [{}]\n");
  EXPECT_EQ(stream.pending(), 0u);
  Bracketed whole;
  head = HeadOf("application/json");
  whole.Begin(head);
  EXPECT_EQ(whole.Take("{}"), "");
  EXPECT_EQ(whole.pending(), 2u);
  EXPECT_EQ(whole.Take({}), "[{}]");
  EXPECT_EQ(whole.pending(), 0u);
}

// Were it searched anew with each piece, this would take minutes.
TEST(AnswerChangeTest, ALongLineIsSearchedForItsEndOnce) {
  Bracketed stream;
  ResponseHead head = HeadOf("text/event-stream");
  stream.Begin(head);
  const std::string piece(64, 'x');
  constexpr size_t kBytes = 15 << 20;
  size_t got = 0;
  for (size_t i = 0; i < kBytes / piece.size(); ++i) got += stream.Take(piece).size();
  EXPECT_EQ(got, 0u);
  EXPECT_EQ(stream.Take("\n").size(), kBytes + 1);
  EXPECT_EQ(stream.Take("data: {}\n"), "data: [{}]\n");
}

TEST(AnswerChangeTest, WhatIsTooLongPassesAsItComes) {
  for (const char* type : {"text/event-stream", "application/json"}) {
    Bracketed change;
    ResponseHead head = HeadOf(type);
    change.Begin(head);
    const std::string piece(1 << 20, 'x');
    std::string out;
    for (int i = 0; i < 17; ++i) out += change.Take(piece);
    EXPECT_EQ(out.size(), 17 * piece.size()) << type;
    EXPECT_EQ(change.Take("data: {}\n"), "data: {}\n");
    EXPECT_EQ(change.pending(), 0u);
  }
}

}  // namespace
}  // namespace conductor::proxy
