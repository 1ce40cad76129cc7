#include "daemon/toolkit/redialect.h"

#include <fmt/format.h>

#include <algorithm>
#include <variant>

#include "lib/wire/sglang_encoder.h"
#include "lib/wire/vllm_encoder.h"

namespace conductor::toolkit {
namespace {

constexpr std::array<std::pair<std::string_view, PublishDialect>, 4> kNames = {{
    {"vllm-array", PublishDialect::kVllmArray},
    {"vllm-map", PublishDialect::kVllmMap},
    {"sglang", PublishDialect::kSglang},
    {"mooncake", PublishDialect::kMooncake},
}};

constexpr const char* kBackend = "replayed";
constexpr double kMilliseconds = 1000;
constexpr double kLatest = 1e11;  // Unix seconds

bool HasEngineForm(const wire::KvEvent& event) {
  return std::holds_alternative<wire::BlockStored>(event) ||
         std::holds_alternative<wire::BlockRemoved>(event) ||
         std::holds_alternative<wire::AllBlocksCleared>(event);
}

wire::MasterEvent Object(EngineHash hash, std::optional<Tier> tier) {
  wire::MasterEvent event;
  event.is_stored = tier.has_value();
  event.key = std::to_string(static_cast<uint64_t>(hash));
  event.backend = kBackend;
  event.medium = tier == Tier::kDisk ? "disk" : "cpu";
  event.hashes = {hash};
  return event;
}

template <typename Event>
wire::MasterEvent SameObject(const Event& object, bool is_stored) {
  wire::MasterEvent event;
  event.is_stored = is_stored;
  event.key = object.key;
  event.tenant = object.tenant.value_or(event.tenant);
  event.backend = object.backend.value_or(kBackend);
  event.medium = object.medium;
  const auto key = wire::ParseObjectKey(object.key);
  if (key && key->family == wire::KeyFamily::kNumeric) event.hashes = {key->hash};
  return event;
}

}  // namespace

Result<PublishDialect> ParsePublishDialect(std::string_view text) {
  const auto named = std::ranges::find(kNames, text, &decltype(kNames)::value_type::first);
  if (named != kNames.end()) return named->second;
  return Fail(fmt::format("'{}' is no dialect", text), {},
              "vllm-array, vllm-map, sglang or mooncake");
}

void Redialect::NewLife() {
  held_.clear();
  next_event_id_ = 1;
}

Result<std::string> Redialect::Encode(std::string_view payload) {
  const auto batch = decoder_.Decode(payload);
  if (!batch) return tl::unexpected(batch.error());
  if (to_ == PublishDialect::kMooncake) return EncodeObjects(*batch);
  left_out_ += static_cast<uint64_t>(std::ranges::count_if(
      batch->events, [](const auto& event) { return !HasEngineForm(event); }));
  switch (to_) {
    case PublishDialect::kVllmArray:
      return wire::EncodeVllmPositionalBatch(*batch, wire::VllmSlots::kV0_23);
    case PublishDialect::kVllmMap:
      return wire::EncodeVllmBatch(*batch);
    case PublishDialect::kSglang:
    case PublishDialect::kMooncake:
      break;
  }
  return wire::EncodeSglangBatch(*batch);
}

// Announces, or takes back, the block where that changes what a master would say of it.
void Redialect::Tell(EngineHash hash, Held& held, std::vector<wire::MasterEvent>& events) {
  const auto on = [&](Tier tier) { return held.copies[static_cast<size_t>(tier)] > 0; };
  std::optional<Tier> now;
  if (on(Tier::kDisk)) now = Tier::kDisk;
  if (on(Tier::kGpu) || on(Tier::kCpu)) now = Tier::kCpu;
  if (now == held.told) return;
  if (!now || held.told) events.push_back(Object(hash, std::nullopt));
  if (now) events.push_back(Object(hash, now));
  held.told = now;
}

void Redialect::Change(EngineHash hash, Tier tier, bool stored,
                       std::vector<wire::MasterEvent>& events) {
  const auto held = held_.try_emplace(hash).first;
  uint32_t& copies = held->second.copies[static_cast<size_t>(tier)];
  if (stored) {
    copies = tier == Tier::kGpu ? copies + 1 : 1;
  } else if (copies > 0) {
    --copies;
  }
  Tell(hash, held->second, events);
  if (!held->second.told) held_.erase(held);
}

void Redialect::Clear(std::vector<wire::MasterEvent>& events) {
  for (auto& [hash, held] : held_) {
    held.copies[static_cast<size_t>(Tier::kGpu)] = 0;
    Tell(hash, held, events);
  }
  std::erase_if(held_, [](const auto& held) { return !held.second.told; });
}

std::string Redialect::EncodeObjects(const wire::EventBatch& batch) {
  std::vector<wire::MasterEvent> events;
  const auto change = [&](const auto& event, bool stored) {
    const auto tier = TierOfMedium(event.medium.value_or(""));
    if (!tier) {
      ++left_out_;
      return;
    }
    for (const EngineHash hash : event.hashes) Change(hash, *tier, stored, events);
  };
  for (const wire::KvEvent& event : batch.events) {
    if (const auto* stored = std::get_if<wire::BlockStored>(&event)) {
      change(*stored, true);
    } else if (const auto* removed = std::get_if<wire::BlockRemoved>(&event)) {
      change(*removed, false);
    } else if (std::holds_alternative<wire::AllBlocksCleared>(event)) {
      Clear(events);
    } else if (const auto* object = std::get_if<wire::ObjectStored>(&event)) {
      events.push_back(SameObject(*object, true));
    } else if (const auto* gone = std::get_if<wire::ObjectRemoved>(&event)) {
      events.push_back(SameObject(*gone, false));
    } else {
      ++left_out_;  // a master never clears
    }
  }
  const uint64_t first = next_event_id_;
  next_event_id_ += events.size();
  const double seconds = std::clamp(batch.timestamp, 0.0, kLatest);
  return wire::EncodeMooncakeBatch({.timestamp_ms = static_cast<uint64_t>(seconds * kMilliseconds),
                                    .first_event_id = first,
                                    .events = std::move(events)});
}

}  // namespace conductor::toolkit
