#ifndef CONDUCTOR_DAEMON_SERVE_HTTP_BODY_BUDGET_H_
#define CONDUCTOR_DAEMON_SERVE_HTTP_BODY_BUDGET_H_

#include <atomic>
#include <cstdint>
#include <utility>

namespace conductor::serve {

// The bytes that the bodies of all requests together may have, from a body's first byte until its
// request is handled. Without it a limit for each body would only bound one connection's memory.
// Thread-safe.
class HttpBodyBudget {
 public:
  explicit HttpBodyBudget(uint64_t bytes) : bytes_(bytes) {}

  [[nodiscard]] uint64_t bytes() const { return bytes_; }
  [[nodiscard]] uint64_t taken() const { return taken_.load(std::memory_order_relaxed); }

  // One request's part, given back at its end.
  class Share {
   public:
    explicit Share(HttpBodyBudget& budget) : budget_(budget) {}
    ~Share() { GiveBack(); }
    Share(const Share&) = delete;
    Share& operator=(const Share&) = delete;

    // False, and nothing taken, when it is not there.
    [[nodiscard]] bool Take(uint64_t bytes) {
      uint64_t taken = budget_.taken();
      do {
        if (bytes > budget_.bytes_ - taken) return false;
      } while (
          !budget_.taken_.compare_exchange_weak(taken, taken + bytes, std::memory_order_relaxed));
      taken_ += bytes;
      return true;
    }

    void GiveBack() {
      budget_.taken_.fetch_sub(std::exchange(taken_, 0), std::memory_order_relaxed);
    }

   private:
    HttpBodyBudget& budget_;
    uint64_t taken_ = 0;
  };

 private:
  const uint64_t bytes_;
  std::atomic<uint64_t> taken_ = 0;  // <= bytes_; only counted with, nothing is published by it
};

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_HTTP_BODY_BUDGET_H_
