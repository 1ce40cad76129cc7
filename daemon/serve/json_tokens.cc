#include "daemon/serve/json_tokens.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <limits>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace conductor::serve {
namespace {

constexpr bool IsSpace(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }
constexpr bool IsDigit(char c) { return c >= '0' && c <= '9'; }

const char* SkipSpace(const char* at, const char* end) {
  while (at < end && IsSpace(*at)) ++at;
  return at;
}

// A stretch of an array: numbers with commas between them.
struct Stretch {
  const char* at;
  const char* end;  // a comma, or what ends the array
  TokenId* out;
  size_t left;  // numbers
};

// Any integer below 2^32 with any white space around it, and the comma behind it.
bool TakeAny(Stretch& stretch) {
  stretch.at = SkipSpace(stretch.at, stretch.end);
  TokenId id = 0;
  const auto [stop, error] = std::from_chars(stretch.at, stretch.end, id);
  if (error != std::errc() || (*stretch.at == '0' && stop != stretch.at + 1)) return false;
  stretch.at = SkipSpace(stop, stretch.end);
  *stretch.out++ = id;
  --stretch.left;
  if (stretch.at == stretch.end) return stretch.left == 0;
  if (*stretch.at != ',') return false;
  stretch.at = SkipSpace(stretch.at + 1, stretch.end);
  return true;
}

// The next integer in its usual form: one to six digits and a comma, and a space where kSpaced.
// Gives where the next one begins; nullptr, and nothing of use in `id`, where it is anything else.
// Looks at kReadAhead bytes, and has no branch that depends on how many digits there are.
template <bool kSpaced>
inline const char* TakeUsual(const char* at, TokenId* id) {
  uint64_t bytes = 0;
  std::memcpy(&bytes, at, sizeof bytes);
  static_assert(std::endian::native == std::endian::little);
  static_assert(sizeof bytes <= JsonTokens::kReadAhead);
  // A digit becomes its value, and what is none a byte that has its high bit after the addition.
  uint64_t digits = bytes ^ 0x3030303030303030;
  const uint64_t others = ((digits + 0x7676767676767676) | digits) & 0x8080808080808080;
  const int bits = std::countr_zero(others) - 7;  // of the digits
  const uint64_t behind = bytes >> (bits & 63);
  const bool leading_zero = static_cast<char>(bytes) == '0' && bits != 8;
  constexpr uint16_t kBehind = kSpaced ? ',' | ' ' << 8 : ',';
  const bool usual =
      bits >= 8 && bits <= 48 &&
      (kSpaced ? static_cast<uint16_t>(behind) : static_cast<uint8_t>(behind)) == kBehind &&
      !leading_zero;
  // Right-aligned; then digits, pairs and fours are put together.
  digits <<= (64 - bits) & 63;
  digits = digits * (10 << 8 | 1) >> 8 & 0x00ff00ff00ff00ff;
  digits = digits * (100 << 16 | 1) >> 16 & 0x0000ffff0000ffff;
  *id = static_cast<TokenId>(digits * (uint64_t{10000} << 32 | 1) >> 32);
  at += bits / 8 + (kSpaced ? 2 : 1);
  return usual ? at : nullptr;
}

size_t CountCommas(const char* at, const char* end) {
  // In bytes, as long as they can hold it: std::count, in words, takes as long as all the rest.
  constexpr ptrdiff_t kBlock = 128;
  size_t commas = 0;
  for (; end - at >= kBlock; at += kBlock) {
    uint8_t of_block = 0;
    for (ptrdiff_t i = 0; i < kBlock; ++i)
      of_block = static_cast<uint8_t>(of_block + (at[i] == ','));
    commas += of_block;
  }
  return commas + static_cast<size_t>(std::count(at, end, ','));
}

// An array in stretches that are read in turns: a processor waits for a number's length before it
// can begin the next one, and meanwhile reads the others.
constexpr size_t kStretches = 4;
using Stretches = std::array<Stretch, kStretches>;

// Up to `most` integers of each stretch, kStep at a time with kTake, as long as all are in their
// usual form. Each stretch has more than that. Gives how many.
template <size_t kStep, const char* (*kTake)(const char*, TokenId*)>
[[gnu::always_inline]] inline size_t InTurns(Stretches& stretches, size_t most) {
  // Copies, which need no memory.
  std::array<const char*, kStretches> at;
  std::array<TokenId*, kStretches> out;
  for (size_t i = 0; i < kStretches; ++i) {
    at[i] = stretches[i].at;
    out[i] = stretches[i].out;
  }
  size_t done = 0;
  for (; done + kStep <= most; done += kStep) {
    std::array<const char*, kStretches> next;
    bool usual = true;
    for (size_t i = 0; i < kStretches; ++i) {
      next[i] = kTake(at[i], out[i] + done);
      usual &= next[i] != nullptr;
    }
    if (!usual) break;
    at = next;
  }
  for (size_t i = 0; i < kStretches; ++i) {
    stretches[i].at = at[i];
    stretches[i].out += done;
    stretches[i].left -= done;
  }
  return done;
}

template <bool kSpaced>
size_t TakeTogether(Stretches& stretches, size_t most) {
  return InTurns<1, TakeUsual<kSpaced>>(stretches, most);
}

#if defined(__x86_64__)

// Where the digits of two numbers of so many digits go: to the ends of eight bytes each, zeros
// before them.
constexpr size_t kMostPairDigits = 7;
constexpr uint8_t kZero = 0x80;  // of a shuffle
template <bool kSpaced>
constexpr auto kPairShuffles = [] {
  std::array<std::array<std::array<uint8_t, 16>, kMostPairDigits + 1>, kMostPairDigits + 1> all{};
  for (size_t first = 1; first <= kMostPairDigits; ++first) {
    for (size_t second = 1; second <= kMostPairDigits; ++second) {
      const size_t begin = first + (kSpaced ? 2 : 1);
      auto& shuffle = all[first][second];
      for (size_t i = 0; i < 8; ++i) {
        shuffle[i] = static_cast<uint8_t>(i + first < 8 ? kZero : i + first - 8);
        shuffle[8 + i] = static_cast<uint8_t>(i + second < 8 ? kZero : begin + i + second - 8);
      }
    }
  }
  return all;
}();

// The next two integers in their usual form, of up to seven digits each, as TakeUsual() takes one,
// in a third of the instructions.
template <bool kSpaced>
[[gnu::target("sse4.1")]] inline const char* TakePair(const char* at, TokenId* out) {
  static_assert(JsonTokens::kReadAhead >= sizeof(__m128i));
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
  const __m128i digits = _mm_sub_epi8(bytes, _mm_set1_epi8('0'));
  const auto bits = [](__m128i lanes) { return static_cast<uint32_t>(_mm_movemask_epi8(lanes)); };
  const uint32_t others =
      ~bits(_mm_cmpeq_epi8(_mm_min_epu8(digits, _mm_set1_epi8(9)), digits)) & 0xffff;
  const uint32_t commas = bits(_mm_cmpeq_epi8(bytes, _mm_set1_epi8(',')));
  const uint32_t zeros = bits(_mm_cmpeq_epi8(bytes, _mm_set1_epi8('0')));
  constexpr uint32_t kBetween = kSpaced ? 2 : 1;
  constexpr uint32_t kSentinel = 1U << 31;  // where there is none
  const auto first = static_cast<uint32_t>(std::countr_zero(others | kSentinel));
  const uint32_t begin = first + kBetween;
  const auto second = static_cast<uint32_t>(std::countr_zero((others | kSentinel) >> (begin & 31)));
  const uint32_t end = begin + second;
  bool usual = first - 1 < kMostPairDigits && second - 1 < kMostPairDigits &&
               end + kBetween <= sizeof bytes && (commas >> (first & 31) & 1) != 0 &&
               (commas >> (end & 31) & 1) != 0;
  if constexpr (kSpaced) {
    const uint32_t spaces = bits(_mm_cmpeq_epi8(bytes, _mm_set1_epi8(' ')));
    usual &= (spaces >> ((first + 1) & 31) & spaces >> ((end + 1) & 31) & 1) != 0;
  }
  const bool leading_zero =
      ((zeros & 1) != 0 && first > 1) || ((zeros >> (begin & 31) & 1) != 0 && second > 1);
  if (!usual || leading_zero) return nullptr;
  const auto* const shuffle = kPairShuffles<kSpaced>[first][second].data();
  const __m128i aligned =
      _mm_shuffle_epi8(digits, _mm_loadu_si128(reinterpret_cast<const __m128i*>(shuffle)));
  const __m128i twos = _mm_maddubs_epi16(aligned, _mm_set1_epi16(1 << 8 | 10));
  const __m128i fours = _mm_madd_epi16(twos, _mm_set1_epi32(1 << 16 | 100));
  const __m128i packed = _mm_packus_epi32(fours, fours);
  const __m128i numbers = _mm_madd_epi16(packed, _mm_set1_epi32(1 << 16 | 10000));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(out), numbers);
  return at + end + kBetween;
}

template <bool kSpaced>
[[gnu::target("sse4.1")]] size_t TakePairsTogether(Stretches& stretches, size_t most) {
  return InTurns<2, TakePair<kSpaced>>(stretches, most);
}

// Bytes of a vector, each from its place in it.
template <typename Of>
constexpr std::array<uint8_t, 64> Lanes(Of of) {
  std::array<uint8_t, 64> lanes{};
  for (int i = 0; i < 64; ++i) lanes[static_cast<size_t>(i)] = static_cast<uint8_t>(of(i));
  return lanes;
}
constexpr auto kPlaces = Lanes([](int i) { return i; });
// Eight numbers of eight bytes each.
constexpr auto kNumbers = Lanes([](int i) { return i / 8; });
constexpr auto kNumbersBefore = Lanes([](int i) { return std::max(i / 8 - 1, 0); });
constexpr auto kFromEnd = Lanes([](int i) { return i % 8 - 8; });

#define CONDUCTOR_EIGHTS [[gnu::target("avx512f,avx512bw,avx512vbmi,avx512vbmi2")]]

CONDUCTOR_EIGHTS inline __m512i Load(const std::array<uint8_t, 64>& lanes) {
  return _mm512_loadu_si512(lanes.data());
}

// The next eight integers in their usual form, of up to eight digits each, in half the instructions
// of four pairs. Looks at kReadAhead bytes.
template <bool kSpaced>
CONDUCTOR_EIGHTS inline const char* TakeEight(const char* at, TokenId* out) {
  static_assert(JsonTokens::kReadAhead == sizeof(__m512i));
  constexpr uint64_t kBetween = kSpaced ? 2 : 1;
  const __m512i bytes = _mm512_loadu_si512(at);
  const __m512i values = _mm512_sub_epi8(bytes, _mm512_set1_epi8('0'));
  const uint64_t digits = _mm512_cmple_epu8_mask(values, _mm512_set1_epi8(9));
  const uint64_t zeros = _mm512_testn_epi8_mask(values, values);
  const uint64_t commas = _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8(','));
  // Where the commas stand, one behind the other; zeros where there are no more.
  const __m512i ends = _mm512_maskz_compress_epi8(commas, Load(kPlaces));
  const uint64_t last =
      static_cast<uint64_t>(_mm_cvtsi128_si64(_mm512_castsi512_si128(ends))) >> 56;
  const uint64_t next = last + kBetween;  // where the ninth number begins
  if (last == 0 || next > sizeof bytes) return nullptr;
  const uint64_t within = ~uint64_t{0} >> (sizeof bytes - next);
  const uint64_t begins = commas << kBetween | 1;
  uint64_t separators = commas;
  uint64_t wrong = begins & (~digits | (zeros & digits >> 1));
  if constexpr (kSpaced) {
    const uint64_t spaces = _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8(' '));
    wrong |= spaces ^ commas << 1;
    separators |= spaces;
  }
  wrong |= ~(digits | separators);
  const __m512i end = _mm512_permutexvar_epi8(Load(kNumbers), ends);
  const __m512i begin =
      _mm512_maskz_add_epi8(~uint64_t{0xff}, _mm512_permutexvar_epi8(Load(kNumbersBefore), ends),
                            _mm512_set1_epi8(kBetween));
  const uint64_t too_long =
      _mm512_cmpgt_epi8_mask(_mm512_sub_epi8(end, begin), _mm512_set1_epi8(8));
  if (((wrong & within) | too_long) != 0) return nullptr;
  // Right-aligned, zeros before them; then digits, pairs and fours are put together.
  const __m512i from = _mm512_add_epi8(end, Load(kFromEnd));
  const __m512i aligned =
      _mm512_maskz_permutexvar_epi8(_mm512_cmpge_epi8_mask(from, begin), from, values);
  const __m512i twos = _mm512_maddubs_epi16(aligned, _mm512_set1_epi16(1 << 8 | 10));
  const __m512i fours = _mm512_madd_epi16(twos, _mm512_set1_epi32(1 << 16 | 100));
  const __m512i numbers = _mm512_add_epi64(_mm512_mul_epu32(fours, _mm512_set1_epi64(10000)),
                                           _mm512_srli_epi64(fours, 32));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm512_cvtepi64_epi32(numbers));
  return at + next;
}

template <bool kSpaced>
CONDUCTOR_EIGHTS size_t TakeEightsTogether(Stretches& stretches, size_t most) {
  return InTurns<8, TakeEight<kSpaced>>(stretches, most);
}

#undef CONDUCTOR_EIGHTS

// How many numbers of a stretch the processor can take at once.
size_t MostAtOnce() {
  static const size_t at_once = []() -> size_t {
    if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vbmi") &&
        __builtin_cpu_supports("avx512vbmi2")) {
      return 8;
    }
    return __builtin_cpu_supports("sse4.1") ? 2 : 1;
  }();
  return at_once;
}

// Up to `most` of each as long as they are usual, so many at once.
template <bool kSpaced>
size_t TakeSeveralTogether(Stretches& stretches, size_t most, size_t at_once) {
  switch (at_once) {
    case 8:
      return TakeEightsTogether<kSpaced>(stretches, most);
    case 2:
      return TakePairsTogether<kSpaced>(stretches, most);
    default:
      return 0;
  }
}

#else

template <bool kSpaced>
size_t TakeSeveralTogether(Stretches&, size_t, size_t) {
  return 0;
}
size_t MostAtOnce() { return 1; }

#endif

// The quotation mark that ends the text which begins behind `at`; `end` where there is none.
const char* TextEnd(const char* at, const char* end) {
  for (;;) {
    const auto* quote =
        static_cast<const char*>(std::memchr(at, '"', static_cast<size_t>(end - at)));
    if (quote == nullptr) return end;
    const char* before = quote;
    while (before > at && before[-1] == '\\') --before;
    if ((quote - before) % 2 == 0) return quote;
    at = quote + 1;
  }
}

}  // namespace

JsonTokens::JsonTokens(size_t most_at_once) : at_once_(std::min(most_at_once, MostAtOnce())) {}

TokenId* JsonTokens::Room(size_t ids) {
  if (room_ - used_ < ids) {
    const size_t room = std::max(2 * room_, used_ + ids);
    std::unique_ptr<TokenId[]> larger(new TokenId[room]);  // not zeroed: it is written
    std::copy_n(ids_.get(), used_, larger.get());
    ids_ = std::move(larger);
    room_ = room;
  }
  return ids_.get() + used_;
}

bool JsonTokens::Take(std::string_view items) {
  Stretches stretches;
  const char* const end = items.data() + items.size();
  const char* at = items.data();
  size_t total = 0;
  for (size_t i = 0; i < kStretches; ++i) {
    const char* stop = end;
    if (i + 1 < kStretches) {
      const char* const part = items.data() + items.size() / kStretches * (i + 1);
      stop = std::find(std::max(at, part), end, ',');
      if (stop == end) return false;  // hardly anything but white space
    }
    const auto numbers = CountCommas(at, stop) + 1;
    stretches[i] = {at, stop, nullptr, numbers};
    total += numbers;
    at = stop + 1;
  }
  TokenId* out = Room(total);
  size_t together = total;
  for (Stretch& stretch : stretches) {
    stretch.out = out;
    out += stretch.left;
    together = std::min(together, stretch.left - 1);
  }
  // Whoever writes a space behind one comma writes it behind all.
  const bool spaced = stretches[0].end + 1 < end && stretches[0].end[1] == ' ';
  while (together > 0) {
    together -= spaced ? TakeSeveralTogether<true>(stretches, together, at_once_)
                       : TakeSeveralTogether<false>(stretches, together, at_once_);
    // Up to the next that are usual; or all, one by one.
    const size_t most = at_once_ > 1 ? std::min(together, at_once_) : together;
    const size_t done =
        spaced ? TakeTogether<true>(stretches, most) : TakeTogether<false>(stretches, most);
    together -= done;
    if (done == most) continue;
    for (Stretch& stretch : stretches) {
      if (!TakeAny(stretch)) return false;
    }
    --together;
  }
  for (Stretch& stretch : stretches) {
    while (stretch.left > 0) {
      if (!TakeAny(stretch)) return false;
    }
  }
  arrays_.emplace_back(used_, total);
  used_ += total;
  return true;
}

bool JsonTokens::Lift(std::string_view json, size_t padding) {
  rest_.clear();
  arrays_.clear();
  used_ = 0;
  if (json.size() < kLongArray) return false;
  const char* const end = json.data() + json.size();
  const char* kept = json.data();  // what is before is in rest_
  const char* tried = json.data();
  const char* at = json.data();
  while (at < end) {
    const char c = *at++;
    if (c == '"') {
      at = TextEnd(at, end);
      at += at < end;
      continue;
    }
    // What is inside of a bracket that was tried is not tried again: every byte is looked at twice
    // at most, however deep it nests.
    if (c != '[' || at < tried) continue;
    const char* const first = SkipSpace(at, end);
    if (first == end || !IsDigit(*first)) continue;
    const auto* close =
        static_cast<const char*>(std::memchr(first, ']', static_cast<size_t>(end - first)));
    if (close == nullptr) break;
    tried = close;
    if (static_cast<size_t>(close - first) < kLongArray ||
        !Take({first, static_cast<size_t>(close - first)})) {
      continue;
    }
    rest_.append(kept, at);
    rest_.append(fmt::format("\"{}{}\"", kMarkEscape, arrays_.size() - 1));
    kept = close;
    at = close;
  }
  if (arrays_.empty()) return false;
  rest_.append(kept, end);
  rest_.reserve(rest_.size() + padding);
  // A client's own such text would be taken for a placeholder.
  size_t marks = 0;
  for (size_t mark = rest_.find(kMarkEscape); mark != std::string::npos;
       mark = rest_.find(kMarkEscape, mark + 1)) {
    ++marks;
  }
  return marks == arrays_.size();
}

std::span<const TokenId> JsonTokens::At(std::string_view placeholder) const {
  size_t index = std::numeric_limits<size_t>::max();
  std::from_chars(placeholder.data() + 1, placeholder.data() + placeholder.size(), index);
  if (index >= arrays_.size()) return {};
  const auto [first, size] = arrays_[index];
  return {ids_.get() + first, size};
}

}  // namespace conductor::serve
