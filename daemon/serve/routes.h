#ifndef CONDUCTOR_DAEMON_SERVE_ROUTES_H_
#define CONDUCTOR_DAEMON_SERVE_ROUTES_H_

#include <functional>
#include <stop_token>
#include <string>
#include <string_view>

#include "daemon/serve/answer_document.h"
#include "daemon/serve/http_api.h"
#include "daemon/serve/http_listener.h"
#include "daemon/serve/metrics.h"
#include "daemon/serve/registry.h"
#include "daemon/serve/snapshots.h"

// The routes of the HTTP API, a file for each family; docs/http-api.md describes them all.
namespace conductor::serve {

// What handlers work with; all of it outlives the listener's threads.
struct RouteContext {
  Registry& registry;
  const HttpApi::Options& options;
  std::stop_token stopping;  // of the server: walks over long prompts end
};

void AddQueryRoutes(HttpListener& listener, const RouteContext& context);      // POST /v1/query
void AddPublisherRoutes(HttpListener& listener, const RouteContext& context);  // /v1/publishers
// GET /v1/namespaces and /v1/instances/{id}.
void AddInventoryRoutes(HttpListener& listener, const RouteContext& context);
// POST /v1/ingest; `count` is told of each body that came that far.
void AddIngestRoutes(HttpListener& listener, const RouteContext& context,
                     std::function<void(const IngestExchange&)> count);
// POST /v1/snapshot; `snapshots` is asked at each, and gives nullptr where there are none.
void AddSnapshotRoutes(HttpListener& listener, std::function<Snapshots*()> snapshots);
void AddEventRoutes(HttpListener& listener, const RouteContext& context);  // GET /v1/events
// The Mooncake Conductor's.
void AddMooncakeRoutes(HttpListener& listener, const RouteContext& context);
// What no route answers (an unknown path, a body that is too large, no token, ...), told in the
// form that the client would have been answered in.
void WriteRefusals(HttpListener& listener, const RouteContext& context);

// Of a request's body: JSON unless it says otherwise.
[[nodiscard]] BodyForm FormOf(const HttpRequest& request);
// Of the answer: what it accepts, or else the form that it came in.
[[nodiscard]] BodyForm AnswerForm(const HttpRequest& request);

[[nodiscard]] HttpResponse Ok(std::string body, BodyForm form = BodyForm::kJson);
// With status 503 it says to come back in a second, but for what will not pass by itself.
[[nodiscard]] HttpResponse Failed(int status, const RequestError& error,
                                  BodyForm form = BodyForm::kJson);
// Of Conductor's own routes: 400, 409 where something registered stands in the way, 503 where there
// is no room. `prefix` is put before the field to blame.
[[nodiscard]] HttpResponse NotRegistered(const Refusal& refusal, const std::string& prefix,
                                         BodyForm form);
// The `reason` of that answer.
[[nodiscard]] std::string_view NotRegisteredReason(Refusal::Kind kind);
// What is said, with status 503, to whoever asks while the server stops.
[[nodiscard]] RequestError Stopping();

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_ROUTES_H_
