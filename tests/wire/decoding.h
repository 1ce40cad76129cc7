#ifndef CONDUCTOR_TESTS_WIRE_DECODING_H_
#define CONDUCTOR_TESTS_WIRE_DECODING_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <initializer_list>
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

// An event that cannot be read, and what that costs.
struct LostCase {
  const char* event;
  const char* message;
  bool stores;
  bool removals;
};

inline void ExpectLost(Dialect dialect, std::initializer_list<LostCase> cases) {
  for (const LostCase& test : cases) {
    const EventBatch batch = DecodeEventAs(dialect, test.event);
    EXPECT_TRUE(batch.events.empty()) << test.event;
    EXPECT_EQ(Skipped(batch, SkipReason::kMalformedEvent), 1u) << test.event;
    ASSERT_EQ(batch.skips.size(), 1u) << test.event;
    EXPECT_EQ(batch.skips[0].message, test.message);
    EXPECT_EQ(batch.lost_stores, test.stores) << test.event;
    EXPECT_EQ(batch.lost_removals, test.removals) << test.event;
  }
}

}  // namespace conductor::wire

#endif  // CONDUCTOR_TESTS_WIRE_DECODING_H_
