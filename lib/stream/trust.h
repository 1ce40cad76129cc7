#ifndef CONDUCTOR_LIB_STREAM_TRUST_H_
#define CONDUCTOR_LIB_STREAM_TRUST_H_

#include <cstdint>
#include <string>
#include <string_view>

namespace conductor::stream {

// A frame's number in its publisher's stream.
enum class Sequence : uint64_t {};

// How far what a publisher told can be trusted; Worse() below orders it.
enum class TrustState : uint8_t {
  kConnecting,  // never heard of yet, and why
  kReplaying,   // catching up: figures can only be too low, or are the last complete ones
  kLive,        // every event of this life up to the cursor is applied, nothing newer is known of
  kDegraded,    // reason "incomplete": too low at most; "doubtful": may be too high, and
                // "shared_endpoint" too: events cannot be told apart from another publisher's
  kStale,       // out of reach, or restored and not yet confirmed
};

// "connecting", "replaying", "live", "degraded", "stale".
[[nodiscard]] std::string_view TrustStateName(TrustState state);

struct Trust {
  TrustState state = TrustState::kConnecting;
  // One word for programs, empty when live and replaying:
  //   connecting  "not_connected" (being tried), "unreachable", "not_zmtp", "no_events_yet"
  //   degraded    "incomplete", "doubtful", "shared_endpoint"
  //   stale       "unreachable", "not_zmtp", "no_answer", "unconfirmed"
  std::string reason;
  // One sentence for people: what happened, to which endpoint, what to do.
  std::string detail;

  friend bool operator==(const Trust&, const Trust&) = default;
};

// True when `a` says less than `b`: live < replaying < degraded incomplete < connecting <
// degraded doubtful or shared_endpoint < stale, from the best to the worst.
[[nodiscard]] bool Worse(const Trust& a, const Trust& b);

}  // namespace conductor::stream

#endif  // CONDUCTOR_LIB_STREAM_TRUST_H_
