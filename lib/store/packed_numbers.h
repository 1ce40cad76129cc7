#ifndef CONDUCTOR_LIB_STORE_PACKED_NUMBERS_H_
#define CONDUCTOR_LIB_STORE_PACKED_NUMBERS_H_

#include <bit>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace conductor::store {

// Numbers of 64 bits in a blob, big-endian, one after the other.

// Replaces `out` by those of `numbers`, an enum or an integer of 64 bits.
template <typename T>
void PackNumbers(std::span<const T> numbers, std::string& out) {
  static_assert(sizeof(T) == sizeof(uint64_t) && std::endian::native == std::endian::little);
  out.resize(numbers.size() * sizeof(uint64_t));
  for (size_t i = 0; i < numbers.size(); ++i) {
    const uint64_t bits = __builtin_bswap64(static_cast<uint64_t>(numbers[i]));
    std::memcpy(out.data() + i * sizeof bits, &bits, sizeof bits);
  }
}

// Replaces `out`. False when the blob is no whole number of them.
template <typename T>
[[nodiscard]] bool UnpackNumbers(std::string_view blob, std::vector<T>& out) {
  static_assert(sizeof(T) == sizeof(uint64_t) && std::endian::native == std::endian::little);
  if (blob.size() % sizeof(uint64_t) != 0) return false;
  out.resize(blob.size() / sizeof(uint64_t));
  for (size_t i = 0; i < out.size(); ++i) {
    uint64_t bits = 0;
    std::memcpy(&bits, blob.data() + i * sizeof bits, sizeof bits);
    out[i] = static_cast<T>(__builtin_bswap64(bits));
  }
  return true;
}

}  // namespace conductor::store

#endif  // CONDUCTOR_LIB_STORE_PACKED_NUMBERS_H_
