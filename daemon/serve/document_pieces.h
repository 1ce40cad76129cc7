#ifndef CONDUCTOR_DAEMON_SERVE_DOCUMENT_PIECES_H_
#define CONDUCTOR_DAEMON_SERVE_DOCUMENT_PIECES_H_

#include <array>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace conductor::serve {

// What documents are put together of. Each of these writes from `at` on, where there must be room,
// and gives where it ends.

inline char* PutBytes(char* at, std::string_view bytes) {
  std::memcpy(at, bytes.data(), bytes.size());
  return at + bytes.size();
}

// Whether a text stands in JSON as it is.
[[nodiscard]] bool IsPlainJson(std::string_view text);
// Such a text between quotation marks.
inline char* PutPlainJson(char* at, std::string_view text) {
  *at++ = '"';
  at = PutBytes(at, text);
  *at++ = '"';
  return at;
}
// Any other text between quotation marks; what is not UTF-8 becomes U+FFFD.
[[nodiscard]] std::string EscapedJson(std::string_view text);

// MessagePack:
template <typename T>
char* PutBigEndian(char* at, uint8_t format, T number) {
  static_assert(std::endian::native == std::endian::little);
  *at++ = static_cast<char>(format);
  if constexpr (sizeof(T) == 2) number = __builtin_bswap16(number);
  if constexpr (sizeof(T) == 4) number = __builtin_bswap32(number);
  if constexpr (sizeof(T) == 8) number = __builtin_bswap64(number);
  std::memcpy(at, &number, sizeof number);
  return at + sizeof number;
}
inline char* PutMsgpackUint(char* at, uint64_t number) {
  if (number < 0x80) {
    *at = static_cast<char>(number);
    return at + 1;
  }
  if (number <= UINT8_MAX) return PutBigEndian(at, 0xcc, static_cast<uint8_t>(number));
  if (number <= UINT16_MAX) return PutBigEndian(at, 0xcd, static_cast<uint16_t>(number));
  if (number <= UINT32_MAX) return PutBigEndian(at, 0xce, static_cast<uint32_t>(number));
  return PutBigEndian(at, 0xcf, number);
}
// What a map or an array begins with: `small` of up to 15, `format16` and the one behind it of
// more.
inline char* PutMsgpackSize(char* at, size_t size, uint8_t small, uint8_t format16) {
  if (size < 16) {
    *at = static_cast<char>(small | size);
    return at + 1;
  }
  if (size <= UINT16_MAX) return PutBigEndian(at, format16, static_cast<uint16_t>(size));
  return PutBigEndian(at, static_cast<uint8_t>(format16 + 1), static_cast<uint32_t>(size));
}
inline char* PutMsgpackText(char* at, std::string_view text) {
  if (text.size() < 32) {
    *at++ = static_cast<char>(0xa0 | text.size());
  } else if (text.size() <= UINT8_MAX) {
    at = PutBigEndian(at, 0xd9, static_cast<uint8_t>(text.size()));
  } else if (text.size() <= UINT16_MAX) {
    at = PutBigEndian(at, 0xda, static_cast<uint16_t>(text.size()));
  } else {
    at = PutBigEndian(at, 0xdb, static_cast<uint32_t>(text.size()));
  }
  return PutBytes(at, text);
}

// Seconds and the like in JSON, with so many digits behind the point: an integer's digits with a
// point among them. Inline, for divisions by what a compiler knows.
constexpr int kMostJsonDecimals = 6;
constexpr size_t kMostJsonReal = 32;
inline constexpr std::array<uint64_t, kMostJsonDecimals + 1> kJsonScale = {
    1, 10, 100, 1000, 10000, 100000, 1000000};
// Whether PutJsonReal() can write it.
inline bool FitsJsonReal(double number, int decimals) {
  if (decimals <= 0 || decimals > kMostJsonDecimals) return false;
  constexpr double kMostScaled = 1e15;
  return std::abs(number * static_cast<double>(kJsonScale[static_cast<size_t>(decimals)])) <
         kMostScaled;
}
inline char* PutJsonReal(char* at, double number, int decimals) {
  const uint64_t scale = kJsonScale[static_cast<size_t>(decimals)];
  const double scaled = std::abs(number * static_cast<double>(scale));
  auto rounded = static_cast<uint64_t>(scaled);
  // Half away from zero; what is left is exact.
  if (scaled - static_cast<double>(rounded) >= 0.5) ++rounded;
  if (number < 0 && rounded > 0) *at++ = '-';
  at = std::to_chars(at, at + kMostJsonReal, rounded / scale).ptr;
  *at++ = '.';
  uint64_t rest = rounded % scale;
  for (int i = decimals; i-- > 0; rest /= 10) at[i] = static_cast<char>('0' + rest % 10);
  return at + decimals;
}

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_DOCUMENT_PIECES_H_
