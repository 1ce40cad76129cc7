#include "daemon/toolkit/rebuild_counts.h"

#include <algorithm>
#include <string_view>
#include <variant>

#include "lib/base/tier.h"

namespace conductor::toolkit {
namespace {

std::string PlaceOf(const std::optional<std::string>& medium) {
  const auto tier = TierOfMedium(medium.value_or(""));
  return tier ? std::string(TierName(*tier)) : *medium;
}

std::string PlaceOfObject(const std::optional<std::string>& medium) {
  return medium && !medium->empty() ? PlaceOf(medium) : "unknown";
}

struct Said {
  std::string_view type;
  std::string place;
  uint64_t blocks = 0;
};

Said What(const wire::BlockStored& event) {
  return {"stored", PlaceOf(event.medium), event.hashes.size()};
}
Said What(const wire::BlockRemoved& event) {
  return {"removed", PlaceOf(event.medium), event.hashes.size()};
}
Said What(const wire::AllBlocksCleared&) { return {"cleared", "gpu", 0}; }
Said What(const wire::ObjectStored& event) {
  return {"object_stored", PlaceOfObject(event.medium), 1};
}
Said What(const wire::ObjectRemoved& event) {
  return {"object_removed", PlaceOfObject(event.medium), 1};
}
Said What(const wire::ScopeCleared& event) {
  return {"scope_cleared", PlaceOfObject(event.medium), 0};
}

}  // namespace

void RebuildCounts::Count(const wire::EventBatch& batch) {
  ++batches;
  for (const wire::KvEvent& event : batch.events) {
    const Said said = std::visit([](const auto& of) { return What(of); }, event);
    const Tally tally{1, said.blocks};
    by_type[{Type(said.type), said.place}].Add(tally);
    by_rank[{batch.dp_rank, Type(said.type)}].Add(tally);
  }
  for (const auto& [reason, count] : batch.skipped) {
    skips[std::string(wire::SkipReasonName(reason))] += count;
  }
}

void RebuildCounts::Add(const RebuildCounts& other) {
  batches += other.batches;
  not_batches += other.not_batches;
  for (const auto& [key, tally] : other.by_type) by_type[key].Add(tally);
  for (const auto& [key, tally] : other.by_rank) by_rank[key].Add(tally);
  for (const auto& [reason, count] : other.skips) skips[reason] += count;
  if (first_problem.empty()) first_problem = other.first_problem;
  if (other.first_at) first_at = std::min(first_at.value_or(*other.first_at), *other.first_at);
  if (other.last_at) last_at = std::max(last_at.value_or(*other.last_at), *other.last_at);
}

Tally RebuildCounts::Total() const {
  Tally total;
  for (const auto& [key, tally] : by_type) total.Add(tally);
  return total;
}

}  // namespace conductor::toolkit
