#include "daemon/toolkit/console.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>

#include "daemon/toolkit/terminal.h"

namespace conductor::toolkit {
namespace {

constexpr size_t kGather = 64 << 10;  // written when there is so much, at the latest

}  // namespace

int Complain(int code, const Error& error) {
  fmt::print(stderr, "conductor: {}\n", Printable(error.Message()));
  return code;
}

void Warn(std::string_view text) {
  fmt::print(stderr, "conductor: warning: {}\n", Printable(text));
}

Output::Output() { std::signal(SIGPIPE, SIG_IGN); }

bool Output::Print(std::string_view text) {
  if (failed()) return false;
  text_ += text;
  return text_.size() < kGather || Flush();
}

bool Output::Flush() {
  if (failed()) return false;
  std::string_view rest = text_;
  while (!rest.empty()) {
    const ssize_t wrote = ::write(STDOUT_FILENO, rest.data(), rest.size());
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) {
      closed_ = errno == EPIPE;
      error_ = closed_ ? 0 : errno;
      return false;
    }
    rest.remove_prefix(static_cast<size_t>(wrote));
  }
  text_.clear();
  return true;
}

int Output::End(int code) {
  (void)Flush();
  if (error_ != 0) {
    return Complain(
        kExitFailed,
        {fmt::format("cannot be written: {}", std::strerror(error_)), "standard output", {}});
  }
  return closed_ ? kExitDone : code;
}

}  // namespace conductor::toolkit
