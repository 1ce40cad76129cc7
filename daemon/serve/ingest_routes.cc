#include <fmt/format.h>

#include <chrono>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "daemon/serve/document_writer.h"
#include "daemon/serve/publisher_requests.h"
#include "daemon/serve/routes.h"

namespace conductor::serve {
namespace {

using Json = nlohmann::ordered_json;

// How long an answer waits for the effect of what was taken.
constexpr Duration kLongestWait = std::chrono::seconds(30);

// The target's way to say what the body can say too.
bool AsksToWait(std::string_view query) {
  while (!query.empty()) {
    const size_t end = query.find('&');
    if (query.substr(0, end) == "wait=applied") return true;
    if (end == std::string_view::npos) break;
    query.remove_prefix(end + 1);
  }
  return false;
}

bool IsOfFormerLife(const Refusal& refusal) {
  return refusal.kind == Refusal::Kind::kConflict && refusal.where == "incarnation";
}

HttpResponse Refused(const Refusal& refusal, BodyForm form) {
  if (IsOfFormerLife(refusal)) {
    return Failed(409, {refusal.Message(), "former_incarnation", "incarnation", {}}, form);
  }
  return NotRegistered(refusal, "publisher.", form);
}

// The `reason` of that answer.
std::string ReasonOf(const Refusal& refusal) {
  return std::string(IsOfFormerLife(refusal) ? "former_incarnation"
                                             : NotRegisteredReason(refusal.kind));
}

// What the client needs to go on.
HttpResponse Full(const std::string& key, size_t accepted, const Json& last, BodyForm form) {
  const Json answer{
      {"error", fmt::format("the queue of {} is full: hand in what comes after the first {} of "
                            "this body again, a little later",
                            key, accepted)},
      {"reason", "queue_full"},
      {"publisher", key},
      {"accepted", accepted},
      {"last_sequence", last}};
  HttpResponse response = Ok(Render(answer, form), form);
  response.status = 429;
  response.headers.emplace_back("Retry-After", "1");
  return response;
}

using Count = std::function<void(const IngestExchange&)>;

HttpResponse Ingest(const RouteContext& context, const HttpRequest& request, const Count& count) {
  const BodyForm form = AnswerForm(request);
  Registry& registry = context.registry;
  auto parsed = ParseIngest(request.body, FormOf(request), [&registry](const std::string& id) {
    auto status = registry.Publisher(id);
    return status ? std::optional(std::move(status->registration)) : std::nullopt;
  });
  if (!parsed) {
    count({.reason = parsed.error().reason});
    const bool unknown = parsed.error().reason == "unknown_publisher";
    return Failed(unknown ? 404 : 400, parsed.error(), form);
  }
  const std::string key = parsed->registration.Key();
  const auto ingested = registry.Ingest(parsed->registration, parsed->messages);
  if (!ingested) {
    count({.events = parsed->events, .reason = ReasonOf(ingested.error())});
    return Refused(ingested.error(), form);
  }
  const size_t taken = ingested->taken;
  const size_t accepted = taken == 0 ? 0 : parsed->items[taken - 1];
  const bool full = taken < parsed->messages.size();
  count({.events = parsed->events,
         .accepted = accepted,
         .deferred = full ? parsed->items.back() - accepted : 0,
         .reason = full ? "queue_full" : ""});

  Json applied = nullptr;
  if (parsed->wait || AsksToWait(request.query)) {
    applied = registry.WaitApplied(key, *ingested, MonoNow() + kLongestWait, context.stopping);
  }
  const Json last = taken == 0 ? Json(nullptr) : Json(parsed->messages[taken - 1].sequence);
  if (full) return Full(key, accepted, last, form);
  // It may have been removed meanwhile.
  const PublisherStatus status = registry.Publisher(key).value_or(PublisherStatus());
  const Json answer{{"publisher", key},
                    {"incarnation", parsed->registration.incarnation},
                    {"created", ingested->created},
                    {"accepted", accepted},
                    {"last_sequence", last},
                    {"applied", std::move(applied)},
                    {"cursor", status.stream.cursor ? Json(*status.stream.cursor) : Json(nullptr)},
                    {"state", stream::TrustStateName(status.trust.state)},
                    {"reason", status.trust.reason},
                    {"detail", status.trust.detail}};
  return Ok(Render(answer, form), form);
}

}  // namespace

void AddIngestRoutes(HttpListener& listener, const RouteContext& context, Count count) {
  listener.Route(
      "POST", "/v1/ingest",
      [context, count = std::move(count)](const HttpRequest& request) {
        return Ingest(context, request, count);
      },
      Access::kAdmin);
}

}  // namespace conductor::serve
