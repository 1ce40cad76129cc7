#include "daemon/serve/answers.h"
#include "daemon/serve/min_state.h"
#include "daemon/serve/publisher_json.h"
#include "daemon/serve/requests.h"
#include "daemon/serve/routes.h"

namespace conductor::serve {
namespace {

HttpResponse MooncakeQuery(const RouteContext& context, const HttpRequest& request) {
  const auto query = ParseMooncakeQuery(request.body);
  if (!query) return Failed(400, query.error());
  Answer answer = AnswerQuery(context.registry, *query, context.stopping);
  ApplyMinState(context.options.legacy_min_state, answer);
  return Whole(context, MooncakeAnswerJson(*query, answer));
}

HttpResponse CacheHits(const RouteContext& context, const HttpRequest& request) {
  auto query = ParseCacheQuery(request.body);
  if (!query) return Failed(400, query.error());
  query->min_state = context.options.legacy_min_state;
  return Whole(context,
               CacheAnswerJson(AnswerCacheQuery(context.registry, *query, context.stopping)));
}

HttpResponse Register(const RouteContext& context, const HttpRequest& request) {
  const auto parsed = ParseRegister(request.body);
  if (!parsed) return Failed(400, parsed.error());
  const auto ranks = ExpandRanks(parsed->registration, parsed->dp_size);
  const auto failed = [](const Error& error) {
    return Failed(400, {error.Message(), "invalid_registration", error.where, {}});
  };
  if (!ranks) return failed(ranks.error());
  if (const auto added = context.registry.AddAll(*ranks); !added) return failed(added.error());
  return Ok(RegisteredJson(parsed->registration.instance_id, *ranks, parsed->unused));
}

HttpResponse Unregister(const RouteContext& context, const HttpRequest& request) {
  const auto key = ParseUnregister(request.body);
  if (!key) return Failed(400, key.error());
  if (!context.registry.Remove(*key)) {
    return Failed(404, {"service not found: " + *key, "unknown_service", "", {}});
  }
  return Ok(UnregisteredJson(*key));
}

HttpResponse Services(const RouteContext& context, const HttpRequest&) {
  return Ok(ServicesJson(context.registry.Publishers()));
}

HttpResponse GlobalView(const RouteContext& context, const HttpRequest&) {
  const Registry& registry = context.registry;
  return Ok(GlobalViewJson(registry.Publishers(), registry.index().Namespaces()));
}

}  // namespace

void AddMooncakeRoutes(HttpListener& listener, const RouteContext& context) {
  using Answerer = HttpResponse (*)(const RouteContext&, const HttpRequest&);
  const auto route = [&](const char* method, const char* path, Answerer answer,
                         Access access = Access::kRead) {
    listener.Route(
        method, path,
        [context, answer](const HttpRequest& request) { return answer(context, request); }, access);
  };
  route("POST", "/query", MooncakeQuery);
  route("POST", "/register", Register, Access::kAdmin);
  route("POST", "/unregister", Unregister, Access::kAdmin);
  route("GET", "/services", Services);
  route("GET", "/global_view", GlobalView);
  route("POST", "/cache", CacheHits);
}

}  // namespace conductor::serve
