#include <fmt/format.h>

#include <utility>

#include "daemon/serve/inventory.h"
#include "daemon/serve/routes.h"

namespace conductor::serve {

void AddInventoryRoutes(HttpListener& listener, const RouteContext& context) {
  Registry& registry = context.registry;
  listener.Route("GET", "/v1/namespaces", [&registry](const HttpRequest& request) {
    const BodyForm form = AnswerForm(request);
    return Ok(NamespacesDocument(registry, form), form);
  });
  listener.Route("GET", "/v1/instances/{id}", [&registry](const HttpRequest& request) {
    const BodyForm form = AnswerForm(request);
    if (auto document = InstanceDocument(registry, request.parameter, form)) {
      return Ok(std::move(*document), form);
    }
    return Failed(404,
                  {fmt::format("no engine is registered as instance '{}' (expected an instance_id "
                               "that GET /v1/publishers lists, percent-encoded)",
                               Shown(request.parameter)),
                   "unknown_instance",
                   "",
                   {}},
                  form);
  });
}

}  // namespace conductor::serve
