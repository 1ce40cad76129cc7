#ifndef CONDUCTOR_TESTS_INGEST_POOL_HISTORY_H_
#define CONDUCTOR_TESTS_INGEST_POOL_HISTORY_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "lib/hash/block_hash.h"
#include "lib/ingest/pool_ingest.h"
#include "lib/ingest/publisher_ingest.h"
#include "lib/wire/kv_event.h"
#include "tests/ingest/pool_model.h"

namespace conductor::ingest {

// One thing that happens to an engine or to a pool, by their position in the history's lists.
struct PoolStep {
  enum class Kind : uint8_t {
    kEngineBatch,
    kEngineNewLife,
    kPoolBatch,
    kPoolNewLife,
    kPoolLeaves,
    kPoolReturns,
    kBeginListing,
    kApplyListing,
    kAbandonListing,
    kTiersLearnt,
  };
  Kind kind = Kind::kEngineBatch;
  uint32_t whose = 0;
  wire::EventBatch batch;
  std::vector<ListedObject> listed;
};

struct PoolProbe {
  std::string lora_name;
  PoolModel::Tokens tokens;
  std::vector<EngineHash> names;  // what its blocks are called under any declared profile
};

// What engines and the pools that they store to announce in an order that may happen, with the
// mistakes of real masters in it, and prompts to compare answers for.
struct PoolHistory {
  std::vector<PublisherProfile> engines;
  std::vector<PoolProfile> pools;
  KeyBook book;
  std::vector<PoolStep> steps;
  std::vector<PoolProbe> probes;
};

inline constexpr uint32_t kPoolBlock = 2;  // tokens

[[nodiscard]] PoolHistory MakePoolHistory(uint64_t seed);

// For people.
[[nodiscard]] std::string Describe(const PoolProfile& profile);
[[nodiscard]] std::string Describe(const PoolStep& step);

}  // namespace conductor::ingest

#endif  // CONDUCTOR_TESTS_INGEST_POOL_HISTORY_H_
