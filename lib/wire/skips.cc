#include "lib/wire/skips.h"

#include <fmt/format.h>

namespace conductor::wire {

std::string Quoted(std::string_view text) {
  constexpr size_t kShown = 64;
  std::string quoted = "'";
  for (const char c : text.substr(0, kShown)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte > 0x7e) {
      quoted += fmt::format("\\x{:02x}", byte);
    } else {
      quoted.push_back(c);
    }
  }
  quoted += text.size() > kShown ? "...'" : "'";
  return quoted;
}

std::string Shown(MsgpackValue value) {
  if (value.kind() == MsgpackValue::Kind::kNegative) return fmt::format("{}", *value.AsInt64());
  if (value.is_integer()) return fmt::format("{}", value.integer_bits());
  if (value.is_text()) return Quoted(value.bytes());
  if (value.is_bytes()) return fmt::format("{} bytes", value.bytes().size());
  return std::string(value.KindName());
}

}  // namespace conductor::wire
