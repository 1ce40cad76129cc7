#include "daemon/toolkit/line_output.h"

#include <fmt/format.h>
#include <limits.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace conductor::toolkit {
namespace {

constexpr size_t kGather = 64 << 10;  // written when there is so much, at the latest
constexpr size_t kMost = 1 << 20;     // that wait, where lines are left out

}  // namespace

LineOutput::LineOutput(int descriptor, int stop, bool leave_out)
    : descriptor_(descriptor), stop_(stop), leave_out_(leave_out) {}

void LineOutput::Print(std::string_view text) {
  if (closed_ || stopped_) return;
  if (leave_out_ && text_.size() + text.size() > kMost) {
    Flush();
    if (text_.size() + text.size() > kMost) {
      left_out_ += static_cast<uint64_t>(std::ranges::count(text, '\n'));
      return;
    }
  }
  text_ += text;
  if (text_.size() >= kGather) Flush();
}

void LineOutput::Flush() {
  while (!text_.empty() && !closed_ && WritePiece()) {
  }
}

// A pipe that is ready takes this much without making anybody wait.
bool LineOutput::WritePiece() {
  std::array<pollfd, 2> ready = {{{descriptor_, POLLOUT, 0}, {stop_, POLLIN, 0}}};
  if (::poll(ready.data(), ready.size(), leave_out_ ? 0 : -1) < 0) return errno == EINTR;
  if ((ready[0].revents & POLLOUT) == 0) {
    closed_ = (ready[0].revents & (POLLERR | POLLHUP | POLLNVAL)) != 0;
    if (!leave_out_) {
      // To be ended while a reader does not read: what it has not read is not for anybody.
      stopped_ = (ready[1].revents & POLLIN) != 0;
      if (stopped_) text_.clear();
    }
    return false;
  }
  const ssize_t written =
      ::write(descriptor_, text_.data(), std::min<size_t>(text_.size(), PIPE_BUF));
  if (written < 0) {
    if (errno == EINTR || errno == EAGAIN) return true;
    closed_ = true;
    if (errno != EPIPE) {
      problem_ =
          Error{fmt::format("cannot be written: {}", std::strerror(errno)), "standard output", {}};
    }
    return false;
  }
  text_.erase(0, static_cast<size_t>(written));
  return true;
}

}  // namespace conductor::toolkit
