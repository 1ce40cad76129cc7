#include "lib/wire/decoder.h"

#include <fmt/format.h>

#include "lib/wire/block_event.h"
#include "lib/wire/event_tag.h"
#include "lib/wire/mooncake_event.h"
#include "lib/wire/rfc1527_event.h"
#include "lib/wire/skips.h"
#include "lib/wire/timestamp.h"

namespace conductor::wire {
namespace {

DigestEnd DigestEndOf(Dialect dialect) {
  const bool takes_first = dialect == Dialect::kSglang || dialect == Dialect::kLmcache;
  return takes_first ? DigestEnd::kFirst : DigestEnd::kLast;
}

// The parts of a batch, whichever way it is laid out.
struct Envelope {
  MsgpackValue timestamp;
  MsgpackValue events;
  MsgpackValue rank;
};

Envelope OpenArray(MsgpackValue value, EventBatch& batch) {
  Envelope envelope;
  size_t slot = 0;
  for (const MsgpackValue item : value.items()) {
    if (slot == 0) envelope.timestamp = item;
    if (slot == 1) envelope.events = item;
    if (slot == 2) envelope.rank = item;
    if (slot > 2) {
      AddSkip(batch, SkipReason::kUnknownField, Skip::kNoEvent, [&] {
        return fmt::format("slot {} holds {}, and 3 are known", slot, item.KindName());
      });
    }
    ++slot;
  }
  return envelope;
}

Envelope OpenMap(MsgpackValue value, EventBatch& batch) {
  Envelope envelope;
  for (const auto& [key, item] : value.entries()) {
    const std::string_view name = key.is_text() ? key.bytes() : std::string_view();
    if (name == "ts") {
      envelope.timestamp = item;
    } else if (name == "events") {
      envelope.events = item;
    } else if (name == "data_parallel_rank" || name == "dp_rank") {
      envelope.rank = item;
    } else {
      AddSkip(batch, SkipReason::kUnknownField, Skip::kNoEvent,
              [&] { return fmt::format("the key {} is not known", Quoted(name)); });
    }
  }
  return envelope;
}

// Reads the item `index` of the batch with the decoder of its form.
void ReadEvent(MsgpackValue event, size_t index, Dialect dialect, EventBatch& batch) {
  const auto tag = ReadTag(event);
  if (!tag) {
    batch.lost_removals = true;
    AddSkip(batch, SkipReason::kMalformedEvent, index, [&] { return tag.error().Message(); });
    return;
  }
  if (!tag->kind) {
    AddSkip(batch, SkipReason::kUnknownEventType, index,
            [&] { return fmt::format("type: {} is not known", Quoted(tag->name)); });
    return;
  }

  FieldReader reader(event, index, batch);
  const size_t before = batch.events.size();
  if (tag->is_object || (tag->is_envelope && dialect == Dialect::kMooncake)) {
    ReadMooncakeEvent(reader, *tag->kind, batch);
  } else if (tag->is_envelope) {
    ReadRfc1527Event(reader, *tag->kind, DigestEndOf(dialect), batch);
  } else {
    ReadBlockEvent(reader, *tag->kind, DigestEndOf(dialect), batch.events);
  }
  if (!reader.error() && !reader.passed_over()) return;

  batch.events.erase(batch.events.begin() + static_cast<std::ptrdiff_t>(before),
                     batch.events.end());
  if (reader.error()) {
    (*tag->kind == EventKind::kStored ? batch.lost_stores : batch.lost_removals) = true;
    AddSkip(batch, SkipReason::kMalformedEvent, index, [&] { return reader.error()->Message(); });
  } else {
    AddSkip(batch, SkipReason::kNotLocal, index, [&] { return *reader.passed_over(); });
  }
}

}  // namespace

Result<EventBatch> Decoder::Decode(std::string_view payload) {
  const auto value = tape_.Parse(payload);
  if (!value) return tl::unexpected(value.error());
  if (!value->is_array() && !value->is_map()) {
    return Fail(fmt::format("the batch is {}", value->KindName()), {},
                "[ts, events, data_parallel_rank] or a map of these");
  }

  EventBatch batch;
  const Envelope envelope = value->is_array() ? OpenArray(*value, batch) : OpenMap(*value, batch);
  const auto seconds = SecondsOf(envelope.timestamp);
  if (!seconds) {
    return Fail(fmt::format("is {}", envelope.timestamp.KindName()), "ts",
                "a finite number of seconds, or whole milliseconds");
  }
  batch.timestamp = *seconds;
  if (!envelope.events.is_array()) {
    return Fail(fmt::format("is {}", envelope.events.KindName()), "events", "an array");
  }
  if (!envelope.rank.is_nil()) {
    batch.dp_rank = envelope.rank.AsInt64();
    if (!batch.dp_rank) {
      return Fail(fmt::format("is {}", envelope.rank.KindName()), "data_parallel_rank",
                  "nil or an integer");
    }
  }

  batch.events.reserve(envelope.events.size());
  size_t index = 0;
  for (const MsgpackValue event : envelope.events.items()) {
    ReadEvent(event, index++, dialect_, batch);
  }
  return batch;
}

}  // namespace conductor::wire
