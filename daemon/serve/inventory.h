#ifndef CONDUCTOR_DAEMON_SERVE_INVENTORY_H_
#define CONDUCTOR_DAEMON_SERVE_INVENTORY_H_

#include <optional>
#include <string>
#include <string_view>

#include "daemon/serve/document.h"
#include "daemon/serve/registry.h"

namespace conductor::serve {

// What there is, for people and dashboards; docs/http-api.md has the fields. Not for every request:
// both look at all publishers, and hold the index's lock for readers while they count.

// GET /v1/namespaces: those that hold something, and those that engines are registered for.
[[nodiscard]] std::string NamespacesDocument(const Registry& registry, BodyForm form);

// GET /v1/instances/{id}; nothing when no engine is registered as it.
[[nodiscard]] std::optional<std::string> InstanceDocument(const Registry& registry,
                                                          std::string_view instance_id,
                                                          BodyForm form);

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_INVENTORY_H_
