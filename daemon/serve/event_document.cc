#include "daemon/serve/event_document.h"

#include <fmt/format.h>

#include <limits>
#include <memory>
#include <optional>
#include <utility>
#include <variant>
#include <vector>

#include "daemon/serve/document_writer.h"
#include "lib/ingest/event_rules.h"

namespace conductor::serve {
namespace {

// Who said something, and where in its stream.
struct Source {
  std::string_view publisher;
  std::string_view instance_id;
  std::string_view tenant;
  std::string_view model;
  const std::string& lora_name;  // of events that name none
  uint32_t dp_rank = 0;
  std::optional<stream::Sequence> sequence;
};

constexpr size_t kSourcePairs = 7;

void Begin(DocumentWriter& writer, EventType type, const Source& source, size_t more_pairs) {
  writer.Map(kSourcePairs + more_pairs);
  writer.Pair("type", EventTypeName(type));
  writer.Pair("publisher", source.publisher);
  writer.Pair("instance_id", source.instance_id);
  writer.Pair("dp_rank", source.dp_rank);
  writer.Pair("tenant_id", source.tenant);
  writer.Pair("model", source.model);
  writer.Key("sequence");
  if (source.sequence) {
    writer.Uint(static_cast<uint64_t>(*source.sequence));
  } else {
    writer.Nil();
  }
}

void TextOrNil(DocumentWriter& writer, std::string_view key, std::optional<std::string_view> text) {
  writer.Key(key);
  if (text) {
    writer.Text(*text);
  } else {
    writer.Nil();
  }
}

// Its tier, and the medium as it was spelt.
void Place(DocumentWriter& writer, std::optional<Tier> tier,
           const std::optional<std::string>& medium) {
  TextOrNil(writer, "tier", tier ? std::optional(TierName(*tier)) : std::nullopt);
  TextOrNil(writer, "medium", medium);
}

void Group(DocumentWriter& writer, const wire::CacheGroup& group) {
  writer.Key("cache_group");
  if (group.index) {
    writer.Int(*group.index);
  } else {
    writer.Nil();
  }
}

// As decimal text: many readers of JSON have no integers above 2^53.
void Hashes(DocumentWriter& writer, const std::vector<EngineHash>& hashes) {
  writer.Pair("blocks", uint64_t{hashes.size()});
  writer.Key("hashes");
  writer.Array(hashes.size());
  for (const EngineHash hash : hashes) {
    writer.Text(fmt::format_int(static_cast<uint64_t>(hash)).str());
  }
}

// An engine's nil is its device; a pool's event without a medium says nothing of the tier.
std::optional<Tier> TierOf(const wire::BlockStored& event) {
  return TierOfMedium(event.medium.value_or(""));
}
std::optional<Tier> TierOf(const wire::BlockRemoved& event) {
  return TierOfMedium(event.medium.value_or(""));
}
std::optional<Tier> TierOf(const wire::AllBlocksCleared&) { return Tier::kGpu; }
std::optional<Tier> TierOf(const wire::ObjectStored& event) {
  return event.medium ? TierOfMedium(*event.medium) : std::nullopt;
}
std::optional<Tier> TierOf(const wire::ObjectRemoved&) { return std::nullopt; }
std::optional<Tier> TierOf(const wire::ScopeCleared& event) {
  return event.medium ? TierOfMedium(*event.medium) : std::nullopt;
}

EventType TypeOf(const wire::BlockStored&) { return EventType::kStored; }
EventType TypeOf(const wire::ObjectStored&) { return EventType::kStored; }
EventType TypeOf(const wire::BlockRemoved&) { return EventType::kRemoved; }
EventType TypeOf(const wire::ObjectRemoved&) { return EventType::kRemoved; }
EventType TypeOf(const wire::AllBlocksCleared&) { return EventType::kCleared; }
EventType TypeOf(const wire::ScopeCleared&) { return EventType::kCleared; }

std::string Text(const Source& source, const wire::BlockStored& event) {
  DocumentWriter writer(BodyForm::kJson);
  Begin(writer, EventType::kStored, source, 9);
  Place(writer, TierOf(event), event.medium);
  writer.Pair("lora_name", ingest::LoraNameOf(event, source.lora_name));
  Group(writer, event.group);
  writer.Pair("block_size", event.block_size);
  writer.Pair("tokens", uint64_t{event.tokens.size()});
  std::optional<std::string> parent;
  if (event.parent) parent = fmt::format_int(static_cast<uint64_t>(*event.parent)).str();
  TextOrNil(writer, "parent", parent);
  Hashes(writer, event.hashes);
  return writer.Take();
}

std::string Text(const Source& source, const wire::BlockRemoved& event) {
  DocumentWriter writer(BodyForm::kJson);
  Begin(writer, EventType::kRemoved, source, 5);
  Place(writer, TierOf(event), event.medium);
  Group(writer, event.group);
  Hashes(writer, event.hashes);
  return writer.Take();
}

std::string Text(const Source& source, const wire::AllBlocksCleared& event) {
  DocumentWriter writer(BodyForm::kJson);
  Begin(writer, EventType::kCleared, source, 2);
  Place(writer, TierOf(event), std::nullopt);
  return writer.Take();
}

std::string Text(const Source& source, const wire::ScopeCleared& event) {
  DocumentWriter writer(BodyForm::kJson);
  Begin(writer, EventType::kCleared, source, 2);
  Place(writer, TierOf(event), event.medium);
  return writer.Take();
}

template <typename Object>
std::string Text(const Source& source, const Object& event) {
  DocumentWriter writer(BodyForm::kJson);
  Begin(writer, TypeOf(event), source, 3);
  Place(writer, TierOf(event), event.medium);
  writer.Pair("object", event.key);
  return writer.Take();
}

// What an event says of itself stands before what the registration says.
void Override(Source& source, const wire::Origin& origin) {
  if (origin.tenant) source.tenant = *origin.tenant;
  if (origin.model) source.model = *origin.model;
}

void OverrideFrom(Source& source, const wire::BlockStored& event) {
  if (event.origin) Override(source, *event.origin);
}
void OverrideFrom(Source& source, const wire::BlockRemoved& event) {
  if (event.origin) Override(source, *event.origin);
}
void OverrideFrom(Source&, const wire::AllBlocksCleared&) {}
template <typename Event>
void OverrideFrom(Source& source, const Event& event) {
  if (event.tenant) source.tenant = *event.tenant;
}

std::optional<int64_t> RankIn(const wire::BlockStored& event) {
  return event.origin ? event.origin->dp_rank : std::nullopt;
}
std::optional<int64_t> RankIn(const wire::BlockRemoved& event) {
  return event.origin ? event.origin->dp_rank : std::nullopt;
}
std::optional<int64_t> RankIn(const wire::ScopeCleared& event) { return event.dp_rank; }
template <typename Event>
std::optional<int64_t> RankIn(const Event&) {
  return std::nullopt;
}

}  // namespace

EventTeller::EventTeller(EventStream* stream, const Registration& registration)
    : stream_(stream),
      key_(registration.Key()),
      instance_id_(registration.instance_id),
      tenant_(registration.tenant),
      model_(registration.model),
      lora_name_(registration.lora_name),
      dp_rank_(registration.dp_rank) {}

EventFacts EventTeller::Facts(EventType type) const {
  return {type, key_, instance_id_, model_, std::nullopt};
}

void EventTeller::Applied(stream::Sequence sequence, const wire::EventBatch& batch,
                          const ingest::IngestCounters& counters) const {
  if (!wanted()) return;
  // Engines without data parallelism say 0 whatever they are registered as: 0 is a rank only where
  // others were seen.
  const bool zero_is_a_rank = counters.several_ranks || counters.rank == 0U;
  const auto told_rank = [&](std::optional<int64_t> rank, uint32_t otherwise) {
    const bool usable = rank && *rank >= 0 && *rank <= std::numeric_limits<int32_t>::max() &&
                        (*rank != 0 || zero_is_a_rank);
    return usable ? static_cast<uint32_t>(*rank) : otherwise;
  };
  const uint32_t of_batch = told_rank(batch.dp_rank, dp_rank_);
  for (const wire::KvEvent& event : batch.events) {
    std::visit(
        [&](const auto& one) {
          Source source{key_,    instance_id_, tenant_,
                        model_,  lora_name_,   told_rank(RankIn(one), of_batch),
                        sequence};
          OverrideFrom(source, one);
          stream_->Tell({TypeOf(one), key_, instance_id_, source.model, TierOf(one)},
                        [&] { return Text(source, one); });
        },
        event);
  }
}

void EventTeller::NewLife() const {
  if (!wanted()) return;
  const Source source{key_, instance_id_, tenant_, model_, lora_name_, dp_rank_, std::nullopt};
  stream_->Tell(Facts(EventType::kLife), [&] {
    DocumentWriter writer(BodyForm::kJson);
    Begin(writer, EventType::kLife, source, 0);
    return writer.Take();
  });
}

void EventTeller::Rebuild(std::string_view phase) const {
  if (!wanted()) return;
  const Source source{key_, instance_id_, tenant_, model_, lora_name_, dp_rank_, std::nullopt};
  stream_->Tell(Facts(EventType::kRebuild), [&] {
    DocumentWriter writer(BodyForm::kJson);
    Begin(writer, EventType::kRebuild, source, 1);
    writer.Pair("phase", phase);
    return writer.Take();
  });
}

void EventTeller::TrustChanged(const stream::Trust& trust) const {
  if (!wanted()) return;
  const Source source{key_, instance_id_, tenant_, model_, lora_name_, dp_rank_, std::nullopt};
  stream_->Tell(Facts(EventType::kTrust), [&] {
    DocumentWriter writer(BodyForm::kJson);
    Begin(writer, EventType::kTrust, source, 3);
    writer.Pair("state", stream::TrustStateName(trust.state));
    writer.Pair("reason", trust.reason);
    writer.Pair("detail", trust.detail);
    return writer.Take();
  });
}

}  // namespace conductor::serve
