#ifndef CONDUCTOR_LIB_WIRE_SKIPS_H_
#define CONDUCTOR_LIB_WIRE_SKIPS_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

#include "lib/wire/kv_event.h"
#include "lib/wire/msgpack_tape.h"

namespace conductor::wire {

// Counts one skip in `batch`. `message` is called for its text only while texts are kept.
template <typename Message>
void AddSkip(EventBatch& batch, SkipReason reason, size_t event_index, Message&& message) {
  ++batch.skipped[reason];
  if (batch.skips.size() >= EventBatch::kMaxSkips) return;
  batch.skips.push_back({reason, event_index, std::forward<Message>(message)()});
}

// `text` from the wire for a message: quoted, cut to 64 bytes, bytes that are not printable ASCII
// as \xNN.
[[nodiscard]] std::string Quoted(std::string_view text);

// What a message says was read instead of what was expected: an integer as its digits, text
// quoted, of anything else its kind.
[[nodiscard]] std::string Shown(MsgpackValue value);

}  // namespace conductor::wire

#endif  // CONDUCTOR_LIB_WIRE_SKIPS_H_
