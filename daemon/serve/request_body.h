#ifndef CONDUCTOR_DAEMON_SERVE_REQUEST_BODY_H_
#define CONDUCTOR_DAEMON_SERVE_REQUEST_BODY_H_

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <utility>
#include <vector>

#include "daemon/serve/document.h"
#include "lib/hash/block_hash.h"

namespace conductor::serve {

// Why a request cannot be answered, as its status 400 answer says it.
struct RequestError {
  std::string error;   // for people
  std::string reason;  // for programs: "invalid_json", "invalid_msgpack", "missing",
                       // "invalid_type", "invalid_value", "out_of_range", "not_array", "too_many",
                       // "unknown_field", "duplicate_field", "unsupported"
  std::string field;   // the field to blame; empty: none
  std::optional<uint64_t> index;  // of the element to blame, where the field is an array

  friend bool operator==(const RequestError&, const RequestError&) = default;
};

template <typename T>
using Parsed = tl::expected<T, RequestError>;

// `text` short enough for a message, cut between characters.
[[nodiscard]] std::string Shown(std::string_view text);

// What a base64 text with padding stands for; nothing when it is none.
[[nodiscard]] std::optional<std::string> FromBase64(std::string_view text);
// A value as the reader of registrations takes it: of arrays, maps and bytes only that they
// are there.
[[nodiscard]] nlohmann::ordered_json Shallow(Value value);

// The members of a map that have a meaning, read by name. A null stands for an absent member, and a
// member given twice is an error. The first thing that is wrong is kept: what is asked for after
// that may be any value, and Finish() gives the error.
class RequestBody {
 public:
  // What happens to members of other names: they are passed over, or the first is an error, which
  // says what may have been meant but for those who know Mooncake's words for it.
  enum class Others : uint8_t { kIgnore, kRefuse, kRefuseTersely };
  using Names = std::initializer_list<std::string_view>;

  // A request's whole body.
  RequestBody(const BodyBytes& bytes, BodyForm form, Names known, Others others);
  // A map inside another body, which must outlive it; `where` is put before the names of its
  // members in errors: "prompts[2].".
  RequestBody(Value map, std::string where, Names known, Others others);
  RequestBody(const RequestBody&) = delete;
  RequestBody& operator=(const RequestBody&) = delete;

  void Fail(std::string reason, std::string_view field, std::string error,
            std::optional<uint64_t> index = {});
  void Fail(RequestError error);
  [[nodiscard]] bool failed() const { return error_.has_value(); }
  [[nodiscard]] const std::optional<RequestError>& error() const { return error_; }

  template <typename T>
  [[nodiscard]] Parsed<T> Finish(T value) {
    if (error_) return tl::unexpected<RequestError>(std::move(*error_));
    return value;
  }

  // Nothing when it is absent or null.
  [[nodiscard]] std::optional<Value> Get(std::string_view name) const;

  [[nodiscard]] std::string Text(std::string_view name);          // "" when absent
  [[nodiscard]] std::string RequiredText(std::string_view name);  // and not empty
  [[nodiscard]] std::optional<int64_t> Integer(std::string_view name, int64_t min, int64_t max);
  [[nodiscard]] uint32_t Number(std::string_view name);  // 0 to 2^31 - 1; 0 when absent
  [[nodiscard]] std::optional<double> Real(std::string_view name, double min, double max);
  [[nodiscard]] std::optional<bool> Bool(std::string_view name);

  // Whether arrays of numbers may come as their bytes too, little-endian: MessagePack's bin, or in
  // JSON a string in base64.
  enum class Packed : uint8_t { kNo, kAllowed };

  // What must be there: MessagePack's bin, or in JSON a string in base64 with padding.
  [[nodiscard]] std::string Bytes(std::string_view name);
  // An array of integers from `least`, which is not below -2^31, to 2^32 - 1; of four bytes each
  // where they are packed.
  [[nodiscard]] std::vector<TokenId> Tokens(std::string_view name, Packed packed = Packed::kNo,
                                            int64_t least = 0);
  // An array of 64-bit integers, unsigned or signed (their two's complement), or of decimal strings
  // of such; of eight bytes each where they are packed.
  [[nodiscard]] std::vector<uint64_t> Hashes(std::string_view name, Packed packed = Packed::kNo);

  // At most kMaxTexts of them; duplicates count.
  [[nodiscard]] std::set<std::string> Texts(std::string_view name);

  // An array; an error when it is absent or something else. `of` says what it should hold.
  [[nodiscard]] std::optional<Value> Array(std::string_view name, std::string_view of);

  // All members as the reader of registrations takes them. Of what is nested deeper than the
  // members of a member only the type is kept: no field of a registration is there.
  [[nodiscard]] nlohmann::ordered_json Members();

  static constexpr size_t kMaxMembers = 1024;  // of a registration, and of each map in it
  static constexpr int64_t kMaxNumber = std::numeric_limits<int32_t>::max();
  static constexpr size_t kMaxTexts = 4096;

 private:
  void Take(Value map, Names known, Others others);
  // The bytes of what may be packed, where it is; with an error where they are no multiple of
  // `each`. They view the body or `decoded`.
  [[nodiscard]] std::optional<std::string_view> Unpack(std::string_view name, Value value,
                                                       size_t each, std::string& decoded);
  void TakeMembers(const std::string& parent, Value map, nlohmann::ordered_json& members);

  std::optional<Document> document_;  // what the members view, where this is the whole body
  std::string where_;
  std::optional<Value> map_;
  std::vector<std::pair<std::string_view, Value>> members_;
  std::optional<RequestError> error_;
};

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_REQUEST_BODY_H_
