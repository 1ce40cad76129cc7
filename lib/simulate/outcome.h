#ifndef CONDUCTOR_LIB_SIMULATE_OUTCOME_H_
#define CONDUCTOR_LIB_SIMULATE_OUTCOME_H_

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "lib/base/clock.h"
#include "lib/base/result.h"
#include "lib/simulate/fleet_model.h"
#include "lib/simulate/router.h"
#include "lib/simulate/tiered_cache.h"

namespace conductor::simulate {

// The course of one request.
struct RequestRecord {
  uint64_t line = 0;  // in the trace
  size_t target = 0;
  Duration arrival{};      // since the first arrival, as all times
  Duration start{};        // of its prefill
  Duration first_token{};  // its prefill's end
  Duration end{};
  uint64_t prompt = 0;  // tokens
  uint64_t answer = 0;
  std::array<uint64_t, kTierCount> hits{};  // tokens, each by the tier that it came from
  uint64_t computed = 0;                    // tokens of the prompt
  // How often it did; once.
  uint32_t starts = 0;
  uint32_t ends = 0;
};

// What a rank did.
struct RankRecord {
  uint64_t requests = 0;  // that were sent to it
  Duration busy{};        // in prefill
  std::array<TieredCache::TierCounters, kTierCount> tiers;
  std::array<uint64_t, kTierCount> recounted{};  // blocks, by a walk
  // Blocks by the router's index, where the policy keeps one.
  std::optional<std::array<uint64_t, kTierCount>> indexed;
};

// An engine has one request more, or one less, that waits or runs.
struct LoadChange {
  Duration time{};
  uint32_t engine = 0;
  int32_t by = 0;  // 1 or -1
};

// One policy's run, as it was recorded.
struct Outcome {
  Policy policy{};
  Duration wall{};                      // from the first arrival to the last end
  std::vector<RequestRecord> requests;  // in the order of arrival
  std::vector<RankRecord> ranks;        // by target
  std::vector<LoadChange> load;         // in the order of time
  uint64_t unplaced = 0;                // RouterView::Unplaced()
};

// What must be true of a run whatever the trace, the fleet and the policy; the first thing that is
// not is told. A broken one is a mistake in the simulation, and its figures mean nothing.
//
//   * each request starts and ends once, and not before it arrived;
//   * tokens hit + tokens computed = tokens of the prompt, request by request;
//   * each rank got the requests that are recorded for it, all together all;
//   * by rank and tier: blocks stored - evicted - moved up = blocks held, which a walk finds too,
//     and no more than there is room for;
//   * a rank's busy time is within the wall time;
//   * the router's index, once it has every event, holds what the caches hold.
[[nodiscard]] Status CheckConservation(const FleetModel& fleet, const Outcome& outcome);

// How times are spread, in seconds. Percentiles are of the nearest rank: times that occurred.
struct Spread {
  double mean = 0;
  double p50 = 0;
  double p90 = 0;
  double p99 = 0;
  double max = 0;
};

// How evenly work is spread over engines.
struct Balance {
  double max_over_mean = 1;  // 1: evenly
  double variation = 0;      // standard deviation / mean
};

// What a person compares.
struct Summary {
  uint64_t requests = 0;
  uint64_t prompt_tokens = 0;
  std::array<uint64_t, kTierCount> hit_tokens{};
  uint64_t computed_tokens = 0;
  uint64_t answer_tokens = 0;
  std::array<uint64_t, kTierCount> evicted_blocks{};
  Spread queueing;        // from arrival to the prefill's start
  Spread ttft;            // from arrival to the first token
  Balance busy;           // by time in prefill, over engines
  Balance sent;           // by requests, over engines
  double busy_share = 0;  // of all ranks' time, in prefill
  double seconds = 0;     // the wall time

  [[nodiscard]] double HitRate() const;  // of the prompts' tokens, 0 to 1
  [[nodiscard]] double HitRate(Tier tier) const;
};

[[nodiscard]] Summary Summarize(const FleetModel& fleet, const Outcome& outcome);

// Exposed for its tests. `seconds` in any order.
[[nodiscard]] Spread SpreadOf(std::vector<double> seconds);
[[nodiscard]] Balance BalanceOf(std::span<const double> work);

}  // namespace conductor::simulate

#endif  // CONDUCTOR_LIB_SIMULATE_OUTCOME_H_
