#ifndef CONDUCTOR_LIB_WIRE_NUMERALS_H_
#define CONDUCTOR_LIB_WIRE_NUMERALS_H_

#include <charconv>
#include <optional>
#include <string_view>
#include <system_error>

namespace conductor::wire {

// The number that all of `digits` spells, or nothing: no space, no plus sign, and a minus only for
// a signed Integer.
template <typename Integer>
[[nodiscard]] std::optional<Integer> WholeNumber(std::string_view digits, int base = 10) {
  Integer value = 0;
  const auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
  if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  return value;
}

}  // namespace conductor::wire

#endif  // CONDUCTOR_LIB_WIRE_NUMERALS_H_
