#ifndef CONDUCTOR_DAEMON_PROXY_PARCEL_H_
#define CONDUCTOR_DAEMON_PROXY_PARCEL_H_

#include <memory>
#include <optional>
#include <utility>

#include "daemon/proxy/asio.h"
#include "daemon/proxy/departure.h"
#include "lib/base/clock.h"

namespace conductor::proxy {

// A value that another thread, or another coroutine, hands to one that waits for it.
template <typename T>
class Parcel : public std::enable_shared_from_this<Parcel<T>> {
 public:
  // `io`: where it is waited for.
  explicit Parcel(net::io_context& io) : io_(io), timer_(io) {}

  // Any thread; the first one counts.
  void Deliver(T value) {
    net::post(io_, [self = this->shared_from_this(), moved = std::move(value)]() mutable {
      if (!self->value_) self->value_ = std::move(moved);
      self->timer_.cancel();
    });
  }

  // On the thread of `io`. Nothing when the time is over or `departure` has happened.
  [[nodiscard]] Awaitable<std::optional<T>> Wait(Departure& departure, Duration limit) {
    const Departure::Listener leaves(departure, [this] { timer_.cancel(); });
    timer_.expires_after(std::chrono::duration_cast<net::steady_timer::duration>(limit));
    error_code ignored;
    if (!value_ && !departure.happened()) co_await timer_.async_wait(Into(ignored));
    co_return std::exchange(value_, std::nullopt);
  }

 private:
  net::io_context& io_;
  net::steady_timer timer_;  // cancelled by the delivery
  std::optional<T> value_;
};

}  // namespace conductor::proxy

#endif  // CONDUCTOR_DAEMON_PROXY_PARCEL_H_
