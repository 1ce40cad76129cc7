#ifndef CONDUCTOR_LIB_WIRE_FIELD_READER_H_
#define CONDUCTOR_LIB_WIRE_FIELD_READER_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/result.h"
#include "lib/wire/digest.h"
#include "lib/wire/kv_event.h"
#include "lib/wire/msgpack_tape.h"

namespace conductor::wire {

// One event while it is read, for the decoders of all dialects: its fields by name, each read into
// what it is for, and the first thing that was wrong. Everything may be asked of an event in which
// something is wrong already; the caller looks at error() once, at the end.
class FieldReader {
 public:
  // `event`, an array or a map, is the item `index` of `batch`.
  FieldReader(MsgpackValue event, size_t index, EventBatch& batch)
      : event_(event), index_(index), batch_(batch) {}

  // Finds the fields: fields[i] becomes the value of the map key names[i], or of the slot i + 1 of
  // an array for the first `positional` names. Absent ones stay nil. Keys and slots beyond are
  // counted as kUnknownField, but for the keys of the tag ("type", "event_type").
  // Requires fields.size() == names.size().
  void Gather(std::span<const std::string_view> names, size_t positional,
              std::span<MsgpackValue> fields);

  // A key of a map inside the event that is not known.
  void UnknownKey(MsgpackValue key);

  // Each reads `value` into `out`, or notes what is wrong with `field`. Nil leaves `out` as it is;
  // only hashes must be there.
  void Hashes(MsgpackValue value, std::string_view field, DigestEnd end,
              std::vector<EngineHash>& out);
  void Hash(MsgpackValue value, std::string_view field, DigestEnd end,
            std::optional<EngineHash>& out);
  // Integers, the decimal text of integers (TensorRT-LLM), or pairs of integers (EAGLE's bigrams
  // [token, next token]), of which the first is taken.
  void Tokens(MsgpackValue value, std::string_view field, std::vector<TokenId>& out);
  void Uint32(MsgpackValue value, std::string_view field, std::optional<uint32_t>& out);
  void Uint64(MsgpackValue value, std::string_view field, std::optional<uint64_t>& out);
  void Int(MsgpackValue value, std::string_view field, std::optional<int64_t>& out);
  void Text(MsgpackValue value, std::string_view field, std::optional<std::string>& out);
  // Text, and an empty one says as little as nil.
  void Name(MsgpackValue value, std::string_view field, std::optional<std::string>& out);
  // An entry of extra keys for each of `blocks`; what says nothing at all may be of any number.
  void ExtraKeys(MsgpackValue value, std::string_view field, size_t blocks,
                 std::vector<hash::ExtraKeys>& out);

  // The event is malformed. The first error stays.
  void Wrong(Error error) {
    if (!error_) error_ = std::move(error);
  }
  [[nodiscard]] const std::optional<Error>& error() const { return error_; }

  // The event is sound and none of this publisher's business: not used, and nothing is lost.
  void PassOver(std::string why) { passed_over_ = std::move(why); }
  [[nodiscard]] const std::optional<std::string>& passed_over() const { return passed_over_; }

 private:
  MsgpackValue event_;
  size_t index_;
  EventBatch& batch_;
  std::optional<Error> error_;
  std::optional<std::string> passed_over_;
};

}  // namespace conductor::wire

#endif  // CONDUCTOR_LIB_WIRE_FIELD_READER_H_
