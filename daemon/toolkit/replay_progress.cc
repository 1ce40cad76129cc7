#include "daemon/toolkit/replay_progress.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "daemon/toolkit/table.h"
#include "lib/base/number.h"

namespace conductor::toolkit {
namespace {

constexpr Duration kBetween = std::chrono::milliseconds(100);
constexpr size_t kLongestBar = 40;  // columns

}  // namespace

std::string ProgressLine(std::optional<double> share, uint64_t messages, size_t width) {
  std::string text = Counted(messages, "message");
  if (share) {
    const double known = std::clamp(*share, 0.0, 1.0);
    text = fmt::format("{:3.0f} %  {}", known * 100, text);
    const size_t taken = WidthOf(text) + 4;  // brackets, and two columns between
    if (width > taken + 4) {
      const size_t bar = std::min(kLongestBar, width - taken);
      const auto done = static_cast<size_t>(known * static_cast<double>(bar));
      text = fmt::format("[{:#<{}}{:.<{}}]  {}", "", done, "", bar - done, text);
    }
  }
  return width > 0 ? Cut(text, width) : text;
}

void ProgressBar::Show(MonoTime now, std::optional<double> share, uint64_t messages) {
  if (!terminal_.interactive || now < next_) return;
  next_ = now + kBetween;
  // The last column would move some terminals to the next line.
  const size_t width = terminal_.width > 1 ? terminal_.width - 1 : 79;
  std::fputs(fmt::format("\r\x1b[K{}", ProgressLine(share, messages, width)).c_str(), stderr);
  std::fflush(stderr);
  shown_ = true;
}

void ProgressBar::Clear() {
  if (!shown_) return;
  std::fputs("\r\x1b[K", stderr);
  std::fflush(stderr);
  shown_ = false;
}

}  // namespace conductor::toolkit
