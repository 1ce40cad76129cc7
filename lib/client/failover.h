#ifndef CONDUCTOR_LIB_CLIENT_FAILOVER_H_
#define CONDUCTOR_LIB_CLIENT_FAILOVER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "lib/base/clock.h"

namespace conductor::client {

// Which of several conductors to ask. They are known by their place in the caller's list, which is
// their order of preference. One that failed is left out for a while, which doubles with each
// failure in a row and is spread by jitter, so that not all clients come back at once; then it is
// asked again, and is as good as before once it has answered. Pure: time and chance are handed in.
class Failover {
 public:
  struct Options {
    Duration backoff_min = std::chrono::milliseconds(200);  // left out at first
    Duration backoff_max = std::chrono::seconds(10);
  };

  // `random` gives numbers from 0 to below 1.
  Failover(size_t conductors, const Options& options, std::function<double()> random);

  // The first of `candidates` that is not left out; where all are, the one that comes back first.
  // Nothing when there is no candidate.
  [[nodiscard]] std::optional<size_t> Next(const std::vector<size_t>& candidates,
                                           MonoTime now) const;

  void Succeeded(size_t conductor);
  void Failed(size_t conductor, MonoTime now);

  [[nodiscard]] bool IsLeftOut(size_t conductor, MonoTime now) const;

 private:
  struct Health {
    uint32_t failures = 0;  // in a row
    MonoTime back;          // where there are any
  };

  Options options_;
  std::function<double()> random_;
  std::vector<Health> health_;
};

}  // namespace conductor::client

#endif  // CONDUCTOR_LIB_CLIENT_FAILOVER_H_
