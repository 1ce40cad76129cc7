#include "daemon/serve/stop_signals.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <utility>

#include "lib/base/log.h"

namespace conductor::serve {
namespace {

// The log may be what hangs: its reader has stopped and the pipe is full. So the kernel ends the
// process a moment later, whether or not the line was written.
void ExitSoonAnyway() {
  std::signal(SIGALRM, [](int) { ::_exit(0); });
  itimerval soon{};
  soon.it_value.tv_usec = 200'000;
  ::setitimer(ITIMER_REAL, &soon, nullptr);
}

}  // namespace

StopSignals::StopSignals(Duration patience) : patience_(patience) {
  sigemptyset(&set_);
  sigaddset(&set_, SIGINT);
  sigaddset(&set_, SIGTERM);
  sigaddset(&set_, SIGHUP);
  struct sigaction hangup {};
  ::sigaction(SIGHUP, nullptr, &hangup);
  ignores_hangup_ = hangup.sa_handler == SIG_IGN;
  pthread_sigmask(SIG_BLOCK, &set_, nullptr);
  signals_ = FileDescriptor(::signalfd(-1, &set_, SFD_CLOEXEC | SFD_NONBLOCK));
  done_ = FileDescriptor(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  watching_ = std::thread([this] { Watch(); });
}

StopSignals::~StopSignals() {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(done_.get(), &one, sizeof one);
  watching_.join();
}

void StopSignals::OnHangup(std::function<void()> reload) {
  const std::lock_guard lock(mutex_);
  reload_ = std::move(reload);
}

std::string StopSignals::Wait() {
  std::unique_lock lock(mutex_);
  came_.wait(lock, [this] { return signal_ != 0; });
  return signal_ == SIGINT ? "SIGINT" : signal_ == SIGHUP ? "SIGHUP" : "SIGTERM";
}

void StopSignals::Watch() {
  if (!TakeSignal()) return;
  const MonoTime came = MonoNow();
  for (bool next_ends_it = false;;) {
    if (!next_ends_it) next_ends_it = TakeAnother();
    const Duration patience = keeping_.load() != nullptr ? keep_within_ : patience_;
    const MonoTime until = std::max(
        came + patience, MonoTime(MonoTime::duration(until_.load(std::memory_order_relaxed))));
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - MonoNow()).count();
    if (left <= 0) GiveUp(until - came);
    pollfd waited[2] = {{done_.get(), POLLIN, 0}, {signals_.get(), POLLIN, 0}};
    ::poll(waited, next_ends_it ? 1 : 2, static_cast<int>(std::min<int64_t>(left, 100)));
    if (waited[0].revents != 0) return;
  }
}

bool StopSignals::TakeAnother() {
  const char* const keeping = keeping_.load();
  if (keeping != nullptr) {
    signalfd_siginfo info{};
    if (::read(signals_.get(), &info, sizeof info) != sizeof info) return false;
    if (info.ssi_signo == SIGHUP) return false;  // asks for nothing more
    hurried_ = true;
  }
  // Enough that one thread takes it: the next signal has its default effect, even if the line below
  // finds no room in the log.
  sigdelset(&set_, SIGHUP);
  pthread_sigmask(SIG_UNBLOCK, &set_, nullptr);
  if (keeping != nullptr) {
    log::Warn("a second signal: only {} is waited for now; one more ends the process without it",
              keeping);
  }
  return true;
}

void StopSignals::Kept() {
  keeping_ = nullptr;
  if (!hurried_) return;
  ExitSoonAnyway();
  log::Info("the process exits, as the second signal asked");
  ::_exit(0);
}

bool StopSignals::TakeHangup() {
  std::function<void()> reload;
  {
    const std::lock_guard lock(mutex_);
    reload = reload_;
  }
  if (reload) reload();
  return reload || ignores_hangup_;
}

bool StopSignals::TakeSignal() {
  for (;;) {
    pollfd waited[2] = {{signals_.get(), POLLIN, 0}, {done_.get(), POLLIN, 0}};
    ::poll(waited, 2, -1);
    signalfd_siginfo info{};
    if (::read(signals_.get(), &info, sizeof info) == sizeof info) {
      if (info.ssi_signo == SIGHUP && TakeHangup()) continue;
      const std::lock_guard lock(mutex_);
      signal_ = static_cast<int>(info.ssi_signo);
      came_.notify_all();
      return true;
    }
    if (waited[1].revents != 0) return false;
  }
}

void StopSignals::GiveUp(Duration after) const {
  ExitSoonAnyway();
  const char* const keeping = keeping_.load();
  log::Warn("still ending {} {} after the signal: abandoned, the process exits",
            keeping != nullptr ? keeping : ending_.load(std::memory_order_relaxed),
            FormatDuration(std::chrono::duration_cast<std::chrono::milliseconds>(after)));
  ::_exit(0);
}

}  // namespace conductor::serve
