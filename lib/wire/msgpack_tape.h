#ifndef CONDUCTOR_LIB_WIRE_MSGPACK_TAPE_H_
#define CONDUCTOR_LIB_WIRE_MSGPACK_TAPE_H_

#include <bit>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

#include "lib/base/result.h"

namespace conductor::wire {

// A MessagePack payload as a flat tape of 64-bit words, and cursors over it.
//
// Designed for batches of KV events, which are long arrays of small integers with a few names
// between them: an integer below 2^60 is one word, so that an array of token ids is read as an
// array. Everything else is two words. The first word of a value is payload << 4 | kind:
//
//   nil, bool, integers from 0 to 2^60 - 1    (value << 4 | kind)
//   other integers, floats                    (kind), the 64 bits
//   text, bytes, extension                    (size << 4 | kind), address in the payload
//   array, map                                (items or pairs << 4 | kind), words to the next value
//
// The tape grows with what is really there and never with what a header claims. A tree of objects
// (msgpack::unpack) was the alternative: it allocates for claimed sizes, and 16 bytes and a branch
// a token more. So was msgpack-c's parser with a visitor that writes the tape: it goes through a
// state machine for each value, which made it three quarters of all the work on an event; a test
// holds this one to it.

// One value on a tape. Copied freely; dies with its tape's next Parse and with the payload.
class MsgpackValue {
 public:
  enum class Kind : uint8_t {
    kNil,
    kBool,
    kUint,      // from 0 to 2^60 - 1
    kWideUint,  // from 2^60 on
    kNegative,  // an integer below 0
    kFloat,     // single precision is widened
    kText,
    kBytes,
    kExtension,
    kArray,
    kMap,
  };

  class Items;
  class Entries;

  // A nil that belongs to no tape.
  MsgpackValue() : word_(&kNilWord) {}

  [[nodiscard]] Kind kind() const { return static_cast<Kind>(word_[0] & kKindMask); }
  [[nodiscard]] bool is_nil() const { return kind() == Kind::kNil; }
  [[nodiscard]] bool is_text() const { return kind() == Kind::kText; }
  [[nodiscard]] bool is_bytes() const { return kind() == Kind::kBytes; }
  [[nodiscard]] bool is_array() const { return kind() == Kind::kArray; }
  [[nodiscard]] bool is_map() const { return kind() == Kind::kMap; }
  [[nodiscard]] bool is_integer() const {
    return kind() == Kind::kUint || kind() == Kind::kWideUint || kind() == Kind::kNegative;
  }

  // "nil", "an integer", "text": for messages.
  [[nodiscard]] std::string_view KindName() const;

  // Requires kBool.
  [[nodiscard]] bool boolean() const { return payload() != 0; }

  // Nothing for what is no integer or does not fit.
  [[nodiscard]] std::optional<uint64_t> AsUint64() const {
    if (kind() == Kind::kUint) return payload();
    if (kind() == Kind::kWideUint) return word_[1];
    return std::nullopt;
  }
  [[nodiscard]] std::optional<int64_t> AsInt64() const {
    if (kind() == Kind::kUint) return static_cast<int64_t>(payload());
    const bool fits = kind() == Kind::kNegative ||
                      (kind() == Kind::kWideUint &&
                       word_[1] <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max()));
    if (!fits) return std::nullopt;
    return static_cast<int64_t>(word_[1]);
  }

  // The 64 bits of an integer, negative ones as two's complement. Requires is_integer().
  [[nodiscard]] uint64_t integer_bits() const {
    return kind() == Kind::kUint ? payload() : word_[1];
  }

  // Requires kFloat.
  [[nodiscard]] double real() const { return std::bit_cast<double>(word_[1]); }

  // What text, bytes and an extension (type octet first) hold: a view into the payload. Requires
  // one of these.
  [[nodiscard]] std::string_view bytes() const {
    return {reinterpret_cast<const char*>(word_[1]), static_cast<size_t>(payload())};
  }

  // Items of an array, pairs of a map. Requires one of these.
  [[nodiscard]] size_t size() const { return static_cast<size_t>(payload()); }
  // The items of an array, in order. Requires kArray.
  [[nodiscard]] Items items() const;
  // Writes the items of an array into `out` when all are integers below 2^32; false when not. What
  // items() would tell, several times as fast. Requires kArray and out.size() == size().
  [[nodiscard]] bool CopyIntegers(std::span<uint32_t> out) const {
    // Items of one word each: nil, booleans and small integers.
    if (word_[1] != out.size() + 2) return false;
    const uint64_t* words = word_ + 2;
    uint64_t wrong = 0;
    for (size_t i = 0; i < out.size(); ++i) {
      wrong |= ((words[i] ^ static_cast<uint64_t>(Kind::kUint)) & kKindMask) |
               words[i] >> (32 + kKindBits);
      out[i] = static_cast<uint32_t>(words[i] >> kKindBits);
    }
    return wrong == 0;
  }
  // The pairs of a map, in order, repeated keys too. Requires kMap.
  [[nodiscard]] Entries entries() const;

 private:
  friend class MsgpackTape;

  static constexpr uint64_t kNilWord = 0;
  static constexpr int kKindBits = 4;
  static constexpr uint64_t kKindMask = (1u << kKindBits) - 1;

  explicit MsgpackValue(const uint64_t* word) : word_(word) {}

  [[nodiscard]] uint64_t payload() const { return word_[0] >> kKindBits; }

  // The value after this one and all that it holds: one step, whatever its size.
  [[nodiscard]] MsgpackValue Next() const {
    if (kind() <= Kind::kUint) return MsgpackValue(word_ + 1);
    if (kind() >= Kind::kArray) return MsgpackValue(word_ + word_[1]);
    return MsgpackValue(word_ + 2);
  }
  [[nodiscard]] MsgpackValue First() const { return MsgpackValue(word_ + 2); }

  const uint64_t* word_;
};

// for (const MsgpackValue item : value.items())
class MsgpackValue::Items {
 public:
  class Iterator {
   public:
    Iterator(MsgpackValue value, size_t left) : value_(value), left_(left) {}
    MsgpackValue operator*() const { return value_; }
    Iterator& operator++() {
      value_ = value_.Next();
      --left_;
      return *this;
    }
    bool operator==(std::default_sentinel_t) const { return left_ == 0; }

   private:
    MsgpackValue value_;
    size_t left_;
  };

  explicit Items(MsgpackValue array) : array_(array) {}
  [[nodiscard]] Iterator begin() const { return {array_.First(), array_.size()}; }
  [[nodiscard]] std::default_sentinel_t end() const { return {}; }

 private:
  MsgpackValue array_;
};

// for (const auto& [key, value] : map.entries())
class MsgpackValue::Entries {
 public:
  struct Entry {
    MsgpackValue key;
    MsgpackValue value;
  };

  class Iterator {
   public:
    Iterator(MsgpackValue key, size_t left) : key_(key), left_(left) {}
    Entry operator*() const { return {key_, key_.Next()}; }
    Iterator& operator++() {
      key_ = key_.Next().Next();
      --left_;
      return *this;
    }
    bool operator==(std::default_sentinel_t) const { return left_ == 0; }

   private:
    MsgpackValue key_;
    size_t left_;
  };

  explicit Entries(MsgpackValue map) : map_(map) {}
  [[nodiscard]] Iterator begin() const { return {map_.First(), map_.size()}; }
  [[nodiscard]] std::default_sentinel_t end() const { return {}; }

 private:
  MsgpackValue map_;
};

inline MsgpackValue::Items MsgpackValue::items() const { return Items(*this); }
inline MsgpackValue::Entries MsgpackValue::entries() const { return Entries(*this); }

// The buffer that payloads are parsed into, one after the other. Not thread-safe.
class MsgpackTape {
 public:
  // Arrays and maps inside one another. KV events nest five deep.
  static constexpr size_t kMaxDepth = 32;
  // Words of one tape (256 MiB): a batch of 30 million token ids.
  static constexpr size_t kMaxWords = size_t{32} << 20;

  // The one value that `payload` is. An error, with the byte at which it shows, when the payload
  // is cut off, is no MessagePack, has bytes after the value, nests deeper than kMaxDepth or holds
  // more than kMaxWords. The value views the tape and the payload.
  [[nodiscard]] Result<MsgpackValue> Parse(std::string_view payload);
  // The first value of `bytes`; what follows it is not looked at.
  [[nodiscard]] Result<MsgpackValue> ParseFirst(std::string_view bytes) {
    return Parse(bytes, /*more=*/true);
  }

 private:
  class Parser;

  [[nodiscard]] Result<MsgpackValue> Parse(std::string_view payload, bool more);
  // More room; the first `used` words are kept.
  void Grow(size_t used);

  std::unique_ptr<uint64_t[]> words_;
  size_t capacity_ = 0;
};

}  // namespace conductor::wire

#endif  // CONDUCTOR_LIB_WIRE_MSGPACK_TAPE_H_
