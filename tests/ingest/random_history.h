#ifndef CONDUCTOR_TESTS_INGEST_RANDOM_HISTORY_H_
#define CONDUCTOR_TESTS_INGEST_RANDOM_HISTORY_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "lib/ingest/publisher_ingest.h"
#include "lib/ingest/reference_model.h"
#include "lib/wire/kv_event.h"

namespace conductor::ingest {

// One thing that happens to one publisher. A step that makes no sense where it stands (the commit
// of no rebuild, a batch of an absent publisher) is to be left out, so any part of a history is a
// history.
struct Step {
  enum class Kind : uint8_t {
    kBatch,
    kNewLife,
    kBeginRebuild,
    kCommitRebuild,
    kAbandonRebuild,
    kLeave,
    kReturn,
  };
  Kind kind = Kind::kBatch;
  uint32_t publisher = 0;
  wire::EventBatch batch;
};

struct History {
  std::vector<PublisherProfile> publishers;  // all there from the beginning
  size_t released_limit = 0;
  std::vector<Step> steps;
  std::vector<std::vector<PromptBlock>> probes;  // in blocks of kUnit tokens
};

// Tokens of the smallest block; all block sizes but bad ones are multiples of it.
inline constexpr uint32_t kUnit = 2;

// A history that depends on the seed alone: a few publishers that store, offload, evict, clear,
// restart and leave over a handful of prompts which share prefixes, out of order, with holes,
// repetitions and mistakes. Each seed has its own subset of the features, so that some are simple.
[[nodiscard]] History MakeHistory(uint64_t seed);

// `prompt` in blocks of `block_size` tokens, a multiple of kUnit; extra keys are those of each
// block's first unit.
[[nodiscard]] std::vector<PromptBlock> Regroup(const std::vector<PromptBlock>& prompt,
                                               uint32_t block_size);

// For people.
[[nodiscard]] std::string Describe(const PublisherProfile& profile);
[[nodiscard]] std::string Describe(const Step& step);

}  // namespace conductor::ingest

#endif  // CONDUCTOR_TESTS_INGEST_RANDOM_HISTORY_H_
