#ifndef CONDUCTOR_DAEMON_SERVE_QUERY_STRING_H_
#define CONDUCTOR_DAEMON_SERVE_QUERY_STRING_H_

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace conductor::serve {

// "%41" is "A"; a % that no two hexadecimal digits follow stands for itself.
[[nodiscard]] std::string PercentDecoded(std::string_view text);

// Names and values of "a=1&b=x%20y&a=2", decoded, in order; a + is a blank. One without '=' has an
// empty value, and nothing between two & is nothing.
[[nodiscard]] std::vector<std::pair<std::string, std::string>> QueryParameters(
    std::string_view query);

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_QUERY_STRING_H_
