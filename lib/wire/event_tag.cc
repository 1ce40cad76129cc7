#include "lib/wire/event_tag.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "lib/wire/skips.h"

namespace conductor::wire {
namespace {

constexpr std::array<std::string_view, 5> kEnvelopeKeys = {
    "event_id", "seq_hashes", "base_block_idx", "tenant_id", "backend_id"};
constexpr std::array<std::string_view, 2> kObjectKeys = {"object_key", "connector_block_hash"};

std::optional<EventKind> EnvelopeKind(std::string_view name) {
  if (name == "stored") return EventKind::kStored;
  if (name == "removed") return EventKind::kRemoved;
  if (name == "cleared") return EventKind::kCleared;
  return std::nullopt;
}

std::optional<EventKind> VllmKind(std::string_view name) {
  if (name == "BlockStored") return EventKind::kStored;
  if (name == "BlockRemoved") return EventKind::kRemoved;
  if (name == "AllBlocksCleared") return EventKind::kCleared;
  return std::nullopt;
}

bool IsEnvelopeName(std::optional<MsgpackValue> tag) {
  return tag && tag->is_text() && EnvelopeKind(tag->bytes());
}

// The value that is the tag, and what the keys beside it say of the form.
MsgpackValue TagOfMap(MsgpackValue event, EventTag& tag) {
  std::optional<MsgpackValue> type;
  std::optional<MsgpackValue> event_type;
  for (const auto& [key, value] : event.entries()) {
    if (!key.is_text()) continue;
    const std::string_view name = key.bytes();
    if (name == "type") {
      if (!type) type = value;
    } else if (name == "event_type") {
      if (!event_type) event_type = value;
    } else if (!value.is_nil()) {
      tag.is_object |= std::ranges::find(kObjectKeys, name) != kObjectKeys.end();
      tag.is_envelope |= std::ranges::find(kEnvelopeKeys, name) != kEnvelopeKeys.end();
    }
  }
  if (IsEnvelopeName(event_type) || !type) return event_type.value_or(MsgpackValue());
  return *type;
}

}  // namespace

Result<EventTag> ReadTag(MsgpackValue event) {
  if (!event.is_array() && !event.is_map()) {
    return Fail(fmt::format("the event is {}", event.KindName()), {}, "an array or a map");
  }
  EventTag tag;
  MsgpackValue name;
  if (event.is_map()) {
    name = TagOfMap(event, tag);
  } else if (event.size() > 0) {
    name = *event.items().begin();
  }
  if (!name.is_text()) {
    return Fail(fmt::format("the tag is {}", Shown(name)), "type", "the event's name");
  }
  tag.name = name.bytes();
  tag.kind = VllmKind(tag.name);
  // RFC 1527 is maps only.
  if (!tag.kind && event.is_map()) {
    tag.kind = EnvelopeKind(tag.name);
    tag.is_envelope |= tag.kind.has_value();
  }
  tag.is_envelope |= tag.is_object;
  return tag;
}

}  // namespace conductor::wire
