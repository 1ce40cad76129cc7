#ifndef CONDUCTOR_DAEMON_PROXY_JSON_MEMBERS_H_
#define CONDUCTOR_DAEMON_PROXY_JSON_MEMBERS_H_

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lib/base/result.h"

namespace conductor::proxy {

inline constexpr size_t kMaxJsonDepth = 512;
inline constexpr size_t kMaxJsonMembers = 1024;

// The members of a JSON object by their places in its text. A request is changed by putting other
// text in the place of a few members; all else stays byte for byte as its client wrote it: numbers
// of any length and form, the order of members, fields that nobody here knows. To parse and write
// it anew would lose the first of these, and cost more.
//
// Only the structure of the top level is checked, and that brackets match, at most kMaxJsonDepth
// deep: whoever goes into a value by recursion can. What is in the values is their reader's. More
// than kMaxJsonMembers are refused: a member of five bytes costs sixty here.
class JsonMembers {
 public:
  // `object` must outlive it. An error says what is wrong and at which byte.
  [[nodiscard]] static Result<JsonMembers> Parse(std::string_view object);

  // The text of a member's value: R"("text")", "17", "{...}". Of several with that name the last
  // one, as engines take them. Nothing when there is none.
  [[nodiscard]] std::optional<std::string_view> Find(std::string_view name) const;
  // Find(), a string without escapes decoded, or with them; nothing when it is no string.
  [[nodiscard]] std::optional<std::string> FindString(std::string_view name) const;
  [[nodiscard]] bool IsTrue(std::string_view name) const { return Find(name) == "true"; }
  // name and value of each, in their order.
  [[nodiscard]] std::vector<std::pair<std::string_view, std::string_view>> All() const;

  struct Change {
    std::string_view name;
    std::optional<std::string_view> value;  // JSON text; nothing: without the member
  };
  // The object's text with the changes, of which each has another name. A member that is there is
  // changed where it stands, another one comes behind the last.
  [[nodiscard]] std::string With(std::span<const Change> changes) const;

 private:
  struct Member {
    std::string name;
    size_t begin = 0;  // of its name
    size_t value_begin = 0;
    size_t value_end = 0;
  };

  std::string_view text_;
  std::vector<Member> members_;
  size_t close_ = 0;  // of the brace at the end
};

// The texts of an array's elements, checked as members are; an error where there are more than
// `most`. `array` must outlive them.
[[nodiscard]] Result<std::vector<std::string_view>> JsonElements(std::string_view array,
                                                                 size_t most);

// What the JSON string `text` says; nothing when it is none.
[[nodiscard]] std::optional<std::string> ReadJsonString(std::string_view text);

// Whether all of `text` is JSON, whatever its depth. Takes no memory but a bit for a bracket.
[[nodiscard]] bool IsJson(std::string_view text);

// `text` as a JSON string. What is no UTF-8 is replaced.
[[nodiscard]] std::string JsonString(std::string_view text);

}  // namespace conductor::proxy

#endif  // CONDUCTOR_DAEMON_PROXY_JSON_MEMBERS_H_
