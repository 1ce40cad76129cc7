#ifndef CONDUCTOR_LIB_BASE_NUMBER_H_
#define CONDUCTOR_LIB_BASE_NUMBER_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "lib/base/result.h"

namespace conductor {

// A decimal integer from `min` to `max`; `what` is what messages call it: "a port".
[[nodiscard]] Result<uint64_t> ParseNumber(std::string_view text, std::string_view what,
                                           uint64_t min, uint64_t max);

// Bytes: a decimal integer, alone or with a suffix k, m or g (1024, 1024², 1024³), which may be
// written KiB, MiB or GiB too, in any case. At least 1.
[[nodiscard]] Result<uint64_t> ParseSize(std::string_view text);

// `bytes` as a whole number of the largest unit that fits; ParseSize reads it back.
[[nodiscard]] std::string FormatSize(uint64_t bytes);

// For people: 1234567 as "1,234,567".
[[nodiscard]] std::string Grouped(uint64_t number);

// "1 batch", "2,000 batches". The plural of `noun` is regular.
[[nodiscard]] std::string Counted(uint64_t count, std::string_view noun);

}  // namespace conductor

#endif  // CONDUCTOR_LIB_BASE_NUMBER_H_
