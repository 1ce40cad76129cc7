#ifndef CONDUCTOR_DAEMON_PROXY_ADMIN_KEY_H_
#define CONDUCTOR_DAEMON_PROXY_ADMIN_KEY_H_

#include "daemon/proxy/request.h"

namespace conductor::proxy {

// Whether the client has the key of --admin-key-file or ADMIN_API_KEY, in X-Api-Key or as a bearer
// token. False: it has been answered 401, or 403 where no key is set.
[[nodiscard]] Awaitable<bool> IsAdmin(Request& request);

}  // namespace conductor::proxy

#endif  // CONDUCTOR_DAEMON_PROXY_ADMIN_KEY_H_
