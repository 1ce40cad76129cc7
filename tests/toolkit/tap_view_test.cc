#include "daemon/toolkit/tap_view.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <string>
#include <vector>

#include "lib/base/bytes.h"

namespace conductor::toolkit {
namespace {

// [1.0, [["AllBlocksCleared"], ...], 3]
std::string Cleared(int events) {
  std::string payload = "\x93\xcb\x3f\xf0";
  payload.append(6, '\0');
  payload += static_cast<char>(0x90 + events);
  for (int i = 0; i < events; ++i)
    payload +=
        "\x91\xb0"
        "AllBlocksCleared";
  return payload + '\x03';
}

class Tap {
 public:
  explicit Tap(TapOptions options) : options_(std::move(options)) {
    options_.sources = {"tcp://a:1"};
    options_.json = true;
    view_.emplace(options_, output_, Terminal());
    view_->Add({.endpoint = "tcp://a:1"});
  }
  ~Tap() { std::fclose(file_); }

  void Live(uint64_t sequence, const std::string& payload) {
    const auto number = StoreBigEndian64(sequence);
    const std::array<std::string_view, 3> frames = {"", {number.data(), 8}, payload};
    view_->Message(1, 0, false, frames);
  }
  // The types of all lines.
  std::vector<std::string> Types() {
    output_.Flush();
    std::rewind(file_);
    std::vector<std::string> types;
    std::array<char, 65536> line{};
    while (std::fgets(line.data(), line.size(), file_) != nullptr) {
      const std::string text = line.data();
      const size_t at = text.find("\"type\":\"") + 8;
      types.push_back(text.substr(at, text.find('"', at) - at));
    }
    return types;
  }
  TapView& view() { return *view_; }

 private:
  TapOptions options_;
  std::FILE* file_ = std::tmpfile();
  LineOutput output_{fileno(file_), -1, false};
  std::optional<TapView> view_;
};

using Types = std::vector<std::string>;

TEST(TapView, TimesAndFactsOfARecordingMayBeAnything) {
  Tap tap({.stats = true});
  const std::string deep = std::string(1'000'000, '[') + std::string(1'000'000, ']');
  const uint32_t publisher = tap.view().Add({.endpoint = "tcp://b:1", .facts = deep});
  EXPECT_EQ(tap.view().name(publisher), "tcp://b:1");
  const std::array<std::string_view, 1> frames = {"junk"};
  tap.view().Message(INT64_MIN, 0, false, frames);
  tap.view().Message(INT64_MAX, 0, false, frames);
  tap.view().Finish(INT64_MIN);
  EXPECT_EQ(tap.Types(), (Types{"stats", "stats"}));
  EXPECT_TRUE(tap.view().Summary().starts_with("2 messages, 0 events in ")) << tap.view().Summary();
}

TEST(TapView, EachEventIsALineAndWhatIsWrongStandsBeforeIt) {
  Tap tap({});
  tap.Live(0, Cleared(2));
  tap.Live(2, Cleared(1));
  tap.Live(2, Cleared(1));
  tap.Live(3, "junk");
  tap.Live(0, Cleared(0));
  EXPECT_EQ(tap.Types(), (Types{"cleared", "cleared", "gap", "cleared", "duplicate", "malformed",
                                "restart", "empty"}));
  EXPECT_EQ(
      tap.view().Summary(),
      "5 messages, 3 events: 0 blocks stored, 0 removed, 3 cleared; 1 gap (1 message missing);"
      " 1 restart; 1 duplicate; 1 malformed");
}

TEST(TapView, ItIsDoneAfterAsManyLinesAsWereAskedFor) {
  Tap tap({.count = 2});
  tap.Live(5, Cleared(1));
  EXPECT_FALSE(tap.view().done());
  tap.Live(7, Cleared(3));
  EXPECT_TRUE(tap.view().done());
  EXPECT_EQ(tap.Types(), (Types{"cleared", "gap", "cleared"}));
  EXPECT_TRUE(tap.view().Summary().starts_with("2 messages, 2 events:")) << tap.view().Summary();
}

TEST(TapView, RawIsALineForEachMessage) {
  Tap tap({.raw = true});
  tap.Live(0, Cleared(2));
  const std::array<std::string_view, 1> one = {"x"};
  tap.view().Message(1, 0, false, one);
  EXPECT_EQ(tap.Types(), (Types{"message", "message"}));
}

TEST(TapView, AMessageThatWasGivenIsKnown) {
  Tap tap({});
  tap.Live(4, Cleared(1));
  EXPECT_TRUE(tap.view().Knows(0, 4, Cleared(1)));
  EXPECT_FALSE(tap.view().Knows(0, 4, Cleared(2)));
  EXPECT_EQ(tap.view().last(0), 4u);
}

TEST(TapView, ARecordedReplayIsCountedUnderItsEndpoint) {
  Tap tap({});
  const uint32_t ring = tap.view().Add({.replay_endpoint = "tcp://a:2"});
  EXPECT_EQ(tap.view().name(ring), "tcp://a:2");
  const auto number = StoreBigEndian64(4);
  const std::string payload = Cleared(2);
  const std::array<std::string_view, 3> frames = {"", {number.data(), 8}, payload};
  tap.view().Message(1, ring, true, frames);
  EXPECT_EQ(tap.view().Summary(), "1 message, 2 events: 0 blocks stored, 0 removed, 2 cleared");
}

TEST(TapView, StatisticsEndWithoutAViewInWhichNothingHappened) {
  Tap tap({.stats = true, .interval = std::chrono::hours(1)});
  tap.Live(0, Cleared(1));
  tap.view().Tick(MonoNow() + std::chrono::hours(2), UnixNanos());
  tap.view().Finish(UnixNanos());
  EXPECT_EQ(tap.Types(), (Types{"stats"}));
  tap.Live(1, Cleared(1));
  tap.view().Finish(UnixNanos());
  EXPECT_EQ(tap.Types(), (Types{"stats", "stats"})) << "what was counted since is not lost";
}

TEST(TapView, QuietPrintsNothingAndCountsAll) {
  Tap tap({.quiet = true});
  tap.Live(0, Cleared(2));
  EXPECT_EQ(tap.Types(), Types{});
  EXPECT_EQ(tap.view().Summary(), "1 message, 2 events: 0 blocks stored, 0 removed, 2 cleared");
}

}  // namespace
}  // namespace conductor::toolkit
