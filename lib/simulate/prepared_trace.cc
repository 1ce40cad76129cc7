#include "lib/simulate/prepared_trace.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace conductor::simulate {
namespace {

// What a Duration holds is three times as much.
constexpr double kMostSeconds = 100.0 * 366 * 86400;

// No run lasts longer, whatever is sent where.
double LongestRun(const PreparedTrace& trace, const FleetModel& fleet) {
  double seconds = std::chrono::duration<double>(trace.requests.back().arrival).count();
  const double load = std::chrono::duration<double>(std::max(fleet.load[1], fleet.load[2])).count();
  const double overhead = std::chrono::duration<double>(fleet.prefill_overhead).count();
  for (const PreparedRequest& prepared : trace.requests) {
    seconds += overhead + load * prepared.blocks + prepared.request.input / fleet.prefill_speed +
               prepared.request.output / fleet.decode_speed;
  }
  return seconds;
}

}  // namespace

Result<PreparedTrace> Prepare(std::vector<trace::TraceRequest> requests, const FleetModel& fleet,
                              double rate_scale) {
  PreparedTrace trace;
  trace.requests.reserve(requests.size());
  const uint32_t room = fleet.blocks[static_cast<size_t>(Tier::kGpu)];
  uint64_t most = 0;
  const Duration first = requests.empty() ? Duration{} : requests.front().arrival;
  for (trace::TraceRequest& request : requests) {
    const uint64_t tokens = uint64_t{request.input} + request.output;
    const uint64_t blocks = (tokens + fleet.block_size - 1) / fleet.block_size;
    most = std::max(most, blocks);
    if (blocks > room) {
      trace.refused.push_back(request.line);
      continue;
    }
    PreparedRequest& prepared = trace.requests.emplace_back();
    const double arrival = static_cast<double>((request.arrival - first).count()) / rate_scale;
    prepared.arrival = Duration(static_cast<Duration::rep>(std::min(arrival, 2e9 * kMostSeconds)));
    prepared.blocks = static_cast<uint32_t>(blocks);
    prepared.chain.resize(request.input / fleet.block_size);
    hash::HashChain(trace::TraceTokens(request), fleet.block_size, nullptr, hash::kDefaultSeed,
                    prepared.chain);
    prepared.request = std::move(request);
  }
  if (trace.requests.empty()) {
    return Fail("no request fits the device's blocks of a rank", {},
                fmt::format("at least {} blocks on gpu for all of the trace", most));
  }
  if (LongestRun(trace, fleet) > kMostSeconds) {
    return Fail("the simulated time may last for more than a hundred years", {},
                "higher speeds, or fewer requests");
  }
  return trace;
}

EngineHash NameOf(PrefixHash hash) {
  // An odd factor: each product has one hash.
  return EngineHash{static_cast<uint64_t>(hash) * 0x9e3779b97f4a7c15};
}

}  // namespace conductor::simulate
