#ifndef CONDUCTOR_DAEMON_SERVE_MIN_STATE_H_
#define CONDUCTOR_DAEMON_SERVE_MIN_STATE_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "lib/base/result.h"
#include "lib/stream/trust.h"

namespace conductor::serve {

// The least trust in an instance with which the older answers, which have no room for a state, give
// its figures; below it they are zeros. From the strictest on, each with those before it.
enum class MinState : uint8_t {
  kLive,
  kReplaying,   // figures can only be too low, or are the last complete ones
  kIncomplete,  // figures can only be too low
  kDoubtful,    // degraded of any reason: figures may be too high
  kStale,       // out of reach, or restored and not yet confirmed
  kAny,         // "connecting" among them: it was never heard
};

// "live", "replaying", "incomplete", "doubtful", "stale", "any".
[[nodiscard]] std::string_view MinStateName(MinState state);
// These, or "connecting" for kAny.
[[nodiscard]] Result<MinState> ParseMinState(std::string_view text);

[[nodiscard]] bool Suffices(const stream::Trust& trust, MinState least);

struct Answer;

// Sets the figures of instances below `least` to zero. They stay in the answer, because clients
// look for every instance that they registered, and move behind the others.
void ApplyMinState(MinState least, Answer& answer);

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_MIN_STATE_H_
