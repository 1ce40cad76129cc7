#ifndef CONDUCTOR_LIB_CLIENT_WATCHDOG_H_
#define CONDUCTOR_LIB_CLIENT_WATCHDOG_H_

#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>

#include "lib/base/clock.h"

namespace conductor::client {

// Ends what would block beyond its time: calls `cut` on a thread of its own once a deadline has
// passed, again and again until the watch is over, for what blocks next in the same piece of work.
// The thread is started with the first watch. Designed for thousands of watches a second of which
// almost none passes: while it sleeps towards an earlier deadline, a new watch does not wake it.
//
// Watch() and End() from one thread.
class Watchdog {
 public:
  explicit Watchdog(std::function<void()> cut) : cut_(std::move(cut)) {}
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  void Watch(MonoTime until);
  // Whether `cut` was called. It is not being called when this returns.
  bool End();

 private:
  void Run();

  const std::function<void()> cut_;
  std::mutex mutex_;  // guards the rest; held while `cut` is called
  std::condition_variable changed_;
  std::optional<MonoTime> until_;  // none: nothing is watched
  std::optional<MonoTime> wakes_;  // when the thread wakes by itself; none: not
  bool was_cut_ = false;
  bool ends_ = false;
  std::thread thread_;
};

}  // namespace conductor::client

#endif  // CONDUCTOR_LIB_CLIENT_WATCHDOG_H_
