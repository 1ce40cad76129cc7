#ifndef CONDUCTOR_DAEMON_PROXY_DEPARTURE_H_
#define CONDUCTOR_DAEMON_PROXY_DEPARTURE_H_

#include <functional>
#include <utility>
#include <vector>

namespace conductor::proxy {

// Tells everything that works for a request that it is not wanted any more: its client has left, or
// the other leg has failed. What waits ends at once, whatever it waits for. One thread.
class Departure {
 public:
  // Calls `leave` when it happens, at most once, unless it is destroyed before. After the
  // departure it calls it at once.
  class Listener {
   public:
    Listener(Departure& departure, std::function<void()> leave)
        : departure_(departure), leave_(std::move(leave)) {
      if (departure_.happened_) {
        leave_();
      } else {
        departure_.listeners_.push_back(this);
      }
    }
    ~Listener() { std::erase(departure_.listeners_, this); }
    Listener(const Listener&) = delete;
    Listener& operator=(const Listener&) = delete;

   private:
    friend class Departure;
    Departure& departure_;
    const std::function<void()> leave_;
  };

  Departure() = default;
  Departure(const Departure&) = delete;
  Departure& operator=(const Departure&) = delete;

  void Happen() {
    if (std::exchange(happened_, true)) return;
    // One that is called may destroy others.
    while (!listeners_.empty()) {
      const Listener* const next = listeners_.back();
      listeners_.pop_back();
      next->leave_();
    }
  }
  [[nodiscard]] bool happened() const { return happened_; }

 private:
  bool happened_ = false;
  std::vector<Listener*> listeners_;
};

}  // namespace conductor::proxy

#endif  // CONDUCTOR_DAEMON_PROXY_DEPARTURE_H_
