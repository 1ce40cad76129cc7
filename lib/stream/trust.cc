#include "lib/stream/trust.h"

namespace conductor::stream {
namespace {

// 0 is the best. A degraded state that does not say "incomplete" may have missed removals.
int Rank(const Trust& trust) {
  switch (trust.state) {
    case TrustState::kLive:
      return 0;
    case TrustState::kReplaying:
      return 1;
    case TrustState::kDegraded:
      return trust.reason == "incomplete" ? 2 : 4;
    case TrustState::kConnecting:
      return 3;
    case TrustState::kStale:
      return 5;
  }
  return 5;
}

}  // namespace

std::string_view TrustStateName(TrustState state) {
  switch (state) {
    case TrustState::kConnecting:
      return "connecting";
    case TrustState::kReplaying:
      return "replaying";
    case TrustState::kLive:
      return "live";
    case TrustState::kDegraded:
      return "degraded";
    case TrustState::kStale:
      return "stale";
  }
  return "unknown";
}

bool Worse(const Trust& a, const Trust& b) { return Rank(a) > Rank(b); }

}  // namespace conductor::stream
