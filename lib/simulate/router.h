#ifndef CONDUCTOR_LIB_SIMULATE_ROUTER_H_
#define CONDUCTOR_LIB_SIMULATE_ROUTER_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <string_view>
#include <vector>

#include "lib/base/result.h"
#include "lib/index/score.h"
#include "lib/simulate/fleet_model.h"
#include "lib/simulate/prepared_trace.h"
#include "lib/simulate/router_view.h"

namespace conductor::simulate {

// Where a request is sent. All send to a rank of an engine; all that is equal is drawn by lot.
enum class Policy : uint8_t {
  kRoundRobin,     // to each in turn
  kLeastLoaded,    // where the fewest requests wait or run
  kLongestPrefix,  // where the longest prefix is cached on any tier; of these the least loaded
  kScore,          // the best by index::Rank, as conductor answers /v1/score
};

inline constexpr std::array<Policy, 4> kPolicies = {Policy::kRoundRobin, Policy::kLeastLoaded,
                                                    Policy::kLongestPrefix, Policy::kScore};

// "round-robin", "least-loaded", "longest-prefix", "score".
[[nodiscard]] std::string_view PolicyName(Policy policy);
[[nodiscard]] Result<Policy> ParsePolicy(std::string_view name);

// "gpu=1,cpu=0.8,disk=0.5,waiting=0.5,kv=0.2": weights that are named take the place of the
// defaults. Numbers of 0 or more.
[[nodiscard]] Result<index::ScoreWeights> ParseScoreWeights(std::string_view text);

// What a router knows of a rank's load: it has sent the requests there and seen them end.
struct RankLoad {
  size_t requests = 0;  // that wait or run
  double kv_use = 0;    // 0 to 1
};

// Decides by one policy. The same seed and questions give the same answers on every machine.
class Router {
 public:
  // `view` must outlive it. Policies that do not look at caches never ask it.
  Router(Policy policy, const index::ScoreWeights& weights, const FleetModel& fleet, uint64_t seed,
         RouterView& view);

  // The target for a request that arrives now; loads.size() is the fleet's targets.
  [[nodiscard]] size_t Choose(const PreparedRequest& request, Duration now,
                              std::span<const RankLoad> loads);

 private:
  [[nodiscard]] size_t LeastLoaded(std::span<const RankLoad> loads);
  [[nodiscard]] size_t LongestPrefix(std::span<const index::RankMatch> held,
                                     std::span<const RankLoad> loads);
  [[nodiscard]] size_t BestScore(const PreparedRequest& request,
                                 std::span<const index::RankMatch> held,
                                 std::span<const RankLoad> loads);
  // One of them; there is one.
  [[nodiscard]] size_t Draw(std::span<const size_t> equals);

  const Policy policy_;
  const index::ScoreWeights weights_;
  const FleetModel fleet_;
  RouterView& view_;
  std::mt19937_64 random_;
  size_t turn_ = 0;
};

}  // namespace conductor::simulate

#endif  // CONDUCTOR_LIB_SIMULATE_ROUTER_H_
