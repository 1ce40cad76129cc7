#ifndef CONDUCTOR_DAEMON_SERVE_MOONCAKE_GENERATION_H_
#define CONDUCTOR_DAEMON_SERVE_MOONCAKE_GENERATION_H_

#include <cstdint>
#include <string_view>

#include "daemon/serve/http_router.h"
#include "lib/base/result.h"

namespace conductor::serve {

// Whose words the paths that generations of the Mooncake Conductor share are answered in. The same
// path and often the same request have another answer in each; docs/http-api.md lists where.
enum class Generation : uint8_t {
  kGo,       // the late Go one (2026-03 to 2026-06) and the first port to C++: lenient JSON
  kCppJson,  // the last C++ one that speaks JSON (2026-08-02)
  kMsgpack,  // the newest (2026-08-07): MessagePack and nothing else
  kDynamo,   // no Mooncake: Dynamo's standalone KV indexer, for queries alone
};

// "go", "cpp-json", "msgpack", "dynamo".
[[nodiscard]] std::string_view GenerationName(Generation generation);

// As the setting `compat` has it, which cannot be kDynamo.
[[nodiscard]] Result<Generation> ParseCompat(std::string_view text);

// Which one answers a request: the one that its X-Conductor-Compat names; else what its Accept asks
// for; else the MessagePack one where that is what it posts; else `setting`. The error, for a word
// in X-Conductor-Compat that names none, says which there are.
[[nodiscard]] Result<Generation> GenerationOf(const HttpRequest& request, Generation setting);

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_MOONCAKE_GENERATION_H_
