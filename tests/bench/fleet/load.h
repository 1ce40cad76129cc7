#ifndef CONDUCTOR_TESTS_BENCH_FLEET_LOAD_H_
#define CONDUCTOR_TESTS_BENCH_FLEET_LOAD_H_

#include <cstdint>
#include <string>
#include <vector>

#include "lib/base/result.h"
#include "lib/hash/block_hash.h"
#include "lib/wire/kv_event.h"

namespace conductor::bench {

// One request of a trace: when, and which blocks its prompt is made of.
struct TraceRequest {
  double seconds = 0;  // from the trace's start
  uint64_t prompt_tokens = 0;
  std::vector<uint64_t>
      block_ids;  // of trace_block tokens each; equal leading ids: a shared prefix
};

struct Trace {
  uint32_t block_tokens = 512;  // that an id stands for
  std::vector<TraceRequest> requests;
};

// Reads the JSON lines of the Mooncake trace release: an object with timestamp (milliseconds),
// input_length (tokens) and hash_ids a line. Errors name the file and the line.
[[nodiscard]] Result<Trace> ReadTrace(const std::string& path);

// A trace of trace::Workload's chats, `requests` of them, one a millisecond.
[[nodiscard]] Trace MakeTrace(uint32_t requests, uint64_t seed);

enum class Placement : uint8_t { kRandom, kCacheAware };

struct FleetOptions {
  uint32_t engines = 8;
  uint32_t capacity_blocks = 20'000;  // of each engine's cache
  uint32_t block_size = 16;           // tokens
  Placement placement = Placement::kCacheAware;
  uint64_t seed = 1;
};

// What happens at one moment: a router asks for a prompt, then an engine runs it.
struct Step {
  double seconds = 0;                 // from the start, as the trace has it
  uint32_t engine = 0;                // that runs it
  std::vector<TokenId> prompt;        // what is asked for; whole blocks
  std::vector<wire::KvEvent> events;  // what it announces then; none: all was cached
  uint64_t event_blocks = 0;          // that these store or remove
  uint32_t cached_blocks = 0;         // of the prompt, by this engine, before
};

// The whole run, planned before it begins so that planning takes no time of it: where each request
// goes, and what its engine's least-recently-used cache stores and evicts for it.
[[nodiscard]] std::vector<Step> Plan(const Trace& trace, const FleetOptions& options);

}  // namespace conductor::bench

#endif  // CONDUCTOR_TESTS_BENCH_FLEET_LOAD_H_
