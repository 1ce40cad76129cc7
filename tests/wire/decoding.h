#ifndef CONDUCTOR_TESTS_WIRE_DECODING_H_
#define CONDUCTOR_TESTS_WIRE_DECODING_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "lib/wire/decoder.h"
#include "payloads.h"

namespace conductor::wire {

inline EventBatch DecodeAs(Dialect dialect, const std::string& payload) {
  Decoder decoder(dialect);
  auto batch = decoder.Decode(payload);
  EXPECT_TRUE(batch) << batch.error().Message();
  return batch ? std::move(*batch) : EventBatch();
}

// The batch with this one event.
inline EventBatch DecodeEventAs(Dialect dialect, const nlohmann::json& event) {
  return DecodeAs(dialect,
                  Msgpack(nlohmann::json::array({1.5, nlohmann::json::array({event}), 0})));
}
inline EventBatch DecodeEventAs(Dialect dialect, const char* event) {
  return DecodeEventAs(dialect, nlohmann::json::parse(event));
}

// The only event of the batch.
template <typename Event>
Event Only(const EventBatch& batch) {
  EXPECT_EQ(batch.events.size(), 1u) << (batch.skips.empty() ? "" : batch.skips.front().message);
  const auto* event = batch.events.empty() ? nullptr : std::get_if<Event>(&batch.events[0]);
  EXPECT_NE(event, nullptr);
  return event == nullptr ? Event() : *event;
}

inline uint64_t Skipped(const EventBatch& batch, SkipReason reason) {
  const auto found = batch.skipped.find(reason);
  return found == batch.skipped.end() ? 0 : found->second;
}

}  // namespace conductor::wire

#endif  // CONDUCTOR_TESTS_WIRE_DECODING_H_
