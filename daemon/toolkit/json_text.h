#ifndef CONDUCTOR_DAEMON_TOOLKIT_JSON_TEXT_H_
#define CONDUCTOR_DAEMON_TOOLKIT_JSON_TEXT_H_

#include <cstddef>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/result.h"
#include "lib/hash/block_hash.h"

namespace conductor::toolkit {

// JSON from elsewhere, in the order of its members. An error says at which byte it is none. What is
// nested deeper than kMostNested is refused: the library writes values by recursion.
[[nodiscard]] Result<nlohmann::ordered_json> ParseJson(std::string_view text);

// A value on one line, whatever bytes are in its texts.
[[nodiscard]] std::string DumpJson(const nlohmann::ordered_json& json);
// The same for a message: printable, and short.
[[nodiscard]] std::string ShownJson(const nlohmann::ordered_json& json);

// Token ids of an array; `name` is what errors call it: "NAME[3] is -1".
[[nodiscard]] Result<std::vector<TokenId>> ReadTokenIds(std::string_view name,
                                                        const nlohmann::ordered_json& value);

inline constexpr size_t kMostNested = 256;

}  // namespace conductor::toolkit

#endif  // CONDUCTOR_DAEMON_TOOLKIT_JSON_TEXT_H_
