#include <fmt/format.h>

#include "daemon/serve/publisher_json.h"
#include "daemon/serve/routes.h"

namespace conductor::serve {
namespace {

HttpResponse NoPublisher(const std::string& id) {
  return Failed(404, {fmt::format("no publisher has the id '{}' (expected one that "
                                  "GET /v1/publishers lists, percent-encoded)",
                                  id),
                      "unknown_publisher",
                      "",
                      {}});
}

HttpResponse OnePublisher(const RouteContext& context, const std::string& id) {
  for (const PublisherStatus& status : context.registry.Publishers()) {
    if (status.registration.Key() == id) return Ok(PublisherJson(status));
  }
  return NoPublisher(id);
}

}  // namespace

void AddPublisherRoutes(HttpListener& listener, const RouteContext& context) {
  const auto of_publisher = [&](const char* method, const char* path, auto act, Access access) {
    listener.Route(
        method, path,
        [context, act](const HttpRequest& request) {
          return act(request.parameter) ? OnePublisher(context, request.parameter)
                                        : NoPublisher(request.parameter);
        },
        access);
  };
  Registry& registry = context.registry;
  listener.Route("GET", "/v1/publishers", [&registry](const HttpRequest&) {
    return Ok(PublishersJson(registry.Publishers()));
  });
  of_publisher(
      "GET", "/v1/publishers/{id}", [](const std::string&) { return true; }, Access::kRead);
  of_publisher(
      "POST", "/v1/publishers/{id}/resync",
      [&registry](const std::string& id) { return registry.Resync(id); }, Access::kAdmin);
  of_publisher(
      "POST", "/v1/publishers/{id}/clear",
      [&registry](const std::string& id) { return registry.Clear(id); }, Access::kAdmin);
}

}  // namespace conductor::serve
