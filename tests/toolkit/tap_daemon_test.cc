#include "daemon/toolkit/tap_daemon.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace conductor::toolkit {
namespace {

const std::string kStream =
    ": events from here on\n\n"
    "event: stored\ndata: {\"type\":\"stored\"}\n\n"
    ": still here\n\n"
    "event: trust\r\ndata:{\"a\":1}\r\n\r\n"
    "data: one\ndata: two\n\n";

TEST(ServerSentEvents, AreTakenApartHoweverTheyAreCut) {
  const std::deque<std::string> expected = {"{\"type\":\"stored\"}", "{\"a\":1}", "one\ntwo"};
  for (size_t piece = 1; piece <= kStream.size(); ++piece) {
    ServerSentEvents parser;
    std::deque<std::string> events;
    for (size_t at = 0; at < kStream.size(); at += piece) {
      ASSERT_TRUE(parser.Feed(std::string_view(kStream).substr(at, piece), events));
    }
    EXPECT_EQ(events, expected) << piece;
  }
}

TEST(ServerSentEvents, OneThatIsNotEndedIsNone) {
  ServerSentEvents parser;
  std::deque<std::string> events;
  ASSERT_TRUE(parser.Feed("data: half\n", events));
  EXPECT_TRUE(events.empty());
}

TEST(ServerSentEvents, OneThatIsEndlessIsRefused) {
  ServerSentEvents parser;
  std::deque<std::string> events;
  const std::string piece(8 << 20, 'x');
  bool taken = true;
  for (int i = 0; i < 9 && taken; ++i) taken = parser.Feed(piece, events);
  EXPECT_FALSE(taken);
}

std::string Said(NotesOnce& notes, const std::string& text) {
  testing::internal::CaptureStderr();
  notes.Tell(text);
  return testing::internal::GetCapturedStderr();
}

TEST(NotesOnce, EachIsToldOnceAndNothingOfItMovesACursor) {
  NotesOnce notes;
  EXPECT_EQ(Said(notes, "'\x1b[2J\xc2\x9b' is no type"),
            "conductor tap: '\\x1b[2J\\xc2\\x9b' is no type\n");
  EXPECT_EQ(Said(notes, "'\x1b[2J\xc2\x9b' is no type"), "");
  EXPECT_EQ(Said(notes, "'b' is no type"), "conductor tap: 'b' is no type\n");
}

TEST(NotesOnce, ADaemonThatMakesThemUpIsToldOfOnlySoOften) {
  NotesOnce notes;
  std::string said;
  for (int i = 0; i < 100; ++i) said += Said(notes, std::to_string(i) + std::string(1000, 'x'));
  EXPECT_EQ(std::ranges::count(said, '\n'), 17);
  EXPECT_TRUE(said.ends_with("conductor tap: and more that is not known here\n"));
  EXPECT_LT(said.size(), 10'000u);
}

}  // namespace
}  // namespace conductor::toolkit
