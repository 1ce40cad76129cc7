#include "lib/wire/msgpack_tape.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <new>
#include <utility>

#include "lib/wire/small_integers.h"

namespace conductor::wire {
namespace {

using Kind = MsgpackValue::Kind;

// A tape that was long once gives its memory back instead of holding it for ever.
constexpr size_t kWordsKept = size_t{1} << 20;
constexpr size_t kFirstWords = 256;
// Items from which on it is tried whether an array is one of token ids.
constexpr uint64_t kLeastPacked = 16;
constexpr ptrdiff_t kOwnWords = 2;  // of an array or a map
constexpr uint64_t kInlineLimit = uint64_t{1} << 60;

// The formats of https://github.com/msgpack/msgpack/blob/master/spec.md that are not a range.
enum Format : uint8_t {
  kFixMap = 0x80,
  kFixArray = 0x90,
  kFixText = 0xa0,
  kNilFormat = 0xc0,
  kNeverUsed = 0xc1,
  kFalse = 0xc2,
  kTrue = 0xc3,
  kBytes8 = 0xc4,
  kExtension8 = 0xc7,
  kFloat32 = 0xca,
  kFloat64 = 0xcb,
  kUint8 = 0xcc,
  kUint16 = 0xcd,
  kUint32 = 0xce,
  kUint64 = 0xcf,
  kInt8 = 0xd0,
  kInt16 = 0xd1,
  kInt32 = 0xd2,
  kInt64 = 0xd3,
  kFixExtension1 = 0xd4,
  kText8 = 0xd9,
  kArray16 = 0xdc,
  kMap16 = 0xde,
  kFirstNegative = 0xe0,
};

uint64_t Head(Kind kind, uint64_t payload) { return payload << 4 | static_cast<uint64_t>(kind); }

template <typename T>
T BigEndian(const uint8_t* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof(T));
  if constexpr (sizeof(T) == 2) value = __builtin_bswap16(value);
  if constexpr (sizeof(T) == 4) value = __builtin_bswap32(value);
  if constexpr (sizeof(T) == 8) value = __builtin_bswap64(value);
  return value;
}
static_assert(std::endian::native == std::endian::little);

}  // namespace

std::string_view MsgpackValue::KindName() const {
  switch (kind()) {
    case Kind::kNil:
      return "nil";
    case Kind::kBool:
      return "a boolean";
    case Kind::kUint:
    case Kind::kWideUint:
    case Kind::kNegative:
      return "an integer";
    case Kind::kFloat:
      return "a float";
    case Kind::kText:
      return "text";
    case Kind::kBytes:
      return "bytes";
    case Kind::kExtension:
      return "an extension";
    case Kind::kArray:
      return "an array";
    case Kind::kMap:
      return "a map";
  }
  return "nothing";
}

bool MsgpackValue::CopyIntegers(std::vector<uint32_t>& out) const {
  if (is_packed()) {
    const uint32_t* const numbers = std::launder(reinterpret_cast<const uint32_t*>(first()));
    out.assign(numbers, numbers + size());
    return true;
  }
  out.clear();
  out.reserve(size());
  for (const MsgpackValue item : items()) {
    const auto number = item.AsUint64();
    if (!number || *number > std::numeric_limits<uint32_t>::max()) return false;
    out.push_back(static_cast<uint32_t>(*number));
  }
  return true;
}

// One payload on its way onto the tape.
class MsgpackTape::Parser {
 public:
  enum class Outcome : uint8_t { kDone, kCutOff, kUnknownFormat, kTooDeep, kTooLong };

  Parser(MsgpackTape& tape, std::string_view payload)
      : tape_(tape),
        begin_(reinterpret_cast<const uint8_t*>(payload.data())),
        at_(begin_),
        end_(begin_ + payload.size()),
        out_(tape.words_.get()),
        room_(out_ + tape.capacity_) {}

  // One value and all that it holds. What is open is kept on a stack of our own: the payload
  // decides how deep it nests.
  Outcome Run() {
    do {
      if (depth_ > 0) --open_[depth_ - 1].left;
      if (const Outcome outcome = TakeValue(); outcome != Outcome::kDone) return outcome;
      while (depth_ > 0 && open_[depth_ - 1].left == 0) Close();
    } while (depth_ > 0);
    return Outcome::kDone;
  }

  // Where it stands: behind the value, or at the one that it could not take.
  [[nodiscard]] size_t offset() const { return static_cast<size_t>(at_ - begin_); }

 private:
  struct Open {
    size_t start;   // on the tape
    uint64_t left;  // values; a map's keys count too
  };

  [[nodiscard]] size_t bytes_left() const { return static_cast<size_t>(end_ - at_); }

  // The items of an array where all are token ids, two to a word behind its own two words. False,
  // and nothing taken, where some are not.
  bool TakePacked(size_t head, uint64_t size) {
    std::string_view bytes(reinterpret_cast<const char*>(at_ + head), bytes_left() - head);
    const auto start = static_cast<size_t>(out_ - tape_.words_.get());
    uint64_t taken = 0;
    for (;;) {
      const size_t room = 2 * static_cast<size_t>(room_ - out_ - kOwnWords);
      const uint64_t wanted = std::min<uint64_t>(size, room) - taken;
      char* const to = reinterpret_cast<char*>(out_ + kOwnWords) + taken * sizeof(uint32_t);
      const size_t got = TakeSmallIntegers(bytes, to, wanted);
      taken += got;
      if (taken == size) break;
      if (got < wanted) return false;
      // What is taken counts as the tape's only while more room is made.
      out_ += kOwnWords + taken / 2;
      const bool made = MakeRoom();
      out_ = tape_.words_.get() + start;
      if (!made) return false;
    }
    const uint64_t words = kOwnWords + (size + 1) / 2;
    out_[0] = Head(Kind::kArray, size);
    out_[1] = words | MsgpackValue::kPacked;
    out_ += words;
    at_ = reinterpret_cast<const uint8_t*>(bytes.data());
    return true;
  }

  Outcome TakeValue() {
    if (room_ - out_ < 2 && !MakeRoom()) return Outcome::kTooLong;
    if (at_ == end_) return Outcome::kCutOff;
    const uint8_t format = *at_;
    if (format < kFixMap) return Take(1, Kind::kUint, format);
    if (format >= kFirstNegative) return TakeSigned(1, static_cast<int8_t>(format));
    if (format < kFixArray) return TakeOpen(1, Kind::kMap, format & 15);
    if (format < kFixText) return TakeOpen(1, Kind::kArray, format & 15);
    if (format < kNilFormat) return TakeView(1, Kind::kText, format & 31);
    switch (format) {
      case kNilFormat:
        return Take(1, Kind::kNil, 0);
      case kFalse:
      case kTrue:
        return Take(1, Kind::kBool, format - kFalse);
      case kBytes8:
      case kBytes8 + 1:
      case kBytes8 + 2:
        return TakeSized(format - kBytes8, [&](size_t head, uint64_t size) {
          return TakeView(head, Kind::kBytes, size);
        });
      case kExtension8:
      case kExtension8 + 1:
      case kExtension8 + 2:
        return TakeSized(format - kExtension8, [&](size_t head, uint64_t size) {
          return TakeView(head, Kind::kExtension, size + 1);
        });
      case kFloat32: {
        if (bytes_left() < 5) return Outcome::kCutOff;
        const auto bits = BigEndian<uint32_t>(at_ + 1);
        return TakeTwo(5, Kind::kFloat,
                       std::bit_cast<uint64_t>(static_cast<double>(std::bit_cast<float>(bits))));
      }
      case kFloat64:
        if (bytes_left() < 9) return Outcome::kCutOff;
        return TakeTwo(9, Kind::kFloat, BigEndian<uint64_t>(at_ + 1));
      case kUint8:
        if (bytes_left() < 2) return Outcome::kCutOff;
        return Take(2, Kind::kUint, at_[1]);
      case kUint16:
        if (bytes_left() < 3) return Outcome::kCutOff;
        return Take(3, Kind::kUint, BigEndian<uint16_t>(at_ + 1));
      case kUint32:
        if (bytes_left() < 5) return Outcome::kCutOff;
        return Take(5, Kind::kUint, BigEndian<uint32_t>(at_ + 1));
      case kUint64:
        if (bytes_left() < 9) return Outcome::kCutOff;
        return TakeUnsigned(9, BigEndian<uint64_t>(at_ + 1));
      case kInt8:
        if (bytes_left() < 2) return Outcome::kCutOff;
        return TakeSigned(2, static_cast<int8_t>(at_[1]));
      case kInt16:
        if (bytes_left() < 3) return Outcome::kCutOff;
        return TakeSigned(3, static_cast<int16_t>(BigEndian<uint16_t>(at_ + 1)));
      case kInt32:
        if (bytes_left() < 5) return Outcome::kCutOff;
        return TakeSigned(5, static_cast<int32_t>(BigEndian<uint32_t>(at_ + 1)));
      case kInt64:
        if (bytes_left() < 9) return Outcome::kCutOff;
        return TakeSigned(9, static_cast<int64_t>(BigEndian<uint64_t>(at_ + 1)));
      case kFixExtension1:
      case kFixExtension1 + 1:
      case kFixExtension1 + 2:
      case kFixExtension1 + 3:
      case kFixExtension1 + 4:
        return TakeView(1, Kind::kExtension, (size_t{1} << (format - kFixExtension1)) + 1);
      case kText8:
      case kText8 + 1:
      case kText8 + 2:
        return TakeSized(format - kText8, [&](size_t head, uint64_t size) {
          return TakeView(head, Kind::kText, size);
        });
      case kArray16:
      case kArray16 + 1:
        return TakeSized(format - kArray16 + 1, [&](size_t head, uint64_t size) {
          return TakeOpen(head, Kind::kArray, size);
        });
      case kMap16:
      case kMap16 + 1:
        return TakeSized(format - kMap16 + 1, [&](size_t head, uint64_t size) {
          return TakeOpen(head, Kind::kMap, size);
        });
      default:
        return Outcome::kUnknownFormat;
    }
  }

  // A size of 2^power bytes after the format.
  template <typename Then>
  Outcome TakeSized(int power, Then then) {
    const size_t head = 1 + (size_t{1} << power);
    if (bytes_left() < head) return Outcome::kCutOff;
    if (power == 0) return then(head, at_[1]);
    if (power == 1) return then(head, BigEndian<uint16_t>(at_ + 1));
    return then(head, BigEndian<uint32_t>(at_ + 1));
  }

  Outcome Take(size_t bytes, Kind kind, uint64_t payload) {
    *out_++ = Head(kind, payload);
    at_ += bytes;
    return Outcome::kDone;
  }
  Outcome TakeTwo(size_t bytes, Kind kind, uint64_t second) {
    *out_++ = Head(kind, 0);
    *out_++ = second;
    at_ += bytes;
    return Outcome::kDone;
  }
  Outcome TakeUnsigned(size_t bytes, uint64_t value) {
    if (value < kInlineLimit) return Take(bytes, Kind::kUint, value);
    return TakeTwo(bytes, Kind::kWideUint, value);
  }
  Outcome TakeSigned(size_t bytes, int64_t value) {
    if (value >= 0) return TakeUnsigned(bytes, static_cast<uint64_t>(value));
    return TakeTwo(bytes, Kind::kNegative, static_cast<uint64_t>(value));
  }
  Outcome TakeView(size_t head, Kind kind, uint64_t size) {
    if (bytes_left() - head < size) return Outcome::kCutOff;
    *out_++ = Head(kind, size);
    *out_++ = reinterpret_cast<uintptr_t>(at_ + head);
    at_ += head + size;
    return Outcome::kDone;
  }
  Outcome TakeOpen(size_t head, Kind kind, uint64_t size) {
    if (depth_ == open_.size()) return Outcome::kTooDeep;
    if (kind == Kind::kArray && size >= kLeastPacked && TakePacked(head, size)) {
      return Outcome::kDone;
    }
    open_[depth_++] = {static_cast<size_t>(out_ - tape_.words_.get()),
                       kind == Kind::kMap ? 2 * size : size};
    *out_++ = Head(kind, size);
    *out_++ = 0;
    at_ += head;
    return Outcome::kDone;
  }
  void Close() {
    const size_t start = open_[--depth_].start;
    uint64_t* word = tape_.words_.get() + start;
    word[1] = static_cast<uint64_t>(out_ - word);
  }

  // Room for two words more at least; false at the limit.
  bool MakeRoom() {
    const auto used = static_cast<size_t>(out_ - tape_.words_.get());
    if (used >= kMaxWords) return false;
    tape_.Grow(used);
    out_ = tape_.words_.get() + used;
    room_ = tape_.words_.get() + tape_.capacity_;
    return true;
  }

  MsgpackTape& tape_;
  const uint8_t* begin_;
  const uint8_t* at_;
  const uint8_t* end_;
  uint64_t* out_;
  uint64_t* room_;
  std::array<Open, kMaxDepth> open_;
  size_t depth_ = 0;
};

void MsgpackTape::Grow(size_t used) {
  const size_t capacity = std::min(std::max(kFirstWords, 2 * capacity_), kMaxWords + 1);
  std::unique_ptr<uint64_t[]> words(new uint64_t[capacity]);  // not zeroed: it is long and written
  std::copy_n(words_.get(), used, words.get());
  words_ = std::move(words);
  capacity_ = capacity;
}

Result<MsgpackValue> MsgpackTape::Parse(std::string_view payload) {
  return Parse(payload, /*more=*/false);
}

Result<MsgpackValue> MsgpackTape::Parse(std::string_view payload, bool more) {
  if (capacity_ > kWordsKept) {
    words_.reset();
    capacity_ = 0;
  }
  if (payload.empty()) return Fail("the payload is empty", "byte 0", "one MessagePack value");

  Parser parser(*this, payload);
  const Parser::Outcome outcome = parser.Run();
  const size_t offset = parser.offset();
  if (outcome == Parser::Outcome::kDone && (more || offset == payload.size())) {
    return MsgpackValue(words_.get());
  }
  const std::string where = fmt::format("byte {}", offset);
  switch (outcome) {
    case Parser::Outcome::kDone:
      return Fail(fmt::format("{} bytes follow the value", payload.size() - offset), where,
                  "one MessagePack value");
    case Parser::Outcome::kCutOff:
      return Fail(fmt::format("the payload ends inside a value, after {} bytes", payload.size()),
                  where, "one whole MessagePack value");
    case Parser::Outcome::kTooDeep:
      return Fail("arrays and maps are nested too deep", where,
                  fmt::format("at most {} levels", kMaxDepth));
    case Parser::Outcome::kTooLong:
      return Fail("the payload holds too many values", where,
                  fmt::format("at most {} integers", kMaxWords));
    case Parser::Outcome::kUnknownFormat:
      break;
  }
  return Fail("no MessagePack value begins with this byte", where, "MessagePack");
}

}  // namespace conductor::wire
