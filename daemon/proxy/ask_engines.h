#ifndef CONDUCTOR_DAEMON_PROXY_ASK_ENGINES_H_
#define CONDUCTOR_DAEMON_PROXY_ASK_ENGINES_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/proxy/request.h"

namespace conductor::proxy {

// What one engine says.
struct EngineAnswer {
  std::shared_ptr<Engine> engine;
  int status = 0;  // 0: none, or not in time
  std::string body;
  std::string error;
};

// Whether engines get the header fields of the client's request. Those of an administrator are for
// the proxy: its key is among them.
enum class ClientFields : uint8_t { kPassedOn, kKeptHere };

// A question without a body.
struct EngineQuestion {
  std::string_view method = "GET";
  std::string_view target;
  Duration limit;  // for each
  ClientFields client_fields = ClientFields::kPassedOn;
};

// Asks all of them at once; answers in their order.
[[nodiscard]] Awaitable<std::vector<EngineAnswer>> AskEngines(
    Request& request, const std::vector<std::shared_ptr<Engine>>& engines,
    const EngineQuestion& question);

}  // namespace conductor::proxy

#endif  // CONDUCTOR_DAEMON_PROXY_ASK_ENGINES_H_
