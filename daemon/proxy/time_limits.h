#ifndef CONDUCTOR_DAEMON_PROXY_TIME_LIMITS_H_
#define CONDUCTOR_DAEMON_PROXY_TIME_LIMITS_H_

#include <functional>

#include "daemon/proxy/asio.h"
#include "lib/base/clock.h"

namespace conductor::proxy {

// Time limits of everything that one thread waits for. To set one costs a store, because a relay
// sets one with every piece of every stream: all of them are looked at together, every 20 ms, so a
// limit is kept to that. A timer of Asio's each would be a change of its heap, and of the kernel's
// timer, with every token. Designed for some thousand limits a thread.
//
// One thread: that of the io_context.
class TimeLimits {
 public:
  // Calls `cut` when its time is over; once for each Set(). `cut` may set and clear limits and
  // close sockets; it destroys no limit.
  class Limit {
   public:
    Limit(TimeLimits& limits, std::function<void()> cut);
    ~Limit();
    Limit(const Limit&) = delete;
    Limit& operator=(const Limit&) = delete;

    void Set(Duration from_now) {
      passed_ = false;
      until_ = MonoNow() + from_now;
      limits_.Awake();
    }
    void Clear() { until_ = MonoTime::max(); }
    // Whether the time last set was over before it was cleared.
    [[nodiscard]] bool passed() const { return passed_; }

   private:
    friend class TimeLimits;

    TimeLimits& limits_;
    const std::function<void()> cut_;
    MonoTime until_ = MonoTime::max();
    bool passed_ = false;
    Limit* before_ = nullptr;  // in the list of all
    Limit* after_ = nullptr;
  };

  explicit TimeLimits(net::io_context& io) : timer_(io) {}
  TimeLimits(const TimeLimits&) = delete;
  TimeLimits& operator=(const TimeLimits&) = delete;

 private:
  // While there are limits it looks at them.
  void Awake();
  void Look();

  net::steady_timer timer_;
  bool awake_ = false;
  Limit* first_ = nullptr;
};

}  // namespace conductor::proxy

#endif  // CONDUCTOR_DAEMON_PROXY_TIME_LIMITS_H_
