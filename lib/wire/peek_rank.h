#ifndef CONDUCTOR_LIB_WIRE_PEEK_RANK_H_
#define CONDUCTOR_LIB_WIRE_PEEK_RANK_H_

#include <cstdint>
#include <optional>
#include <string_view>

namespace conductor::wire {

// The data-parallel rank that a batch names, without decoding its events; nothing when it names
// none or is no batch. Reads the whole payload: the rank stands behind the events.
[[nodiscard]] std::optional<int64_t> PeekRank(std::string_view payload);

}  // namespace conductor::wire

#endif  // CONDUCTOR_LIB_WIRE_PEEK_RANK_H_
