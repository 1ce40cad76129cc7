#ifndef CONDUCTOR_DAEMON_SERVE_CHURN_H_
#define CONDUCTOR_DAEMON_SERVE_CHURN_H_

#include <cstddef>
#include <cstdint>
#include <deque>

#include "lib/base/clock.h"

namespace conductor::serve {

// Blocks that a publisher stored and removed, ever: from its IngestCounters.
struct BlockCounts {
  uint64_t stored = 0;
  uint64_t removed = 0;
};

// How fast these counts grow, from looks at them at regular moments: events cost nothing for it.
//
// Designed for a look every kChurnStep: five minutes are 61 looks, 1.5 KB a publisher.
class Churn {
 public:
  // Counting began at `begin` with zeros.
  explicit Churn(MonoTime begin) : looks_{{begin, {}}} {}

  // `now` never falls.
  void Look(MonoTime now, const BlockCounts& counts);

  struct Rate {
    double stored = 0;  // blocks a second
    double removed = 0;
  };
  // Over the last `window` (up to kChurnMemory), or since the beginning where that is later, but
  // over a second at least. `counts` are those at `now`.
  [[nodiscard]] Rate Over(Duration window, MonoTime now, const BlockCounts& counts) const;

 private:
  struct At {
    MonoTime time;
    BlockCounts counts;
  };
  std::deque<At> looks_;  // oldest first; never empty
};

inline constexpr Duration kChurnStep = std::chrono::seconds(5);
inline constexpr Duration kChurnMemory = std::chrono::minutes(5);

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_CHURN_H_
