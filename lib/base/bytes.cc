#include "lib/base/bytes.h"

namespace conductor {
namespace {

constexpr std::string_view kDigits = "0123456789abcdef";

std::optional<unsigned> HexDigit(char c) {
  if (c >= '0' && c <= '9') return static_cast<unsigned>(c - '0');
  if (c >= 'a' && c <= 'f') return static_cast<unsigned>(c - 'a' + 10);
  if (c >= 'A' && c <= 'F') return static_cast<unsigned>(c - 'A' + 10);
  return std::nullopt;
}

bool IsSpace(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

}  // namespace

uint64_t LoadBigEndian64(std::string_view bytes) {
  uint64_t value = 0;
  for (size_t i = 0; i < 8; ++i) value = value << 8 | static_cast<uint8_t>(bytes[i]);
  return value;
}

std::array<char, 8> StoreBigEndian64(uint64_t value) {
  std::array<char, 8> bytes{};
  for (size_t i = 8; i-- > 0; value >>= 8) bytes[i] = static_cast<char>(value & 0xff);
  return bytes;
}

std::string ToHex(std::string_view bytes) {
  std::string hex;
  hex.reserve(bytes.size() * 2);
  for (const char c : bytes) {
    const auto byte = static_cast<uint8_t>(c);
    hex.push_back(kDigits[byte >> 4]);
    hex.push_back(kDigits[byte & 15]);
  }
  return hex;
}

std::optional<std::string> FromHex(std::string_view hex) {
  std::string bytes;
  size_t digits = 0;
  unsigned high = 0;
  for (const char c : hex) {
    if (IsSpace(c)) continue;
    const auto digit = HexDigit(c);
    if (!digit) return std::nullopt;
    if (digits++ % 2 == 0) {
      high = *digit << 4;
    } else {
      bytes.push_back(static_cast<char>(high | *digit));
    }
  }
  if (digits % 2 != 0) return std::nullopt;
  return bytes;
}

}  // namespace conductor
