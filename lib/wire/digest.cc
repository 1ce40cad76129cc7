#include "lib/wire/digest.h"

#include <algorithm>

#include "lib/base/bytes.h"
#include "lib/wire/numerals.h"

namespace conductor::wire {
namespace {

std::string_view EndOf(std::string_view digest, size_t size, DigestEnd end) {
  if (digest.size() <= size) return digest;
  return end == DigestEnd::kFirst ? digest.substr(0, size) : digest.substr(digest.size() - size);
}

bool IsHexDigit(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

std::optional<EngineHash> HashOfBytes(std::string_view digest, DigestEnd end) {
  const size_t size = digest.size();
  if (size != 8 && size != 16 && (size == 0 || size % 32 != 0)) return std::nullopt;
  return EngineHash{LoadBigEndian64(EndOf(digest, 8, end))};
}

std::optional<EngineHash> HashOfText(std::string_view text, DigestEnd end) {
  if (text.starts_with("0x") || text.starts_with("0X")) {
    const auto value = WholeNumber<uint64_t>(text.substr(2), 16);
    if (value) return EngineHash{*value};
    return std::nullopt;
  }
  if (const auto value = WholeNumber<uint64_t>(text)) return EngineHash{*value};
  if (const auto value = WholeNumber<int64_t>(text)) {
    return EngineHash{static_cast<uint64_t>(*value)};
  }
  if (text.size() != 16 && text.size() != 32 && (text.empty() || text.size() % 64 != 0)) {
    return std::nullopt;
  }
  return HashOfHex(text, end);
}

}  // namespace

std::optional<EngineHash> HashOf(MsgpackValue value, DigestEnd end) {
  if (value.is_integer()) return EngineHash{value.integer_bits()};
  if (value.is_bytes()) return HashOfBytes(value.bytes(), end);
  if (value.is_text()) return HashOfText(value.bytes(), end);
  return std::nullopt;
}

std::optional<EngineHash> HashOfHex(std::string_view digits, DigestEnd end) {
  // Only 16 of them name the block; the others must be digits all the same.
  if (!std::ranges::all_of(digits, IsHexDigit)) return std::nullopt;
  const auto value = WholeNumber<uint64_t>(EndOf(digits, 16, end), 16);
  if (!value) return std::nullopt;
  return EngineHash{*value};
}

}  // namespace conductor::wire
