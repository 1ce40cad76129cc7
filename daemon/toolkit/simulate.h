#ifndef CONDUCTOR_DAEMON_TOOLKIT_SIMULATE_H_
#define CONDUCTOR_DAEMON_TOOLKIT_SIMULATE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "lib/base/clock.h"
#include "lib/index/score.h"
#include "lib/simulate/fleet_model.h"
#include "lib/simulate/router.h"

namespace conductor::toolkit {

// `conductor replay TRACE --simulate`: what would cache-aware routing give for this traffic?

struct SimulateOptions {
  simulate::FleetModel fleet;
  std::vector<simulate::Policy> policies;  // compared in this order; empty: all
  index::ScoreWeights weights;             // of the policy `score`
  uint64_t seed = 1;
  Duration event_delay{};            // until the router knows what an engine announced
  double rate_scale = 1;             // requests come so much faster than in the trace; above 0
  uint64_t requests = 0;             // the first so many of the trace; 0: all
  std::optional<uint32_t> id_block;  // tokens that a hash id of the trace stands for
  bool strict = false;               // a line of the trace that cannot be read is fatal
  bool json = false;                 // one JSON document in place of the tables
  std::string svg;                   // a file for the plots; empty: none
};

// Reads the traces, which are taken together in the order of time, serves them under each policy
// and prints how that went. The process's exit code. docs/simulation.md has the JSON document.
[[nodiscard]] int RunSimulation(const SimulateOptions& options,
                                const std::vector<std::string>& traces);

}  // namespace conductor::toolkit

#endif  // CONDUCTOR_DAEMON_TOOLKIT_SIMULATE_H_
