#ifndef CONDUCTOR_LIB_SIMULATE_SIMULATION_H_
#define CONDUCTOR_LIB_SIMULATE_SIMULATION_H_

#include <cstdint>

#include "lib/base/clock.h"
#include "lib/base/result.h"
#include "lib/index/score.h"
#include "lib/simulate/fleet_model.h"
#include "lib/simulate/outcome.h"
#include "lib/simulate/prepared_trace.h"
#include "lib/simulate/router.h"

namespace conductor::simulate {

struct RoutingOptions {
  Policy policy = Policy::kScore;
  index::ScoreWeights weights;  // of Policy::kScore
  uint64_t seed = 1;            // of the lots that are drawn among equals
  Duration event_delay{};       // until the router knows what an engine announced
};

// Serves a trace with a fleet under one policy: a discrete-event simulation, which no clock and no
// thread takes part in. The same arguments give the same outcome on every machine. An error is a
// broken CheckConservation(). Runs of several policies may run in several threads.
[[nodiscard]] Result<Outcome> Simulate(const PreparedTrace& trace, const FleetModel& fleet,
                                       const RoutingOptions& routing);

}  // namespace conductor::simulate

#endif  // CONDUCTOR_LIB_SIMULATE_SIMULATION_H_
