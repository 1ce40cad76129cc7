#ifndef CONDUCTOR_DAEMON_TOOLKIT_REPLAY_PACE_H_
#define CONDUCTOR_DAEMON_TOOLKIT_REPLAY_PACE_H_

#include <optional>

#include "daemon/toolkit/replay_source.h"
#include "lib/base/clock.h"

namespace conductor::toolkit {

// About when a message was published, in Unix seconds: when it was received. What came in an answer
// to a replay request came all at once, and long after: of that it is the timestamp of its batch,
// where that is a time of the year before it was received.
[[nodiscard]] double PublishedAt(const SourceFrame& frame);

// When messages are due that are played at some times the pace at which they were published. They
// keep their order: one that was published before the one in front of it is due with that. No
// clock.
class Pace {
 public:
  // 0: as fast as it goes.
  explicit Pace(double speed) : speed_(speed) {}

  // The time from the first message to this one; of what is no message that of the one before.
  [[nodiscard]] Duration Due(const SourceFrame& frame);

 private:
  const double speed_;
  std::optional<double> first_;  // Unix seconds
  Duration last_{};
};

}  // namespace conductor::toolkit

#endif  // CONDUCTOR_DAEMON_TOOLKIT_REPLAY_PACE_H_
