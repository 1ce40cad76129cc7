// Any bytes decoded in every dialect, and what every batch must be whatever was read.

#include <cmath>
#include <string>
#include <variant>

#include "fuzz_target.h"
#include "lib/wire/decoder.h"
#include "lib/wire/peek_rank.h"
#include "lib/wire/timestamp.h"

namespace conductor::wire {
namespace {

using fuzz::Require;

void Check(const BlockStored& event) {
  Require(event.extra_keys.empty() || event.extra_keys.size() == event.hashes.size(),
          "extra keys are one entry a hash, or none");
}
void Check(const BlockRemoved&) {}
void Check(const AllBlocksCleared&) {}
void Check(const ObjectStored&) {}
void Check(const ObjectRemoved&) {}
void Check(const ScopeCleared&) {}

void Check(const EventBatch& batch) {
  uint64_t skipped = 0;
  for (const auto& [reason, count] : batch.skipped) {
    Require(!SkipReasonName(reason).empty(), "every reason has a name");
    skipped += count;
  }
  Require(batch.skips.size() == std::min<uint64_t>(skipped, EventBatch::kMaxSkips),
          "the first skips are told, all are counted");
  for (const Skip& skip : batch.skips) {
    Require(!skip.message.empty() && !skip.Describe().empty(), "a skip says why");
  }
  for (const KvEvent& event : batch.events) {
    std::visit([](const auto& one) { Check(one); }, event);
  }
}

}  // namespace
}  // namespace conductor::wire

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using conductor::fuzz::Require;
  namespace wire = conductor::wire;
  const std::string_view payload(reinterpret_cast<const char*>(data), size);
  const auto time = wire::PeekTimestamp(payload);
  const auto rank = wire::PeekRank(payload);
  for (const wire::Dialect dialect :
       {wire::Dialect::kVllm, wire::Dialect::kVllmAscend, wire::Dialect::kSglang,
        wire::Dialect::kLmcache, wire::Dialect::kTensorRtLlm, wire::Dialect::kRfc1527,
        wire::Dialect::kMooncake}) {
    const auto batch = wire::Decoder(dialect).Decode(payload);
    if (!batch) {
      Require(!batch.error().what.empty(), "an error says what is wrong");
      continue;
    }
    wire::Check(*batch);
    Require(!time || *time == batch->timestamp || std::isnan(*time),
            "both readers of the time read the same");
    Require(!batch->dp_rank || !rank || *batch->dp_rank == *rank,
            "both readers of the rank read the same");
  }
  return 0;
}
