#include "lib/wire/small_integers.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace conductor::wire {
namespace {

constexpr uint8_t kFirstOther = 0x80;  // of the one-byte form
constexpr uint8_t kUint8 = 0xcc;
constexpr uint8_t kUint16 = 0xcd;
constexpr uint8_t kUint32 = 0xce;

constexpr size_t kNumberBytes = sizeof(uint32_t);

// Where it is read and written.
struct Place {
  const uint8_t* at;
  const uint8_t* end;
  char* out;
  size_t left;  // integers to take

  [[nodiscard]] size_t bytes() const { return static_cast<size_t>(end - at); }
};

static_assert(std::endian::native == std::endian::little);

uint64_t BigEndian64(const uint8_t* bytes) {
  uint64_t value = 0;
  std::memcpy(&value, bytes, sizeof value);
  return __builtin_bswap64(value);
}

void Put(char* out, uint64_t number) {
  const auto narrow = static_cast<uint32_t>(number);
  std::memcpy(out, &narrow, sizeof narrow);
}

// One integer that may be the last thing there.
bool TakeOne(Place& place) {
  if (place.left == 0 || place.at == place.end) return false;
  const uint8_t format = *place.at;
  size_t bytes = 0;
  if (format >= kFirstOther) {
    if (format < kUint8 || format > kUint32) return false;
    bytes = size_t{1} << (format - kUint8);
    if (place.bytes() < 1 + bytes) return false;
  }
  uint64_t number = format;
  if (bytes > 0) number = 0;
  for (size_t i = 1; i <= bytes; ++i) number = number << 8 | place.at[i];
  Put(place.out, number);
  place.at += 1 + bytes;
  place.out += kNumberBytes;
  --place.left;
  return true;
}

// An integer in one of the forms that most token ids have.
struct Usual {
  explicit Usual(uint8_t format)
      : two(format == kUint16 ? 1 : 0),
        four(format == kUint32 ? 1 : 0),
        is_one(format < kFirstOther || (two | four) != 0) {}

  [[nodiscard]] uint64_t bytes() const { return 1 + 2 * two + 4 * four; }
  // Looks at eight bytes from the format on.
  [[nodiscard]] uint64_t Read(const uint8_t* at) const {
    const uint64_t mask = 0xff | (0xffff & -two) | (0xffffffff & -four);
    return BigEndian64(at) >> (56 - 16 * two - 32 * four) & mask;
  }

  uint64_t two;  // 1: two bytes follow
  uint64_t four;
  bool is_one;
};

// Up to `most` usual ones, two by two. Gives whether there were any.
//
// Sizes of two and four bytes come in no order that a processor could guess. So nothing is jumped
// to, and of two integers the second's format is loaded from all places where it may stand.
bool TakePairs(Place& place, size_t most) {
  // An integer takes five bytes at most, and eight are looked at.
  if (place.bytes() < 16) return false;
  const size_t safe = std::min({most, place.left, (place.bytes() - 11) / 5});
  const uint8_t* at = place.at;
  char* out = place.out;
  size_t taken = 0;
  for (; taken + 2 <= safe; taken += 2) {
    const Usual first(at[0]);
    const Usual second(first.two ? at[3] : first.four ? at[5] : at[1]);
    if (!first.is_one || !second.is_one) break;
    Put(out, first.Read(at));
    at += first.bytes();
    Put(out + kNumberBytes, second.Read(at));
    at += second.bytes();
    out += 2 * kNumberBytes;
  }
  place.at = at;
  place.out = out;
  place.left -= taken;
  return taken > 0;
}

#if defined(__x86_64__)

constexpr size_t kVector = 64;
// Integers begin in the first so many bytes of a vector, or behind it; each that does ends in it.
constexpr int kWindow = 59;
// That begin in one window, at most; more are taken in another way.
constexpr size_t kMostInWindow = 32;
constexpr size_t kAtOnce = kVector / kNumberBytes;

using Lanes = std::array<uint8_t, kVector>;
template <typename Of>
constexpr Lanes LanesOf(Of of) {
  Lanes lanes{};
  for (int i = 0; i < int{kVector}; ++i) {
    lanes[static_cast<size_t>(i)] = static_cast<uint8_t>(of(i));
  }
  return lanes;
}
constexpr uint64_t kInWindow = (uint64_t{1} << kWindow) - 1;
// The places in a vector; and one on from those in the window.
constexpr Lanes kHere = LanesOf([](int i) { return i; });
constexpr Lanes kOn = LanesOf([](int i) { return i < kWindow ? i + 1 : i; });
// Of the formats from this one on, their sizes with what follows; 0 where they are none of ours.
constexpr uint8_t kFirstSize = 0xc0;
constexpr Lanes kSizes = LanesOf([](int i) {
  const int format = kFirstSize + i;
  return format == kUint8 ? 2 : format == kUint16 ? 3 : format == kUint32 ? 5 : 0;
});
// Four bytes for each of sixteen integers: which of them it is, and how far before its end.
constexpr Lanes kNumber = LanesOf([](int i) { return i / 4; });
constexpr Lanes kBeforeEnd = LanesOf([](int i) { return 1 + i % 4; });
constexpr uint64_t kLastOfFour = 0x1111111111111111;
// The places that have this bit.
template <int bit>
constexpr uint64_t kWith = [] {
  uint64_t mask = 0;
  for (int i = 0; i < int{kVector}; ++i) mask |= static_cast<uint64_t>(i >> bit & 1) << i;
  return mask;
}();

#define CONDUCTOR_WIDE [[gnu::target("avx512f,avx512bw,avx512vbmi")]]

CONDUCTOR_WIDE inline __m512i Load(const Lanes& lanes) { return _mm512_loadu_si512(lanes.data()); }

// Window after window, as long as there is one and all that begins in it is an integer.
//
// Where an integer begins depends on all before it. So for each byte of a window is computed where
// the next one begins if one begins here; from that for the second next, the fourth next and so
// on. What depends on the window before is only which of these are taken.
CONDUCTOR_WIDE void TakeWindows(Place& place) {
  const __m512i here = Load(kHere);
  uint64_t entry = 0;  // where the first one begins
  while (place.bytes() >= kVector && place.left >= kMostInWindow) {
    const __m512i bytes = _mm512_loadu_si512(place.at);
    const __mmask64 alone = ~_mm512_movepi8_mask(bytes);
    // Where it is no integer nothing comes next but itself.
    __m512i next = _mm512_mask_mov_epi8(here, alone, Load(kOn));
    const __mmask64 others = _mm512_mask_cmpge_epu8_mask(
        kInWindow, bytes, _mm512_set1_epi8(static_cast<char>(kFirstSize)));
    next = _mm512_mask_add_epi8(next, others, next, _mm512_permutexvar_epi8(bytes, Load(kSizes)));
    const __m512i second = _mm512_permutexvar_epi8(next, next);
    const __m512i fourth = _mm512_permutexvar_epi8(second, second);
    const __m512i eighth = _mm512_permutexvar_epi8(fourth, fourth);
    const __m512i sixteenth = _mm512_permutexvar_epi8(eighth, eighth);
    const __m512i last = _mm512_permutexvar_epi8(sixteenth, sixteenth);
    // By entry, which is below eight.
    const auto lasts = static_cast<uint64_t>(_mm_cvtsi128_si64(_mm512_castsi512_si128(last)));
    const uint64_t behind = lasts >> (8 * entry) & 0xff;
    if (behind < kWindow) break;

    // Where all of them begin: the n-th is as many on from the first as the bits of n say.
    __m512i begins = _mm512_set1_epi8(static_cast<char>(entry));
    begins = _mm512_mask_permutexvar_epi8(begins, kWith<0>, begins, next);
    begins = _mm512_mask_permutexvar_epi8(begins, kWith<1>, begins, second);
    begins = _mm512_mask_permutexvar_epi8(begins, kWith<2>, begins, fourth);
    begins = _mm512_mask_permutexvar_epi8(begins, kWith<3>, begins, eighth);
    begins = _mm512_mask_permutexvar_epi8(begins, kWith<4>, begins, sixteenth);
    const auto in_window =
        static_cast<uint32_t>(_mm512_cmplt_epu8_mask(begins, _mm512_set1_epi8(kWindow)));
    const auto count = static_cast<size_t>(std::popcount(in_window));

    for (size_t done = 0; done < count; done += kAtOnce) {
      const __m512i number =
          _mm512_add_epi8(Load(kNumber), _mm512_set1_epi8(static_cast<char>(done)));
      const __m512i begin = _mm512_permutexvar_epi8(number, begins);
      const __m512i from = _mm512_sub_epi8(_mm512_permutexvar_epi8(begin, next), Load(kBeforeEnd));
      // Behind the format; or the format, where there is nothing else.
      const __mmask64 digits = _mm512_cmpgt_epi8_mask(from, begin) | kLastOfFour;
      _mm512_storeu_si512(place.out + done * kNumberBytes,
                          _mm512_maskz_permutexvar_epi8(digits, from, bytes));
    }
    place.at += kWindow;
    place.out += count * kNumberBytes;
    place.left -= count;
    entry = behind - kWindow;
  }
  place.at += entry;
}

#undef CONDUCTOR_WIDE

bool HasWide() {
  static const bool has =
      __builtin_cpu_supports("avx512bw") != 0 && __builtin_cpu_supports("avx512vbmi") != 0;
  return has;
}

#else

constexpr size_t kMostInWindow = 32;
void TakeWindows(Place&) {}
bool HasWide() { return false; }

#endif

}  // namespace

size_t TakeSmallIntegers(std::string_view& bytes, char* out, size_t most, bool wide) {
  const auto* const begin = reinterpret_cast<const uint8_t*>(bytes.data());
  Place place{begin, begin + bytes.size(), out, most};
  wide &= HasWide();
  do {
    if (wide) TakeWindows(place);
    // What is no window's: all, or as many as another window may be behind.
  } while (TakePairs(place, wide ? kMostInWindow : most) || TakeOne(place));
  bytes.remove_prefix(static_cast<size_t>(place.at - begin));
  return most - place.left;
}

}  // namespace conductor::wire
