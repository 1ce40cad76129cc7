#ifndef CONDUCTOR_DAEMON_PROXY_ROUTES_H_
#define CONDUCTOR_DAEMON_PROXY_ROUTES_H_

#include <string_view>
#include <utility>
#include <vector>

#include "daemon/proxy/request.h"

namespace conductor::proxy {

// Answers one request, whatever it is. docs/proxy.md has all paths.
[[nodiscard]] Awaitable<void> Route(Request& request);

// Whether it is work for engines, and counts against --max-requests.
[[nodiscard]] bool IsWork(std::string_view method, std::string_view path);

// The path as metrics have it: those that are known, "/v1/*" or "other".
[[nodiscard]] std::string_view PathLabel(std::string_view path);

// (method, path) of the proxy's own routes.
[[nodiscard]] const std::vector<std::pair<std::string_view, std::string_view>>& OwnRoutes();

// A file each.
[[nodiscard]] Awaitable<void> AnswerModels(Request& request);      // GET /v1/models, merged
[[nodiscard]] Awaitable<void> AddInstances(Request& request);      // POST /instances/add
[[nodiscard]] Awaitable<void> RemoveInstances(Request& request);   // POST /instances/remove
[[nodiscard]] Awaitable<void> ResetCaches(Request& request);       // POST /reset_prefix_cache
[[nodiscard]] Awaitable<void> AnswerMetaserver(Request& request);  // POST /v1/metaserver

}  // namespace conductor::proxy

#endif  // CONDUCTOR_DAEMON_PROXY_ROUTES_H_
