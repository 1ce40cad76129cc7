#ifndef CONDUCTOR_DAEMON_PROXY_PROXY_H_
#define CONDUCTOR_DAEMON_PROXY_PROXY_H_

#include <string>

#include "daemon/proxy/options.h"

namespace conductor::proxy {

// Runs until SIGTERM or SIGINT, and then until what it has in hand is done, for at most
// --drain-timeout. Prints "conductor: listening on http://HOST:PORT" to stdout once it takes
// requests. The process's exit code: 0 ended by a signal, 1 could not start.
[[nodiscard]] int RunProxy(const ProxyOptions& options);

}  // namespace conductor::proxy

#endif  // CONDUCTOR_DAEMON_PROXY_PROXY_H_
