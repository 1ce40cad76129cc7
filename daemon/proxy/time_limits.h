#ifndef CONDUCTOR_DAEMON_PROXY_TIME_LIMITS_H_
#define CONDUCTOR_DAEMON_PROXY_TIME_LIMITS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>

#include "daemon/proxy/asio.h"
#include "lib/base/clock.h"

namespace conductor::proxy {

// Time limits of everything that one thread waits for. To set one costs a store, because a relay
// sets one with every piece of every stream: it stays in its place, and is moved only when its
// place is looked at, or its time has become an earlier one. Places are of 20 ms, so a limit is
// kept to that, on a wheel of twenty seconds; what is due later is looked at once in that time. So
// what a stream costs does not grow with the number of others, and nothing wakes up where no limit
// is. A timer of Asio's each would be a change of its heap, and of the kernel's timer, with every
// token; to go over all of them every 20 ms made a thousand streams wait for each other.
//
// One thread: that of the io_context.
class TimeLimits {
 public:
  // Calls `cut` when its time is over; once for each Set(). `cut` may set, clear and destroy
  // limits, but for its own.
  class Limit {
   public:
    Limit(TimeLimits& limits, std::function<void()> cut);
    ~Limit();
    Limit(const Limit&) = delete;
    Limit& operator=(const Limit&) = delete;

    void Set(Duration from_now) {
      passed_ = false;
      until_ = MonoNow() + from_now;
      if (until_ < looked_at_) limits_.Place(*this);
    }
    void Clear() { until_ = MonoTime::max(); }
    // Whether the time last set was over before it was cleared.
    [[nodiscard]] bool passed() const { return passed_; }

   private:
    friend class TimeLimits;

    TimeLimits& limits_;
    const std::function<void()> cut_;
    MonoTime until_ = MonoTime::max();
    MonoTime looked_at_ = MonoTime::max();  // the time of its place; max: it has none
    bool passed_ = false;
    Limit** to_this_ = nullptr;  // what points to it: the place, or the one before it
    Limit* after_ = nullptr;
  };

  explicit TimeLimits(net::io_context& io) : timer_(io) {}
  TimeLimits(const TimeLimits&) = delete;
  TimeLimits& operator=(const TimeLimits&) = delete;

 private:
  static constexpr size_t kPlaces = 1024;
  [[nodiscard]] static size_t PlaceOf(int64_t tick) { return static_cast<size_t>(tick) % kPlaces; }

  // In the place for its time.
  void Place(Limit& limit);
  // Out of its place, if it has one.
  void Remove(Limit& limit);
  // Wakes up for the first place that is taken.
  void Arm();
  void Look();
  void LookAt(int64_t tick);
  // The first tick behind looked_ whose place is taken.
  [[nodiscard]] std::optional<int64_t> NextTick() const;

  net::steady_timer timer_;
  size_t placed_ = 0;                           // limits that have a place
  int64_t looked_ = 0;                          // the last tick whose place was looked at
  int64_t armed_for_ = 0;                       // the tick that the timer waits for; 0: it does not
  std::array<Limit*, kPlaces> places_{};        // lists; of tick t: t % kPlaces
  std::array<uint64_t, kPlaces / 64> taken_{};  // a bit for each that is not empty
};

}  // namespace conductor::proxy

#endif  // CONDUCTOR_DAEMON_PROXY_TIME_LIMITS_H_
