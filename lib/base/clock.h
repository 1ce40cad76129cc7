#ifndef CONDUCTOR_LIB_BASE_CLOCK_H_
#define CONDUCTOR_LIB_BASE_CLOCK_H_

#include <chrono>
#include <string>
#include <string_view>

#include "lib/base/result.h"

namespace conductor {

// Monotonic time, for time limits and ages. Pure code is handed it and never reads a clock.
using MonoTime = std::chrono::steady_clock::time_point;
using Duration = std::chrono::nanoseconds;

[[nodiscard]] inline MonoTime MonoNow() { return std::chrono::steady_clock::now(); }

// Seconds since the Unix epoch, as engines stamp their batches.
[[nodiscard]] double UnixNow();

// Reads "500ms", "5s", "15m", "1h", "100us" (a number, fractions allowed, and a unit). Negative
// numbers, unknown units and bare numbers are errors.
[[nodiscard]] Result<Duration> ParseDuration(std::string_view text);

// `duration` rounded to microseconds, as a whole number of the largest unit that fits;
// ParseDuration reads it back.
[[nodiscard]] std::string FormatDuration(Duration duration);

}  // namespace conductor

#endif  // CONDUCTOR_LIB_BASE_CLOCK_H_
