#include "lib/base/log.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

namespace conductor::log {
namespace {

class Log : public testing::Test {
 protected:
  ~Log() override { SetLevel(Level::kInfo); }

  // What `write` sends to stderr.
  template <typename Write>
  static std::string Written(Write write) {
    testing::internal::CaptureStderr();
    write();
    return testing::internal::GetCapturedStderr();
  }
};

TEST_F(Log, AMessageIsOneLineWithTimeAndLevel) {
  const std::string line = Written([] { Warn("{} is {}", "x", 7); });
  EXPECT_TRUE(line.ends_with(" warning x is 7\n")) << line;
  EXPECT_EQ(line.find("20"), 0u) << line;
}

TEST_F(Log, AMessageCannotForgeALineOrReachTheTerminal) {
  const std::string line = Written([] { Info("{}", std::string("a\nb\r\x1b[31mc\0d\x7f", 13)); });
  EXPECT_EQ(std::ranges::count(line, '\n'), 1);
  EXPECT_TRUE(line.ends_with(" a\\x0ab\\x0d\\x1b[31mc\\x00d\\x7f\n")) << line;
}

TEST_F(Log, OtherLanguagesStayReadable) {
  EXPECT_TRUE(Written([] { Info("größer 大"); }).ends_with(" größer 大\n"));
}

TEST_F(Log, MessagesBelowTheLevelAreDropped) {
  SetLevel(Level::kWarn);
  EXPECT_FALSE(Enabled(Level::kInfo));
  EXPECT_TRUE(Enabled(Level::kWarn));
  EXPECT_EQ(Written([] { Info("no"); }), "");
  EXPECT_NE(Written([] { Error("yes"); }), "");
}

TEST_F(Log, LevelsAreReadInAnyCase) {
  EXPECT_EQ(ParseLevel("debug").value(), Level::kDebug);
  EXPECT_EQ(ParseLevel("Info").value(), Level::kInfo);
  EXPECT_EQ(ParseLevel("WARN").value(), Level::kWarn);
  EXPECT_EQ(ParseLevel("warning").value(), Level::kWarn);
  EXPECT_EQ(ParseLevel("ERROR").value(), Level::kError);
  const auto wrong = ParseLevel("loud");
  ASSERT_FALSE(wrong);
  EXPECT_EQ(wrong.error().Message(),
            "'loud' is not a log level (expected DEBUG, INFO, WARN or ERROR)");
}

}  // namespace
}  // namespace conductor::log
