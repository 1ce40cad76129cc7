#ifndef CONDUCTOR_TESTS_BENCH_FLEET_LOAD_H_
#define CONDUCTOR_TESTS_BENCH_FLEET_LOAD_H_

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "lib/base/result.h"
#include "lib/hash/block_hash.h"
#include "lib/wire/kv_event.h"
#include "router.h"

namespace conductor::bench {

// One request of a trace: when, and which blocks its prompt is made of.
struct TraceRequest {
  double seconds = 0;  // from the trace's start
  uint64_t prompt_tokens = 0;
  // Of Trace::block_tokens tokens each; equal leading ids are a shared prefix.
  std::vector<uint64_t> block_ids;
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

struct FleetOptions {
  uint32_t engines = 8;
  uint32_t capacity_blocks = 20'000;  // of each engine's cache
  uint32_t block_size = 16;           // tokens
  Placement placement = Placement::kCacheAware;
  uint64_t seed = 1;       // of the placement
  bool own_names = false;  // each engine calls a block by a name that no other engine has for it
};

// A router asks for a prompt, and then an engine runs it. When, is told by a Schedule.
struct Step {
  double seconds = 0;                 // of its request, in the trace's time
  uint32_t engine = 0;                // that runs it
  std::vector<TokenId> prompt;        // what is asked for; whole blocks
  std::vector<wire::KvEvent> events;  // what the engine announces; none: all was cached
  uint32_t prompt_blocks = 0;
  uint32_t event_blocks = 0;   // that the events store or remove
  uint32_t cached_blocks = 0;  // of the prompt, by its engine, before
  uint32_t held_blocks = 0;    // of the prompt, by the engine with most of it, before

  // Blocks that a lookup goes through when all earlier steps' events are in the index: those that
  // are held, and the one at which it ends.
  [[nodiscard]] uint32_t WalkBlocks() const { return std::min(prompt_blocks, held_blocks + 1); }
};

// The whole run, planned before it begins so that planning takes no time of it: where each request
// goes, and what its engine's least-recently-used cache stores and evicts for it. Engines run
// requests in the order of the trace. The same arguments give the same plan on every machine.
[[nodiscard]] std::vector<Step> Plan(const Trace& trace, const FleetOptions& options);

// Sums over all steps, in blocks.
struct Totals {
  uint64_t events = 0;
  uint64_t prompts = 0;
  uint64_t held = 0;
  uint64_t walks = 0;
};
[[nodiscard]] Totals Sum(const std::vector<Step>& steps);

}  // namespace conductor::bench

#endif  // CONDUCTOR_TESTS_BENCH_FLEET_LOAD_H_
