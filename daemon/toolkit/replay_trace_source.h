#ifndef CONDUCTOR_DAEMON_TOOLKIT_REPLAY_TRACE_SOURCE_H_
#define CONDUCTOR_DAEMON_TOOLKIT_REPLAY_TRACE_SOURCE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "daemon/toolkit/replay_source.h"
#include "lib/trace/simulated_engine.h"
#include "lib/trace/workload_trace.h"

namespace conductor::toolkit {

// A workload trace run by one simulated engine: a batch for each prompt that stored or evicted
// something, as vLLM encodes it, numbered from 0 and at the time of the trace. The same trace and
// options are the same bytes on every machine.
class TraceSource : public ReplaySource {
 public:
  // Unix seconds of a trace's zero: batches without a time of day would be batches without a time.
  static constexpr double kEpoch = 1'700'000'000;

  struct Options {
    std::string path;
    trace::SimulatedEngine::Options engine;
    ReadAs as;
    bool strict = false;  // a line that cannot be read ends the trace
  };

  [[nodiscard]] static Result<std::unique_ptr<TraceSource>> Open(const Options& options);
  // A trace that is in memory.
  TraceSource(trace::TraceReader reader, const Options& options);

  [[nodiscard]] const std::vector<SourcePublisher>& publishers() const override {
    return publishers_;
  }
  [[nodiscard]] Result<bool> Next(SourceFrame& frame) override;
  [[nodiscard]] std::optional<double> Progress() const override { return reader_.progress(); }
  [[nodiscard]] std::vector<std::string> Notes() const override;

 private:
  trace::TraceReader reader_;
  trace::SimulatedEngine engine_;
  std::vector<SourcePublisher> publishers_;
  uint64_t next_sequence_ = 0;
  uint64_t unchanged_ = 0;  // prompts that stored nothing
};

}  // namespace conductor::toolkit

#endif  // CONDUCTOR_DAEMON_TOOLKIT_REPLAY_TRACE_SOURCE_H_
