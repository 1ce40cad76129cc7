#include "lib/wire/peek_rank.h"

#include "lib/wire/msgpack_tape.h"

namespace conductor::wire {

std::optional<int64_t> PeekRank(std::string_view payload) {
  MsgpackTape tape;
  const auto batch = tape.Parse(payload);
  if (!batch) return std::nullopt;
  if (batch->is_array()) {
    if (batch->size() < 3) return std::nullopt;
    auto slot = batch->items().begin();
    ++slot;
    ++slot;
    return (*slot).AsInt64();
  }
  if (!batch->is_map()) return std::nullopt;
  for (const auto& [key, value] : batch->entries()) {
    if (!key.is_text()) continue;
    if (key.bytes() == "data_parallel_rank" || key.bytes() == "dp_rank") return value.AsInt64();
  }
  return std::nullopt;
}

}  // namespace conductor::wire
