#ifndef CONDUCTOR_LIB_SIMULATE_PREPARED_TRACE_H_
#define CONDUCTOR_LIB_SIMULATE_PREPARED_TRACE_H_

#include <cstdint>
#include <vector>

#include "lib/base/clock.h"
#include "lib/base/result.h"
#include "lib/simulate/fleet_model.h"
#include "lib/trace/workload_trace.h"

namespace conductor::simulate {

// One request as a simulation needs it.
struct PreparedRequest {
  Duration arrival{};   // since the first arrival
  uint32_t blocks = 0;  // of prompt and answer together, the last one begun
  // Conductor's own hashes of the prompt's whole blocks. Its engines' names are NamesOf() them.
  std::vector<PrefixHash> chain;
  trace::TraceRequest request;
};

// What is the same for all policies, computed once.
struct PreparedTrace {
  std::vector<PreparedRequest> requests;  // in the order of arrival
  // Lines of requests that no rank has the blocks for: they take no part.
  std::vector<uint64_t> refused;
};

// `rate_scale`: how much faster requests arrive than in the trace; above 0. An error when no
// request is left, or a run might last for a hundred years.
[[nodiscard]] Result<PreparedTrace> Prepare(std::vector<trace::TraceRequest> requests,
                                            const FleetModel& fleet, double rate_scale);

// What simulated engines call a block: one to one with its hash, and another number.
[[nodiscard]] EngineHash NameOf(PrefixHash hash);

}  // namespace conductor::simulate

#endif  // CONDUCTOR_LIB_SIMULATE_PREPARED_TRACE_H_
