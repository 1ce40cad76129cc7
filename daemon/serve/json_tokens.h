#ifndef CONDUCTOR_DAEMON_SERVE_JSON_TOKENS_H_
#define CONDUCTOR_DAEMON_SERVE_JSON_TOKENS_H_

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lib/hash/block_hash.h"

namespace conductor::serve {

// The long arrays of token ids in a JSON text, taken out of it, and the text that is left.
//
// A prompt is one array of thousands of small integers in a body of a few other members. A JSON
// parser spends 7 ns on each: it reads any number in any place, and keeps 16 bytes of it. So these
// arrays alone are read here, 1 ns a token, and each is replaced in the text by an array of one
// string that no client can have sent. The text that is left is some hundred bytes, and the
// library reads it: the grammar and all its errors stay the library's. An array that is not exactly
// integers below 2^32, commas and white space is left where it stands.
class JsonTokens {
 public:
  // Bytes between the brackets from which on an array is worth it.
  static constexpr size_t kLongArray = 256;

  // Takes eight, two or one of the numbers at once, as the processor can; `most_at_once` is for
  // tests of those that can less.
  explicit JsonTokens(size_t most_at_once = 8);

  // False when nothing was taken out of `json`, which must be readable for kReadAhead bytes behind
  // its end. rest() gets a capacity of `padding` bytes behind its end.
  [[nodiscard]] bool Lift(std::string_view json, size_t padding);
  static constexpr size_t kReadAhead = 64;

  // The text that is left; until the next Lift.
  [[nodiscard]] const std::string& rest() const { return rest_; }

  // Whether the one text of an array in rest() stands for an array that was taken out.
  [[nodiscard]] static bool IsPlaceholder(std::string_view text) {
    return !text.empty() && text.front() == kMark;
  }
  // That array. Requires IsPlaceholder().
  [[nodiscard]] std::span<const TokenId> At(std::string_view placeholder) const;

  // Bytes that it holds on to.
  [[nodiscard]] size_t capacity() const { return room_ * sizeof(TokenId) + rest_.capacity(); }

 private:
  // A control character: JSON has it in escapes only, and a text with this escape is not touched.
  static constexpr char kMark = '\x01';
  static constexpr std::string_view kMarkEscape = "\\u0001";

  // Reads what stands between an array's brackets. False, and nothing taken, when it is anything
  // else than token ids.
  [[nodiscard]] bool Take(std::string_view items);
  // Room for so many ids behind those that are there.
  [[nodiscard]] TokenId* Room(size_t ids);

  const size_t at_once_;
  std::string rest_;
  std::unique_ptr<TokenId[]> ids_;  // of all arrays, one behind the other
  size_t used_ = 0;
  size_t room_ = 0;
  std::vector<std::pair<size_t, size_t>> arrays_;  // first and size, in ids_
};

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_JSON_TOKENS_H_
