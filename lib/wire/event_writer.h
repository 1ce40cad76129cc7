#ifndef CONDUCTOR_LIB_WIRE_EVENT_WRITER_H_
#define CONDUCTOR_LIB_WIRE_EVENT_WRITER_H_

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "lib/wire/kv_event.h"
#include "lib/wire/msgpack_writer.h"

namespace conductor::wire {

// Values that the encoders of engines' events share. For .cc files, as msgpack_writer.h.

inline void WriteOptional(MsgpackWriter& out, const std::optional<int64_t>& value) {
  value ? out.Int(*value) : out.Nil();
}
inline void WriteOptional(MsgpackWriter& out, const std::optional<std::string>& value) {
  value ? out.Text(*value) : out.Nil();
}

inline void WriteTokens(MsgpackWriter& out, const std::vector<TokenId>& tokens) {
  out.Array(tokens.size());
  for (const TokenId token : tokens) out.Uint(token);
}

// nil, or an array with nil or an array of keys for each block.
inline void WriteExtraKeys(MsgpackWriter& out, const std::vector<hash::ExtraKeys>& blocks) {
  if (blocks.empty()) return out.Nil();
  out.Array(blocks.size());
  for (const hash::ExtraKeys& keys : blocks) {
    if (keys.empty()) {
      out.Nil();
      continue;
    }
    out.Array(keys.size());
    for (const std::string& key : keys) out.Raw(key);
  }
}

// Whether an engine has a form for it.
inline bool IsBlockEvent(const KvEvent& event) {
  return std::holds_alternative<BlockStored>(event) ||
         std::holds_alternative<BlockRemoved>(event) ||
         std::holds_alternative<AllBlocksCleared>(event);
}

// [timestamp, [events], rank]: the events that engines have a form for, each by `writer`, and the
// rank unless there is to be none.
template <typename EventWriter>
std::string WriteBatch(const EventBatch& batch, EventWriter&& writer, MsgpackWriter& out,
                       bool with_rank = true) {
  out.Array(with_rank ? 3 : 2);
  out.Float(batch.timestamp);
  out.Array(static_cast<size_t>(std::ranges::count_if(batch.events, IsBlockEvent)));
  for (const KvEvent& event : batch.events) {
    if (IsBlockEvent(event)) std::visit(writer, event);
  }
  if (with_rank) WriteOptional(out, batch.dp_rank);
  return out.Take();
}

}  // namespace conductor::wire

#endif  // CONDUCTOR_LIB_WIRE_EVENT_WRITER_H_
