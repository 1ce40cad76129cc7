#ifndef CONDUCTOR_LIB_BASE_RESULT_H_
#define CONDUCTOR_LIB_BASE_RESULT_H_

#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <utility>

namespace conductor {

// Why something that came from outside could not be used. Every part is for a person to read; an
// empty part is left out of Message().
struct Error {
  std::string what;      // what is wrong: "block_size is negative"
  std::string where;     // where it stands: endpoint, sequence, event index, file and JSON path
  std::string expected;  // what would have been right: "an integer from 1 to 2147483647"

  // "where: what (expected ...)".
  [[nodiscard]] std::string Message() const;

  // The same error with `prefix` put before `where`, for a caller that knows more of the place.
  [[nodiscard]] Error Within(std::string_view prefix) &&;
};

// A value, or why there is none. Nothing in Conductor throws across a function boundary.
template <typename T>
using Result = tl::expected<T, Error>;

using Status = Result<void>;

[[nodiscard]] inline tl::unexpected<Error> Fail(std::string what, std::string where = {},
                                                std::string expected = {}) {
  return tl::unexpected<Error>(Error{std::move(what), std::move(where), std::move(expected)});
}

}  // namespace conductor

#endif  // CONDUCTOR_LIB_BASE_RESULT_H_
