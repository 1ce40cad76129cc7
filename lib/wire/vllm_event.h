#ifndef CONDUCTOR_LIB_WIRE_VLLM_EVENT_H_
#define CONDUCTOR_LIB_WIRE_VLLM_EVENT_H_

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

// Reads one event, the item `index` of its batch, positional or map, and appends it to
// batch.events; or tells in batch.skips why not. Fields that are not known are counted there too.
void ReadVllmEvent(MsgpackValue event, size_t index, EventBatch& batch);

}  // namespace conductor::wire

#endif  // CONDUCTOR_LIB_WIRE_VLLM_EVENT_H_
