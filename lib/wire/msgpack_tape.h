#ifndef CONDUCTOR_LIB_WIRE_MSGPACK_TAPE_H_
#define CONDUCTOR_LIB_WIRE_MSGPACK_TAPE_H_

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "lib/base/result.h"

namespace conductor::wire {

// A MessagePack payload as a flat tape of 64-bit words, and cursors over it.
//
// Designed for batches of KV events and for prompts, which are long arrays of token ids with a few
// names between them: such an array is kept as numbers of four bytes, and copied as them. Of
// everything else an integer below 2^60 is one word, and the rest are two. The first word of a
// value is payload << 4 | kind:
//
//   nil, bool, integers from 0 to 2^60 - 1    (value << 4 | kind)
//   other integers, floats                    (kind), the 64 bits
//   text, bytes, extension                    (size << 4 | kind), address in the payload
//   array, map                                (items or pairs << 4 | kind), words to the next value
//   array of token ids                        the same, with kPacked; its items are no values
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
  MsgpackValue() = default;

  [[nodiscard]] Kind kind() const { return KindOf(head_); }
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
  // Makes `out` the items of an array when all are integers below 2^32; false when not, and then
  // `out` is anything. What items() would tell, many times as fast. Requires kArray.
  [[nodiscard]] bool CopyIntegers(std::vector<uint32_t>& out) const;
  // The pairs of a map, in order, repeated keys too. Requires kMap.
  [[nodiscard]] Entries entries() const;

 private:
  friend class MsgpackTape;

  static constexpr int kKindBits = 4;
  static constexpr uint64_t kKindMask = (1u << kKindBits) - 1;
  // Of an array's second word: the items are numbers of four bytes behind it.
  static constexpr uint64_t kPacked = uint64_t{1} << 63;

  explicit MsgpackValue(const uint64_t* word) : head_(*word), word_(word) {}
  // An item of a packed array.
  explicit MsgpackValue(uint32_t number)
      : head_(uint64_t{number} << kKindBits | static_cast<uint64_t>(Kind::kUint)) {}

  [[nodiscard]] static Kind KindOf(uint64_t head) { return static_cast<Kind>(head & kKindMask); }
  [[nodiscard]] uint64_t payload() const { return head_ >> kKindBits; }
  [[nodiscard]] bool is_packed() const { return (word_[1] & kPacked) != 0; }

  // Where the value after this one begins, and all that this one holds: one step, whatever its
  // size.
  [[nodiscard]] static const uint64_t* After(const uint64_t* word) {
    const Kind kind = KindOf(*word);
    if (kind <= Kind::kUint) return word + 1;
    if (kind >= Kind::kArray) return word + (word[1] & ~kPacked);
    return word + 2;
  }
  [[nodiscard]] const uint64_t* first() const { return word_ + 2; }

  uint64_t head_ = 0;               // the first word
  const uint64_t* word_ = nullptr;  // where that is on the tape; none of a packed array's items
};

// for (const MsgpackValue item : value.items())
class MsgpackValue::Items {
 public:
  class Iterator {
   public:
    Iterator(const uint64_t* first, bool packed, size_t left)
        : at_(reinterpret_cast<const char*>(first)), packed_(packed), left_(left) {}
    MsgpackValue operator*() const {
      if (!packed_) return MsgpackValue(word());
      uint32_t number = 0;
      std::memcpy(&number, at_, sizeof number);
      return MsgpackValue(number);
    }
    Iterator& operator++() {
      at_ = packed_ ? at_ + sizeof(uint32_t) : reinterpret_cast<const char*>(After(word()));
      --left_;
      return *this;
    }
    bool operator==(std::default_sentinel_t) const { return left_ == 0; }

   private:
    [[nodiscard]] const uint64_t* word() const { return reinterpret_cast<const uint64_t*>(at_); }

    const char* at_;
    bool packed_;
    size_t left_;
  };

  explicit Items(MsgpackValue array) : array_(array) {}
  [[nodiscard]] Iterator begin() const {
    return {array_.first(), array_.is_packed(), array_.size()};
  }
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
    Iterator(const uint64_t* key, size_t left) : key_(key), left_(left) {}
    Entry operator*() const { return {MsgpackValue(key_), MsgpackValue(After(key_))}; }
    Iterator& operator++() {
      key_ = After(After(key_));
      --left_;
      return *this;
    }
    bool operator==(std::default_sentinel_t) const { return left_ == 0; }

   private:
    const uint64_t* key_;
    size_t left_;
  };

  explicit Entries(MsgpackValue map) : map_(map) {}
  [[nodiscard]] Iterator begin() const { return {map_.first(), map_.size()}; }
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
  // Words of one tape (256 MiB): a batch of 60 million token ids.
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
