#ifndef CONDUCTOR_DAEMON_SERVE_NEAREST_NAME_H_
#define CONDUCTOR_DAEMON_SERVE_NEAREST_NAME_H_

#include <set>
#include <span>
#include <string>
#include <string_view>

namespace conductor::serve {

// The one of `names` with the fewest letters to change, put in or leave out to get `wanted`; empty
// when there is none. Long names are compared by their first 128 bytes: requests must not cost more
// than they are worth.
[[nodiscard]] std::string NearestName(const std::set<std::string>& names, std::string_view wanted);

// The one of `names` that `wanted` is likely to stand for: two letters to change at most, or the
// one is how the other begins. Empty when there is none.
[[nodiscard]] std::string_view LikelyName(std::span<const std::string_view> names,
                                          std::string_view wanted);

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_NEAREST_NAME_H_
