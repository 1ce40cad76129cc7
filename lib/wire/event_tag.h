#ifndef CONDUCTOR_LIB_WIRE_EVENT_TAG_H_
#define CONDUCTOR_LIB_WIRE_EVENT_TAG_H_

#include <cstdint>
#include <optional>
#include <string_view>

#include "lib/base/result.h"
#include "lib/wire/msgpack_tape.h"

namespace conductor::wire {

enum class EventKind : uint8_t { kStored, kRemoved, kCleared };

// What an event calls itself, and whose form it is in.
struct EventTag {
  std::string_view name;          // as sent: a view into the payload
  std::optional<EventKind> kind;  // nothing: of no known type
  // It is told in RFC 1527's words: by its name ("stored", "removed", "cleared") or, with vLLM's
  // names as the legacy aliases that they are there, by a key that no engine event of vLLM's form
  // has.
  bool is_envelope = false;
  bool is_object = false;  // and it names a pool's object
};

// Reads the tag of an event: slot 0 of an array; in a map `event_type` where it has one of RFC
// 1527's names, otherwise `type`, otherwise `event_type`. An error for what has none.
[[nodiscard]] Result<EventTag> ReadTag(MsgpackValue event);

}  // namespace conductor::wire

#endif  // CONDUCTOR_LIB_WIRE_EVENT_TAG_H_
