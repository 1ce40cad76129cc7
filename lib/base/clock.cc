#include "lib/base/clock.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <cmath>
#include <utility>

namespace conductor {
namespace {

using std::chrono::microseconds;

constexpr std::array<std::pair<std::string_view, int64_t>, 5> kUnits{{
    {"us", 1},
    {"ms", 1'000},
    {"s", 1'000'000},
    {"m", 60'000'000},
    {"h", 3'600'000'000},
}};

constexpr double kLongest = 1e6 * 3600 * 24 * 365;  // a year, in microseconds

}  // namespace

double UnixNow() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

Result<Duration> ParseDuration(std::string_view text) {
  const auto fail = [&] {
    return Fail(fmt::format("'{}' is not a time", text), {}, "a number and a unit: 500ms, 5s, 15m");
  };
  double number = 0;
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || !std::isfinite(number) || number < 0) return fail();
  const std::string_view unit(rest, static_cast<size_t>(text.data() + text.size() - rest));
  for (const auto& [name, micros] : kUnits) {
    if (unit != name) continue;
    const double total = number * static_cast<double>(micros);
    if (total > kLongest) return fail();
    return microseconds(std::llround(total));
  }
  return fail();
}

std::string FormatDuration(Duration duration) {
  const int64_t micros = std::chrono::round<microseconds>(duration).count();
  for (size_t i = kUnits.size(); i-- > 0;) {
    const auto& [unit, size] = kUnits[i];
    if (micros != 0 && micros % size == 0) return fmt::format("{}{}", micros / size, unit);
  }
  return "0s";
}

}  // namespace conductor
