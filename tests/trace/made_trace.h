#ifndef CONDUCTOR_TESTS_TRACE_MADE_TRACE_H_
#define CONDUCTOR_TESTS_TRACE_MADE_TRACE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "lib/trace/workload.h"
#include "lib/trace/workload_trace.h"

namespace conductor::trace {

struct MadeTraceOptions {
  Workload::Options workload;
  uint64_t seed = 1;  // of times and answers
  uint32_t requests = 200;
  uint32_t id_block = 512;
  double requests_per_second = 4;  // on average, at random moments
  uint32_t output = 64;            // tokens, on average
};

// A trace of the prompts that a Workload makes up: equal leading tokens have equal ids.
[[nodiscard]] std::vector<TraceRequest> MakeTrace(const MadeTraceOptions& options);

// A request as a line of a trace, without its end.
[[nodiscard]] std::string TraceLine(const TraceRequest& request, TraceForm form);

// All lines.
[[nodiscard]] std::string TraceText(const std::vector<TraceRequest>& requests, TraceForm form);

}  // namespace conductor::trace

#endif  // CONDUCTOR_TESTS_TRACE_MADE_TRACE_H_
