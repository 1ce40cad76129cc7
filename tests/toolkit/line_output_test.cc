#include "daemon/toolkit/line_output.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <string>

namespace conductor::toolkit {
namespace {

class Pipe {
 public:
  Pipe() {
    std::signal(SIGPIPE, SIG_IGN);
    EXPECT_EQ(::pipe(ends_.data()), 0);
  }
  ~Pipe() {
    CloseReader();
    ::close(ends_[1]);
  }
  void CloseReader() {
    if (ends_[0] >= 0) ::close(ends_[0]);
    ends_[0] = -1;
  }
  [[nodiscard]] int writer() const { return ends_[1]; }
  std::string Read() {
    ::fcntl(ends_[0], F_SETFL, O_NONBLOCK);
    std::string text;
    std::array<char, 4096> piece{};
    for (ssize_t got = 0; (got = ::read(ends_[0], piece.data(), piece.size())) > 0;) {
      text.append(piece.data(), static_cast<size_t>(got));
    }
    return text;
  }

 private:
  std::array<int, 2> ends_{};
};

const std::string kLine = std::string(99, 'x') + "\n";

TEST(LineOutput, PrintsWhatItIsGivenWhenItIsFlushed) {
  Pipe pipe;
  LineOutput output(pipe.writer(), -1, false);
  output.Print("one\n");
  output.Print("two\n");
  EXPECT_TRUE(output.waits());
  output.Flush();
  EXPECT_FALSE(output.waits());
  EXPECT_EQ(pipe.Read(), "one\ntwo\n");
}

TEST(LineOutput, AReaderThatIsGoneClosesIt) {
  Pipe pipe;
  LineOutput output(pipe.writer(), -1, false);
  pipe.CloseReader();
  output.Print("one\n");
  output.Flush();
  EXPECT_TRUE(output.closed());
  EXPECT_FALSE(output.problem());
  output.Print("two\n");
}

TEST(LineOutput, ADiskThatIsFullIsAnError) {
  const int full = ::open("/dev/full", O_WRONLY | O_CLOEXEC);
  ASSERT_GE(full, 0);
  LineOutput output(full, -1, false);
  output.Print("one\n");
  output.Flush();
  EXPECT_TRUE(output.closed());
  ASSERT_TRUE(output.problem());
  EXPECT_EQ(output.problem()->Message(),
            "standard output: cannot be written: No space left on device");
  ::close(full);
}

TEST(LineOutput, ASignalEndsTheWaitForAReader) {
  Pipe pipe;
  const int stop = ::eventfd(1, 0);  // readable: the signal came
  LineOutput output(pipe.writer(), stop, false);
  for (int i = 0; i < 10'000; ++i) output.Print(kLine);  // more than a pipe holds
  output.Flush();
  EXPECT_FALSE(output.closed());
  EXPECT_FALSE(output.waits());
  ::close(stop);
}

TEST(LineOutput, LinesThatDoNotFitAreLeftOutAndCountedWhereNothingMayWait) {
  Pipe pipe;
  LineOutput output(pipe.writer(), -1, true);
  constexpr int kLines = 20'000;  // 2 MB: a pipe holds 64 KiB, and 1 MiB may wait
  for (int i = 0; i < kLines; ++i) output.Print(kLine);
  EXPECT_GT(output.left_out(), 0u);
  std::string text;
  for (;;) {
    output.Flush();
    const std::string more = pipe.Read();
    if (more.empty()) break;
    text += more;
  }
  EXPECT_EQ(text.size() / kLine.size() + output.left_out(), size_t{kLines});
  EXPECT_EQ(text.size() % kLine.size(), 0u);
}

}  // namespace
}  // namespace conductor::toolkit
