#ifndef CONDUCTOR_DAEMON_SERVE_JSON_DOCUMENT_H_
#define CONDUCTOR_DAEMON_SERVE_JSON_DOCUMENT_H_

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/result.h"

namespace conductor::serve {

// A JSON text written by people, read so that nothing in it is lost: members keep their order, and
// a key that an object has twice is told (JSON leaves its meaning open; nlohmann's own reader
// keeps the last in silence).
struct JsonDocument {
  nlohmann::ordered_json root;
  // Paths of keys that appear again in their object. The first value stands in `root`.
  std::vector<std::string> repeated;
};

// Nesting deeper than this is refused: no file that Conductor reads has a use for it.
inline constexpr size_t kMaxJsonDepth = 32;

// Reads strict JSON (UTF-8, no comments, nothing after the value) in time linear in its size. The
// error's `where` is "line L, column C" of the last byte that could be read, or the path of what is
// nested too deep.
[[nodiscard]] Result<JsonDocument> ParseJsonDocument(std::string_view text);

// The path of a member of `parent` as messages have it: "kvevent_instance.vllm-1.port"; a key that
// is no plain word is quoted: kvevent_instance["a.b"]. An empty parent is the root.
[[nodiscard]] std::string JsonMemberPath(std::string_view parent, std::string_view key);

// `value` as messages quote it: its JSON text, cut when long; "an object", "an array".
[[nodiscard]] std::string DescribeJson(const nlohmann::ordered_json& value);

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_JSON_DOCUMENT_H_
