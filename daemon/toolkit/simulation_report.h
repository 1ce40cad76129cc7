#ifndef CONDUCTOR_DAEMON_TOOLKIT_SIMULATION_REPORT_H_
#define CONDUCTOR_DAEMON_TOOLKIT_SIMULATION_REPORT_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/toolkit/simulate.h"
#include "daemon/toolkit/terminal.h"
#include "lib/simulate/outcome.h"
#include "lib/trace/workload_trace.h"

namespace conductor::toolkit {

// All that a simulation found.
struct SimulationReport {
  struct Run {
    simulate::Outcome outcome;
    simulate::Summary summary;
  };

  SimulateOptions options;
  std::vector<std::string> traces;  // files
  trace::TraceForm form{};
  trace::TraceCounters lines;  // of all files
  uint64_t refused = 0;        // requests that no rank has the blocks for
  std::vector<Run> runs;       // by policy
};

// Tables for people.
[[nodiscard]] std::string SimulationTables(const SimulationReport& report,
                                           const Terminal& terminal);

// The JSON document of docs/simulation.md, with its line's end.
[[nodiscard]] std::string SimulationDocument(const SimulationReport& report);

// The plots: an SVG document that needs nothing beside it. How times to the first token are spread,
// hits by tier, and the engines' load over time, policy beside policy.
[[nodiscard]] std::string SimulationPlots(const SimulationReport& report);

// "0.42 s", "12.3 s", "1,234 s".
[[nodiscard]] std::string ShowSeconds(double seconds);

}  // namespace conductor::toolkit

#endif  // CONDUCTOR_DAEMON_TOOLKIT_SIMULATION_REPORT_H_
