#ifndef CONDUCTOR_LIB_WIRE_TIMESTAMP_H_
#define CONDUCTOR_LIB_WIRE_TIMESTAMP_H_

#include <optional>
#include <string_view>

#include "lib/wire/msgpack_tape.h"

namespace conductor::wire {

// A batch's timestamp in Unix seconds. A float is seconds; an integer is milliseconds from 10^11 on
// (the year 5138 in seconds, 1973 in milliseconds) and seconds below. Nothing for what is no finite
// number.
[[nodiscard]] std::optional<double> SecondsOf(MsgpackValue value);

// The same of a payload, without decoding its events. Nothing when the payload does not begin as a
// batch does.
[[nodiscard]] std::optional<double> PeekTimestamp(std::string_view payload);

}  // namespace conductor::wire

#endif  // CONDUCTOR_LIB_WIRE_TIMESTAMP_H_
