#include "daemon/toolkit/stop_signal.h"

#include <poll.h>
#include <sys/signalfd.h>
#include <unistd.h>

namespace conductor::toolkit {

StopSignal::StopSignal() {
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);
  sigemptyset(&set_);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&set_, signal);
  sigprocmask(SIG_BLOCK, &set_, nullptr);
  fd_ = serve::FileDescriptor(::signalfd(-1, &set_, SFD_NONBLOCK | SFD_CLOEXEC));
}

StopSignal::~StopSignal() {
  signalfd_siginfo taken{};
  while (::read(fd_.get(), &taken, sizeof taken) > 0) {
  }
  sigprocmask(SIG_UNBLOCK, &set_, nullptr);
}

bool StopSignal::came() const {
  pollfd ready = {fd_.get(), POLLIN, 0};
  return ::poll(&ready, 1, 0) > 0;
}

}  // namespace conductor::toolkit
