#ifndef CONDUCTOR_LIB_BASE_BYTES_H_
#define CONDUCTOR_LIB_BASE_BYTES_H_

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace conductor {

// Bytes are carried as std::string_view and std::string: payloads, digests, frames.

// The unsigned integer in the first 8 bytes of `bytes`, most significant first.
// Requires bytes.size() >= 8.
[[nodiscard]] uint64_t LoadBigEndian64(std::string_view bytes);

// `value` as 8 bytes, most significant first.
[[nodiscard]] std::array<char, 8> StoreBigEndian64(uint64_t value);

// Lower-case hex, two digits a byte.
[[nodiscard]] std::string ToHex(std::string_view bytes);

// The bytes that `hex` spells; white space between digits is skipped. Nothing when a digit is
// not hex or their number is odd.
[[nodiscard]] std::optional<std::string> FromHex(std::string_view hex);

}  // namespace conductor

#endif  // CONDUCTOR_LIB_BASE_BYTES_H_
