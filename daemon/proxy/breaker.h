#ifndef CONDUCTOR_DAEMON_PROXY_BREAKER_H_
#define CONDUCTOR_DAEMON_PROXY_BREAKER_H_

#include <cstdint>

#include "lib/base/clock.h"

namespace conductor::proxy {

// Whether an engine is worth asking. After some failures in a row it is left alone for a while;
// then one request goes there as a probe, and what becomes of it decides: all requests again, or
// none for twice the time. Failures are the engine's own: it cannot be reached, does not answer,
// breaks off, says 502, 503 or 504. What it refuses (4xx) shows that it is well. Pure.
class Breaker {
 public:
  struct Options {
    uint32_t failures = 3;  // in a row, until it opens
    Duration pause = std::chrono::seconds(5);
    Duration max_pause = std::chrono::seconds(60);
  };
  enum class State : uint8_t { kClosed, kOpen, kHalfOpen };

  explicit Breaker(const Options& options) : options_(options), pause_(options.pause) {}

  [[nodiscard]] State state(MonoTime now) const {
    if (!open_) return State::kClosed;
    return now < until_ ? State::kOpen : State::kHalfOpen;
  }
  // Whether a request may go there. Where it does, Begin() is called, and then one of the three
  // others, once.
  [[nodiscard]] bool Admits(MonoTime now) const {
    const State is = state(now);
    return is == State::kClosed || (is == State::kHalfOpen && !probing_);
  }
  // How long nothing goes there; 0: something may now, or when a probe is over.
  [[nodiscard]] Duration Left(MonoTime now) const {
    return open_ && now < until_ ? Duration(until_ - now) : Duration(0);
  }

  // True: the request is the probe.
  bool Begin(MonoTime now) {
    if (state(now) != State::kHalfOpen) return false;
    probing_ = true;
    return true;
  }
  void Succeeded() {
    open_ = probing_ = false;
    in_a_row_ = 0;
    pause_ = options_.pause;
  }
  void Failed(MonoTime now, bool was_probe) {
    if (was_probe) probing_ = false;
    ++in_a_row_;
    if (was_probe) {
      pause_ = pause_ * 2 < options_.max_pause ? pause_ * 2 : options_.max_pause;
    } else if (open_ || in_a_row_ < options_.failures) {
      return;  // one that was on its way when it opened says nothing new
    }
    open_ = true;
    until_ = now + pause_;
  }
  // Nothing was learnt: the client left.
  void Undecided(bool was_probe) {
    if (was_probe) probing_ = false;
  }

 private:
  Options options_;
  Duration pause_;
  bool open_ = false;
  bool probing_ = false;
  uint32_t in_a_row_ = 0;
  MonoTime until_;
};

}  // namespace conductor::proxy

#endif  // CONDUCTOR_DAEMON_PROXY_BREAKER_H_
