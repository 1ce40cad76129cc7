#ifndef CONDUCTOR_DAEMON_SERVE_DOCUMENT_WRITER_H_
#define CONDUCTOR_DAEMON_SERVE_DOCUMENT_WRITER_H_

#include <absl/container/inlined_vector.h>

#include <charconv>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "daemon/serve/document.h"
#include "daemon/serve/document_pieces.h"

namespace conductor::serve {

// A body written value by value, in either form, without a tree of it: the answers that routers ask
// for with every prompt have thousands of numbers. The number of pairs or items must be known when
// a map or an array begins (MessagePack says it first), and must be right.
//
//   out.Map(2); out.Key("a"); out.Uint(1); out.Key("b"); out.Array(0);
//
// Maps and arrays end by themselves with their last value.
//
// Designed for answers of some hundred rows of a dozen pairs: what is written in each row is inline
// and goes to one buffer, a few nanoseconds a pair. msgpack-c's packer and a virtual call for each
// value made the rows of 64 instances cost twice the lookup.
class DocumentWriter {
 public:
  // `expected`: bytes that it will have, roughly.
  explicit DocumentWriter(BodyForm form, size_t expected = 512) : json_(form == BodyForm::kJson) {
    Grow(expected);
  }
  DocumentWriter(const DocumentWriter&) = delete;
  DocumentWriter& operator=(const DocumentWriter&) = delete;

  [[nodiscard]] BodyForm form() const { return json_ ? BodyForm::kJson : BodyForm::kMsgpack; }

  void Map(size_t pairs) { json_ ? Open('{', '}', pairs) : Header(pairs, 0x80, 0xde); }
  void Array(size_t items) { json_ ? Open('[', ']', items) : Header(items, 0x90, 0xdc); }

  // A key that is a literal of plain characters.
  template <size_t N>
  void Key(const char (&name)[N]) {
    at_ = PutKey(Reserve(N + 4), name);
  }
  void Key(std::string_view name);
  void Key(const std::string& name) { Key(std::string_view(name)); }

  void Text(std::string_view text);  // not UTF-8: JSON has U+FFFD for such bytes
  void Uint(uint64_t number) {
    char* const at = Reserve(kMostNumber);
    if (json_) {
      Digits(at, number);
    } else {
      at_ = PutMsgpackUint(at, number);
    }
  }
  void Int(int64_t number);
  // Not finite: nil. JSON has at most `decimals` digits behind the point.
  void Real(double number, int decimals);
  void Bool(bool truth) { Word(truth ? "true" : "false", truth ? 0xc3 : 0xc2); }
  void Nil() { Word("null", 0xc0); }

  template <size_t N>
  void Pair(const char (&key)[N], std::string_view text) {
    Key(key);
    Text(text);
  }
  template <size_t N, std::unsigned_integral Number>
  void Pair(const char (&key)[N], Number number) {
    if constexpr (std::same_as<Number, bool>) {
      Key(key);
      Bool(number);
    } else {
      char* const at = PutKey(Reserve(N + 4 + kMostNumber), key);
      if (json_) {
        Digits(at, number);
      } else {
        at_ = PutMsgpackUint(at, number);
      }
    }
  }
  // Keys that are made: of ranks, of instances.
  void Pair(std::string_view key, std::string_view text) {
    Key(key);
    Text(text);
  }
  template <std::unsigned_integral Number>
  requires(!std::same_as<Number, bool>) void Pair(std::string_view key, Number number) {
    Key(key);
    Uint(number);
  }

  // One item of an array that is written elsewhere (see RowWriter): from here on, in `bytes` at
  // most, to where it ends.
  [[nodiscard]] char* BeginRow(size_t bytes) {
    char* const at = Reserve(bytes + 1);
    return json_ ? PutComma(at) : at;
  }
  void EndRow(char* end) {
    if (json_) return Done(end);
    at_ = end;
  }

  // What was written; the writer is of no more use.
  [[nodiscard]] std::string Take() {
    out_.resize(static_cast<size_t>(at_ - out_.data()));
    return std::move(out_);
  }

 private:
  static constexpr size_t kMostNumber = 32;

  struct Level {
    char end = 0;     // 0: there is none
    size_t left = 0;  // values, of maps without their keys
  };

  // Where so many bytes can be written. What is written there counts once at_ stands behind it: the
  // functions below write through a copy, which a compiler can keep in a register.
  [[nodiscard]] char* Reserve(size_t bytes) {
    if (static_cast<size_t>(end_ - at_) < bytes) Grow(bytes);
    return at_;
  }
  void Grow(size_t bytes);

  static char* PutNegative(char* at, int64_t number);
  template <size_t N>
  char* PutKey(char* at, const char (&name)[N]) {
    static_assert(N <= 32, "MessagePack's short texts end at 31 bytes");
    if (!json_) {
      *at++ = static_cast<char>(0xa0 | (N - 1));
      return PutBytes(at, {name, N - 1});
    }
    at = PutComma(at);
    *at++ = '"';
    at = PutBytes(at, {name, N - 1});
    *at++ = '"';
    *at++ = ':';
    after_key_ = true;
    return at;
  }
  // An array's or a map's, in MessagePack.
  void Header(size_t size, uint8_t small, uint8_t format16);

  // JSON:
  void Open(char begin, char end, size_t values);
  void Close();
  // Before a key, and before a value that has none.
  char* PutComma(char* at) {
    if (!first_ && !after_key_ && innermost_.end != 0) *at++ = ',';
    first_ = false;
    after_key_ = false;
    return at;
  }
  // A value that holds no others ends at `at`.
  void Done(char* at) {
    at_ = at;
    if (innermost_.end != 0 && --innermost_.left == 0) Close();
  }
  template <typename Number>
  void Digits(char* at, Number number) {
    at = PutComma(at);
    Done(std::to_chars(at, at + kMostNumber - 1, number).ptr);
  }
  // With room for a colon behind it.
  [[nodiscard]] char* PutQuoted(std::string_view text);
  void Word(std::string_view json, uint8_t msgpack) {
    char* const at = Reserve(8);
    if (json_) return Done(PutBytes(PutComma(at), json));
    *at = static_cast<char>(msgpack);
    at_ = at + 1;
  }

  const bool json_;
  std::string out_;  // longer than what is written
  char* at_ = out_.data();
  char* end_ = out_.data();
  Level innermost_;                        // that is open
  absl::InlinedVector<Level, 16> around_;  // it, outermost first
  bool first_ = true;
  bool after_key_ = false;
};

// `json` in either form, for answers that are rare. Texts that are not UTF-8 get U+FFFD in JSON.
[[nodiscard]] std::string Render(const nlohmann::ordered_json& json, BodyForm form);

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_DOCUMENT_WRITER_H_
