#ifndef CONDUCTOR_TESTS_SERVE_FED_PUBLISHER_H_
#define CONDUCTOR_TESTS_SERVE_FED_PUBLISHER_H_

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "daemon/serve/registry.h"
#include "lib/base/clock.h"
#include "lib/wire/vllm_encoder.h"

namespace conductor::serve {

// An engine of which all that is known is handed in.
inline Registration Ingested(const std::string& instance) {
  Registration registration;
  registration.mode = stream::ListenMode::kIngest;
  registration.model = "m";
  registration.instance_id = instance;
  registration.block_size = 2;
  registration.incarnation = "run-1";
  return registration;
}

// A publisher with `batches` batches of one block each.
inline void Feed(Registry& registry, const Registration& registration, uint64_t batches) {
  std::vector<stream::Intake::Message> messages;
  for (uint64_t i = 0; i < batches; ++i) {
    wire::BlockStored stored;
    stored.hashes = {EngineHash{100 + i}};
    if (i > 0) stored.parent = EngineHash{99 + i};
    stored.tokens = {static_cast<TokenId>(i), 7};
    stored.block_size = 2;
    stored.medium = "GPU";
    wire::EventBatch batch;
    batch.timestamp = 1000.0 + static_cast<double>(i);
    batch.events.emplace_back(std::move(stored));
    messages.push_back({.topic = "", .sequence = i, .payload = wire::EncodeVllmBatch(batch)});
  }
  const auto ingested = registry.Ingest(registration, messages);
  ASSERT_TRUE(ingested) << ingested.error().Message();
  ASSERT_TRUE(registry.WaitApplied(registration.Key(), *ingested,
                                   MonoNow() + std::chrono::seconds(60), {}));
}

}  // namespace conductor::serve

#endif  // CONDUCTOR_TESTS_SERVE_FED_PUBLISHER_H_
