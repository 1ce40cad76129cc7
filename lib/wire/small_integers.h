#ifndef CONDUCTOR_LIB_WIRE_SMALL_INTEGERS_H_
#define CONDUCTOR_LIB_WIRE_SMALL_INTEGERS_H_

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace conductor::wire {

// Token ids in MessagePack: integers from 0 to 2^32 - 1 in the forms that packers give them, which
// are one byte, or 0xcc, 0xcd or 0xce and one, two or four.

// Takes up to `most` of them that stand one behind the other at the beginning of `bytes`, which is
// then what is behind them. They go to `out`, which has room for `most`: four bytes each, in the
// processor's order, aligned to nothing. Gives how many there were; what follows is something else,
// or is cut off.
//
// A processor that can shuffle bytes across a vector of 64 (`wide`: false is for tests of those
// that cannot) takes half a nanosecond for each, others one.
[[nodiscard]] size_t TakeSmallIntegers(std::string_view& bytes, char* out, size_t most,
                                       bool wide = true);

}  // namespace conductor::wire

#endif  // CONDUCTOR_LIB_WIRE_SMALL_INTEGERS_H_
