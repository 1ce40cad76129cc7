#include "daemon/toolkit/replay_trace_source.h"

#include <fmt/format.h>

#include <chrono>
#include <optional>
#include <utility>

#include "lib/base/bytes.h"
#include "lib/base/number.h"
#include "lib/wire/vllm_encoder.h"

namespace conductor::toolkit {

Result<std::unique_ptr<TraceSource>> TraceSource::Open(const Options& options) {
  auto reader = trace::TraceReader::Open(options.path, {.strict = options.strict});
  if (!reader) return tl::unexpected(std::move(reader.error()));
  return std::make_unique<TraceSource>(std::move(*reader), options);
}

TraceSource::TraceSource(trace::TraceReader reader, const Options& options)
    : reader_(std::move(reader)), engine_(options.engine) {
  ReadAs as = options.as;
  as.type = serve::PublisherType::kVllm;
  as.block_size = options.engine.block_size;
  SourcePublisher publisher = Described("simulated", as);
  publisher.has_live = true;
  publishers_.push_back(std::move(publisher));
}

Result<bool> TraceSource::Next(SourceFrame& frame) {
  while (true) {
    auto request = reader_.Next();
    if (!request) return tl::unexpected(std::move(request.error()));
    if (!*request) {
      if (reader_.counters().requests > 0 || reader_.counters().errors.empty()) return false;
      return tl::unexpected(reader_.counters().errors.front());
    }
    auto events = engine_.Run(trace::TraceTokens(**request));
    if (events.empty()) {
      ++unchanged_;
      continue;
    }
    const double at =
        kEpoch +
        std::chrono::duration_cast<std::chrono::duration<double>>((*request)->arrival).count();
    const std::string payload =
        wire::EncodeVllmBatch({.timestamp = at, .dp_rank = 0, .events = std::move(events)});
    const auto number = StoreBigEndian64(next_sequence_++);
    frame = {.at = at, .frames = {"", std::string(number.data(), number.size()), payload}};
    return true;
  }
}

std::vector<std::string> TraceSource::Notes() const {
  const trace::TraceCounters& counters = reader_.counters();
  std::vector<std::string> notes;
  notes.push_back(fmt::format("{} of a {} trace; {} of them found their prompt cached",
                              Counted(counters.requests, "request"),
                              reader_.form() ? trace::TraceFormName(*reader_.form()) : "workload",
                              unchanged_));
  if (counters.skipped > 0) {
    notes.push_back(fmt::format("{} skipped, the first: {}", Counted(counters.skipped, "line"),
                                counters.errors.front().Message()));
  }
  if (counters.went_back > 0) {
    notes.push_back(fmt::format("earlier than the one before: {}; the file's order is kept",
                                Counted(counters.went_back, "request")));
  }
  return notes;
}

}  // namespace conductor::toolkit
