#include "lib/client/watchdog.h"

namespace conductor::client {
namespace {

constexpr auto kAgainAfter = std::chrono::milliseconds(10);

}  // namespace

Watchdog::~Watchdog() {
  {
    const std::lock_guard lock(mutex_);
    ends_ = true;
  }
  changed_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void Watchdog::Watch(MonoTime until) {
  if (!thread_.joinable()) thread_ = std::thread([this] { Run(); });
  bool wake = false;
  {
    const std::lock_guard lock(mutex_);
    until_ = until;
    was_cut_ = false;
    wake = !wakes_ || *wakes_ > until;
  }
  if (wake) changed_.notify_one();
}

bool Watchdog::End() {
  const std::lock_guard lock(mutex_);
  until_.reset();
  return was_cut_;
}

void Watchdog::Run() {
  std::unique_lock lock(mutex_);
  while (!ends_) {
    if (!until_) {
      wakes_.reset();
      changed_.wait(lock);
      continue;
    }
    const MonoTime now = MonoNow();
    if (now < *until_) {
      wakes_ = until_;
    } else {
      was_cut_ = true;
      cut_();
      wakes_ = now + kAgainAfter;
    }
    changed_.wait_until(lock, *wakes_);
  }
}

}  // namespace conductor::client
