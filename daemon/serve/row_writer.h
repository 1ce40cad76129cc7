#ifndef CONDUCTOR_DAEMON_SERVE_ROW_WRITER_H_
#define CONDUCTOR_DAEMON_SERVE_ROW_WRITER_H_

#include <array>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "daemon/serve/document.h"
#include "daemon/serve/document_pieces.h"

namespace conductor::serve {

// One map of a document that has hundreds of them: an answer's row for each instance. What a
// DocumentWriter does for each value is done once for the row: the form is known when it is
// compiled, there is room for all of it, and nothing is counted on the way. Whoever asks for the
// room counts what this class says of each value.
//
//   RowWriter<BodyForm::kJson> row(out.BeginRow(bytes));
//   char* const map = row.BeginMap(1);
//   row.Key("a");
//   row.Number(1, memo);
//   row.EndMap(map);
//   out.EndRow(row.end());

// How the last number of one kind was written: rows mostly have the same.
class NumberMemo {
 public:
  static constexpr size_t kMostDigits = 24;

  NumberMemo() { Write(0); }

  // The digits of `number` from `at` on, and where they end. Needs room for kMostDigits.
  char* Put(char* at, uint64_t number) {
    if (number != number_) Write(number);
    // All of them, which is one instruction or two.
    std::memcpy(at, digits_.data(), kMostDigits);
    return at + size_;
  }

 private:
  void Write(uint64_t number) {
    number_ = number;
    const auto end = std::to_chars(digits_.data(), digits_.data() + kMostDigits, number).ptr;
    size_ = static_cast<size_t>(end - digits_.data());
  }

  uint64_t number_ = 0;
  size_t size_ = 0;
  std::array<char, kMostDigits> digits_{};
};

template <BodyForm kForm>
class RowWriter {
 public:
  // Bytes at most, in either form: of a map without what is in it; around a key's or a text's
  // characters; and of a value that has none.
  static constexpr size_t kMap = 8;
  static constexpr size_t kAround = 5;
  static constexpr size_t kNumber = NumberMemo::kMostDigits;
  static constexpr size_t kSeconds = 352;  // the largest has 309 digits before the point

  explicit RowWriter(char* at) : at_(at) {}

  // Where the map begins, for EndMap().
  [[nodiscard]] char* BeginMap(size_t pairs) {
    if constexpr (!kJson) at_ = PutMsgpackSize(at_, pairs, 0x80, 0xde);
    return at_;
  }
  // In JSON every key has a comma before it, and the first one's becomes the bracket.
  void EndMap(char* begin) {
    if constexpr (kJson) {
      if (at_ == begin) ++at_;
      *begin = '{';
      *at_++ = '}';
    }
  }

  // A literal of plain characters.
  template <size_t N>
  void Key(const char (&name)[N]) {
    static_assert(N <= 32, "MessagePack's short texts end at 31 bytes");
    if constexpr (kJson) {
      Put(",\"");
      Put(name);
      Put("\":");
    } else {
      *at_++ = static_cast<char>(0xa0 | (N - 1));
      Put(name);
    }
  }
  // A number's digits.
  void Key(uint32_t number, NumberMemo& memo) {
    if constexpr (kJson) {
      Put(",\"");
      at_ = memo.Put(at_, number);
      Put("\":");
    } else {
      char* const head = at_++;
      at_ = memo.Put(at_, number);
      *head = static_cast<char>(0xa0 | (at_ - head - 1));
    }
  }

  void Number(uint64_t number, NumberMemo& memo) {
    if constexpr (kJson) {
      at_ = memo.Put(at_, number);
    } else {
      at_ = PutMsgpackUint(at_, number);
    }
  }
  // In JSON with three digits behind the point; nil where there are none.
  void Seconds(double number) {
    constexpr int kDecimals = 3;
    if (!(number >= 0) || !std::isfinite(number)) return Word("null", 0xc0);
    if constexpr (kJson) {
      if (FitsJsonReal(number, kDecimals)) {
        at_ = PutJsonReal(at_, number, kDecimals);
      } else {
        at_ = std::to_chars(at_, at_ + kSeconds, number, std::chars_format::fixed, kDecimals).ptr;
      }
    } else {
      at_ = PutBigEndian(at_, 0xcb, std::bit_cast<uint64_t>(number));
    }
  }
  void Bool(bool truth) { truth ? Word("true", 0xc3) : Word("false", 0xc2); }
  void Text(std::string_view text) {
    if constexpr (kJson) {
      at_ = IsPlainJson(text) ? PutPlainJson(at_, text) : PutBytes(at_, EscapedJson(text));
    } else {
      at_ = PutMsgpackText(at_, text);
    }
  }
  // Bytes of a text that Text() may be called with: six for each.
  [[nodiscard]] static constexpr size_t MostOf(std::string_view text) {
    return kAround + 6 * text.size();
  }
  // Pairs that another writer wrote, in JSON with a comma before each.
  void Pairs(std::string_view written) { at_ = PutBytes(at_, written); }

  [[nodiscard]] char* end() const { return at_; }

 private:
  static constexpr bool kJson = kForm == BodyForm::kJson;

  template <size_t N>
  void Put(const char (&text)[N]) {
    std::memcpy(at_, text, N - 1);
    at_ += N - 1;
  }
  template <size_t N>
  void Word(const char (&json)[N], uint8_t msgpack) {
    if constexpr (kJson) {
      Put(json);
    } else {
      *at_++ = static_cast<char>(msgpack);
    }
  }

  char* at_;
};

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_ROW_WRITER_H_
