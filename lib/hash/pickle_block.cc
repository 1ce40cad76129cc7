#include "lib/hash/pickle_block.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "lib/hash/extra_key.h"

static_assert(std::endian::native == std::endian::little,
              "pickle's integers are little-endian and copied where they lie");

namespace conductor::hash {
namespace {

constexpr size_t kFrameTarget = size_t{64} * 1024;
constexpr size_t kFrameHeader = 9;
constexpr size_t kFrameMinimum = 4;  // a shorter one is written without its header
constexpr size_t kMaxToken = 7;      // bytes of the longest: 8a 05 and five

// Writes `value` at `out`, which has room for kMaxToken; returns the end.
char* PutToken(TokenId value, char* out) {
  if (value <= 0xff) {
    out[0] = 'K';
    out[1] = static_cast<char>(value);
    return out + 2;
  }
  if (value <= 0xffff) {
    out[0] = 'M';
    std::memcpy(out + 1, &value, 2);
    return out + 3;
  }
  if (value <= 0x7fffffff) {
    out[0] = 'J';
    std::memcpy(out + 1, &value, 4);
    return out + 5;
  }
  out[0] = '\x8a';
  out[1] = 5;
  std::memcpy(out + 2, &value, 4);
  out[6] = 0;
  return out + 7;
}

// CPython's pickler, as far as it is needed. Each value is begun with BeginValue, where CPython
// looks whether the frame is full.
class PickleWriter {
 public:
  explicit PickleWriter(std::string& out) : out_(out) { out_.append("\x80\x05", 2); }

  void None() {
    BeginValue();
    Put("N");
  }

  void Integer(int64_t value) {
    BeginValue();
    if (value >= 0 && value <= std::numeric_limits<TokenId>::max()) {
      std::array<char, kMaxToken> bytes;
      const char* end = PutToken(static_cast<TokenId>(value), bytes.data());
      Put({bytes.data(), static_cast<size_t>(end - bytes.data())});
    } else if (value >= std::numeric_limits<int32_t>::min() && value < 0) {
      Put("J");
      PutRaw(static_cast<int32_t>(value), 4);
    } else {
      // The fewest bytes of two's complement that keep the sign.
      const auto bits =
          static_cast<size_t>(std::bit_width(static_cast<uint64_t>(value < 0 ? ~value : value)));
      const size_t bytes = bits / 8 + 1;
      Put("\x8a");
      PutRaw(bytes, 1);
      PutRaw(value, bytes);
    }
  }

  void Text(std::string_view text) { Shared(IsOneObject(text), text, '\x8c', 'X', '\x8d'); }
  void Bytes(std::string_view bytes) { Shared(bytes.size() <= 1, bytes, 'C', 'B', '\x8e'); }

  void BeginTuple(size_t items) {
    BeginValue();
    if (items > 3) Put("(");
  }
  void EndTuple(size_t items) {
    constexpr std::array<std::string_view, 4> kEnds = {")", "\x85", "\x86", "\x87"};
    Put(items < kEnds.size() ? kEnds[items] : "t");
    if (items > 0) Memoize();
  }

  void Tokens(std::span<const TokenId> tokens) {
    constexpr size_t kChunk = 1024;
    BeginTuple(tokens.size());
    for (size_t begin = 0; begin < tokens.size(); begin += kChunk) {
      const auto chunk = tokens.subspan(begin, std::min(kChunk, tokens.size() - begin));
      if (frame_ != kNoFrame && FrameBytes() + kChunk * kMaxToken < kFrameTarget) {
        const size_t at = out_.size();
        out_.resize(at + chunk.size() * kMaxToken);
        char* end = out_.data() + at;
        for (const TokenId token : chunk) end = PutToken(token, end);
        out_.resize(static_cast<size_t>(end - out_.data()));
      } else {
        for (const TokenId token : chunk) Integer(token);
      }
    }
    EndTuple(tokens.size());
  }

  void Stop() {
    Put(".");
    CloseFrame();
  }

 private:
  static constexpr size_t kNoFrame = std::numeric_limits<size_t>::max();

  struct SharedObject {
    char opcode;
    std::string_view value;
    uint32_t number;
  };

  // Whether CPython has one object only for `text`: no character, or one below U+0100.
  static bool IsOneObject(std::string_view text) {
    return text.empty() || (text.size() == 1 && static_cast<uint8_t>(text[0]) < 0x80) ||
           (text.size() == 2 && (text[0] == '\xc2' || text[0] == '\xc3'));
  }

  [[nodiscard]] size_t FrameBytes() const { return out_.size() - frame_ - kFrameHeader; }

  void BeginValue() {
    if (frame_ != kNoFrame && FrameBytes() >= kFrameTarget) CloseFrame();
  }

  void Put(std::string_view bytes) {
    if (frame_ == kNoFrame) {
      frame_ = out_.size();
      out_.append(kFrameHeader, '\x95');
    }
    out_.append(bytes);
  }

  template <typename Integer>
  void PutRaw(Integer value, size_t bytes) {
    out_.append(reinterpret_cast<const char*>(&value), bytes);
  }

  void CloseFrame() {
    if (frame_ == kNoFrame) return;
    const uint64_t bytes = FrameBytes();
    if (bytes >= kFrameMinimum) {
      std::memcpy(out_.data() + frame_ + 1, &bytes, sizeof(bytes));
    } else {
      out_.erase(frame_, kFrameHeader);
    }
    frame_ = kNoFrame;
  }

  void Memoize() {
    Put("\x94");
    ++memoized_;
  }

  // Text or bytes, with the opcodes for a length of one, four and eight bytes; a reference when
  // there is one object only for this value and it has been written.
  void Shared(bool one_object, std::string_view value, char opcode8, char opcode32, char opcode64) {
    BeginValue();
    if (one_object) {
      for (const SharedObject& known : shared_) {
        if (known.opcode == opcode8 && known.value == value) return Reference(known.number);
      }
      shared_.push_back({opcode8, value, memoized_});
    }
    if (value.size() >= kFrameTarget) {
      CloseFrame();
      PutLength(value.size(), opcode8, opcode32, opcode64);
    } else {
      Put({});
      PutLength(value.size(), opcode8, opcode32, opcode64);
    }
    out_.append(value);
    Memoize();
  }

  void PutLength(size_t length, char opcode8, char opcode32, char opcode64) {
    const bool is8 = length <= 0xff;
    const bool is32 = length <= 0xffffffff;
    out_.push_back(is8 ? opcode8 : is32 ? opcode32 : opcode64);
    PutRaw(length, is8 ? 1 : is32 ? 4 : 8);
  }

  void Reference(uint32_t number) {
    Put(number <= 0xff ? "h" : "j");
    PutRaw(number, number <= 0xff ? 1 : 4);
  }

  std::string& out_;
  size_t frame_ = kNoFrame;  // where the open frame's header lies
  uint32_t memoized_ = 0;
  std::vector<SharedObject> shared_;
};

Status PutExtras(const ExtraKeys& extras, PickleWriter& writer) {
  if (extras.empty()) {
    writer.None();
    return {};
  }
  writer.BeginTuple(extras.size());
  for (size_t i = 0; i < extras.size(); ++i) {
    const auto key = ReadExtraKey(extras[i]);
    if (!key) return tl::unexpected(Error(key.error()).Within("extra key " + std::to_string(i)));
    switch (key->kind) {
      case ExtraKey::Kind::kText:
        writer.Text(key->text);
        break;
      case ExtraKey::Kind::kBytes:
        writer.Bytes(key->text);
        break;
      case ExtraKey::Kind::kInteger:
        writer.Integer(key->number);
        break;
      case ExtraKey::Kind::kItem:
        writer.BeginTuple(2);
        writer.Text(key->text);
        writer.Integer(key->number);
        writer.EndTuple(2);
        break;
    }
  }
  writer.EndTuple(extras.size());
  return {};
}

}  // namespace

Status PickleBlock(std::string_view parent, std::span<const TokenId> tokens,
                   const ExtraKeys& extras, std::string& out) {
  PickleWriter writer(out);
  writer.BeginTuple(3);
  writer.Bytes(parent);
  writer.Tokens(tokens);
  if (Status status = PutExtras(extras, writer); !status) return status;
  writer.EndTuple(3);
  writer.Stop();
  return {};
}

void PickleText(std::string_view text, std::string& out) {
  PickleWriter writer(out);
  writer.Text(text);
  writer.Stop();
}

}  // namespace conductor::hash
