#include "cmd/flag.h"

#include <fmt/format.h>

#include <charconv>
#include <limits>
#include <optional>

namespace conductor::cmd {
namespace {

// The decimal integer that is all of `text`.
std::optional<uint64_t> Decimal(std::string_view text) {
  uint64_t number = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc() || rest != end) return std::nullopt;
  return number;
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
  constexpr std::string_view kSuffixes = "kKmMgG";
  const size_t suffix = text.empty() ? kSuffixes.npos : kSuffixes.find(text.back());
  const unsigned shift =
      suffix == kSuffixes.npos ? 0 : 10 * (static_cast<unsigned>(suffix) / 2 + 1);
  const auto number = Decimal(shift == 0 ? text : text.substr(0, text.size() - 1));
  if (number && *number > 0 && *number <= std::numeric_limits<uint64_t>::max() >> shift) {
    return *number << shift;
  }
  return Fail(fmt::format("'{}' is not a size", text), {},
              "bytes, with k, m or g for larger units: 65536, 64m");
}

Result<Duration> ParsePositiveTime(std::string_view text) {
  auto time = ParseDuration(text);
  if (time && *time <= Duration::zero()) {
    return Fail(fmt::format("'{}' is too short", text), {}, "a time above zero: 500ms, 5s, 15m");
  }
  return time;
}

}  // namespace conductor::cmd
