#include "lib/base/number.h"

#include <fmt/format.h>

#include <charconv>
#include <limits>
#include <optional>

namespace conductor {
namespace {

constexpr std::string_view kUnits = "kmg";

char Lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

// The decimal integer that is all of `text`.
std::optional<uint64_t> Decimal(std::string_view text) {
  uint64_t number = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc() || rest != end) return std::nullopt;
  return number;
}

// Takes "ib" off the end of `text` where it follows a unit.
std::string_view WithoutIb(std::string_view text) {
  const size_t size = text.size();
  const bool has = size > 3 && Lower(text[size - 2]) == 'i' && Lower(text[size - 1]) == 'b' &&
                   kUnits.find(Lower(text[size - 3])) != kUnits.npos;
  return has ? text.substr(0, size - 2) : text;
}

}  // namespace

Result<uint64_t> ParseNumber(std::string_view text, std::string_view what, uint64_t min,
                             uint64_t max) {
  const auto number = Decimal(text);
  if (number && *number >= min && *number <= max) return *number;
  return Fail(fmt::format("'{}' is not {}", text, what), {},
              fmt::format("an integer from {} to {}", min, max));
}

Result<uint64_t> ParseSize(std::string_view text) {
  std::string_view digits = WithoutIb(text);
  const size_t unit = digits.empty() ? kUnits.npos : kUnits.find(Lower(digits.back()));
  const unsigned shift = unit == kUnits.npos ? 0 : 10 * (static_cast<unsigned>(unit) + 1);
  if (shift != 0) digits.remove_suffix(1);
  const auto number = Decimal(digits);
  if (number && *number > 0 && *number <= std::numeric_limits<uint64_t>::max() >> shift) {
    return *number << shift;
  }
  return Fail(fmt::format("'{}' is not a size", text), {},
              "bytes, with k, m or g for larger units: 65536, 64m");
}

std::string FormatSize(uint64_t bytes) {
  for (size_t unit = kUnits.size(); unit-- > 0;) {
    const unsigned shift = 10 * (static_cast<unsigned>(unit) + 1);
    if (bytes != 0 && bytes % (uint64_t{1} << shift) == 0) {
      return fmt::format("{}{}", bytes >> shift, kUnits[unit]);
    }
  }
  return fmt::format("{}", bytes);
}

std::string Grouped(uint64_t number) {
  std::string digits = std::to_string(number);
  for (size_t at = digits.size(); at > 3; at -= 3) digits.insert(at - 3, 1, ',');
  return digits;
}

std::string Counted(uint64_t count, std::string_view noun) {
  if (count == 1) return fmt::format("1 {}", noun);
  const bool hisses = noun.ends_with("ch") || noun.ends_with('s') || noun.ends_with('x');
  return fmt::format("{} {}{}", Grouped(count), noun, hisses ? "es" : "s");
}

}  // namespace conductor
