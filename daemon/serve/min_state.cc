#include "daemon/serve/min_state.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "daemon/serve/answers.h"

namespace conductor::serve {
namespace {

constexpr std::array kAll = {MinState::kLive,     MinState::kReplaying, MinState::kIncomplete,
                             MinState::kDoubtful, MinState::kStale,     MinState::kAny};

MinState Needed(const stream::Trust& trust) {
  switch (trust.state) {
    case stream::TrustState::kLive:
      return MinState::kLive;
    case stream::TrustState::kReplaying:
      return MinState::kReplaying;
    case stream::TrustState::kDegraded:
      return trust.reason == "incomplete" ? MinState::kIncomplete : MinState::kDoubtful;
    case stream::TrustState::kStale:
      return MinState::kStale;
    case stream::TrustState::kConnecting:
      return MinState::kAny;
  }
  return MinState::kAny;
}

}  // namespace

std::string_view MinStateName(MinState state) {
  switch (state) {
    case MinState::kLive:
      return "live";
    case MinState::kReplaying:
      return "replaying";
    case MinState::kIncomplete:
      return "incomplete";
    case MinState::kDoubtful:
      return "doubtful";
    case MinState::kStale:
      return "stale";
    case MinState::kAny:
      return "any";
  }
  return "";
}

Result<MinState> ParseMinState(std::string_view text) {
  if (text == "connecting") return MinState::kAny;
  for (const MinState state : kAll) {
    if (text == MinStateName(state)) return state;
  }
  return Fail(fmt::format("'{}' is not a state", text), {},
              "live, replaying, incomplete, doubtful, stale or any");
}

bool Suffices(const stream::Trust& trust, MinState least) { return Needed(trust) <= least; }

void ApplyMinState(MinState least, Answer& answer) {
  for (InstanceAnswer& instance : answer.instances) {
    if (Suffices(*instance.trust, least)) continue;
    instance.best = {};
    for (auto& [rank, figures] : instance.ranks) figures = {};
  }
  std::ranges::stable_partition(answer.instances, [](const InstanceAnswer& instance) {
    return instance.longest_matched() > 0;
  });
}

}  // namespace conductor::serve
