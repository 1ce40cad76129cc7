#include <fmt/format.h>

#include <array>
#include <iterator>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "daemon/serve/answers.h"
#include "daemon/serve/engine_table.h"
#include "daemon/serve/min_state.h"
#include "daemon/serve/mooncake_answers.h"
#include "daemon/serve/mooncake_generation.h"
#include "daemon/serve/mooncake_hash_requests.h"
#include "daemon/serve/mooncake_requests.h"
#include "daemon/serve/publisher_json.h"
#include "daemon/serve/requests.h"
#include "daemon/serve/routes.h"
#include "lib/base/log.h"

namespace conductor::serve {
namespace {

// One request, and who answers it.
struct Call {
  const RouteContext& context;
  const HttpRequest& request;
  Generation generation;

  [[nodiscard]] HttpResponse Refuse(int status, const RequestError& error) const {
    return Refused(generation, status, error);
  }
  // `answer`, unless the server stops: then the walk behind it may have been cut short.
  [[nodiscard]] HttpResponse Whole(std::string answer) const {
    if (!context.stopping.stop_requested()) return Answered(generation, std::move(answer));
    return Refuse(503, Stopping());
  }
};

// The form in which a generation answers.
BodyForm WritingForm(Generation generation) {
  return generation == Generation::kMsgpack ? BodyForm::kMsgpack : BodyForm::kJson;
}

// ---- Queries ----

std::string Written(const Call& call, const Query& query, const Answer& answer) {
  switch (call.generation) {
    case Generation::kGo:
      return MooncakeAnswerJson(query, answer);
    case Generation::kCppJson:
    case Generation::kMsgpack:
      return StrictAnswer(answer, WritingForm(call.generation));
    case Generation::kDynamo:
      return DynamoAnswer(answer);
  }
  return {};
}

Answer AnswerOf(const Call& call, const Query& query) {
  const auto& [registry, options, stopping] = call.context;
  const bool in_context =
      call.generation == Generation::kCppJson || call.generation == Generation::kMsgpack;
  Answer answer = in_context ? AnswerInContext(registry, query, stopping)
                             : AnswerQuery(registry, query, stopping);
  ApplyMinState(options.legacy_min_state, answer);
  return answer;
}

bool IsUnknownHere(const Answer& answer) {
  return answer.reason == QueryReason::kUnknownTenant ||
         answer.reason == QueryReason::kUnknownModel;
}

// Dynamo's indexer tells a model that it does not know from one that holds nothing.
HttpResponse Answer404(const Call& call, const Query& query) {
  return call.Refuse(
      404, {fmt::format("no indexer for model={} tenant_id={}", query.model, query.tenant),
            "unknown_model",
            "",
            {}});
}

HttpResponse MooncakeQuery(const Call& call) {
  const auto query = ParseMooncakeQuery(call.request.body, FormOf(call.request));
  if (!query) return call.Refuse(400, query.error());
  return call.Whole(Written(call, *query, AnswerOf(call, *query)));
}

HttpResponse StrictQueryAnswer(const Call& call) {
  const auto strict = ParseStrictQuery(call.request.body, FormOf(call.request));
  if (!strict) return call.Refuse(400, strict.error());
  const Answer answer = strict->hashable ? AnswerOf(call, strict->query) : Answer{};
  return call.Whole(Written(call, strict->query, answer));
}

HttpResponse DynamoQueryAnswer(const Call& call) {
  const auto query = ParseDynamoQuery(call.request.body, FormOf(call.request));
  if (!query) return call.Refuse(400, query.error());
  const Answer answer = AnswerOf(call, *query);
  if (IsUnknownHere(answer)) return Answer404(call, *query);
  return call.Whole(Written(call, *query, answer));
}

HttpResponse AnswerQueryRoute(const Call& call) {
  switch (call.generation) {
    case Generation::kGo:
      return MooncakeQuery(call);
    case Generation::kCppJson:
    case Generation::kMsgpack:
      return StrictQueryAnswer(call);
    case Generation::kDynamo:
      return DynamoQueryAnswer(call);
  }
  return {};
}

Parsed<Query> ParseByHash(const Call& call) {
  const std::string& body = call.request.body;
  const BodyForm form = FormOf(call.request);
  if (call.generation == Generation::kDynamo) {
    return ParseDynamoHashQuery(body, form, call.context.registry.index().options().hash_seed);
  }
  return ParseHashQuery(body, form,
                        call.generation == Generation::kGo ? RequestBody::Others::kIgnore
                                                           : RequestBody::Others::kRefuse);
}

// Hashes are of blocks of one size, so a model that has several does not say which.
std::optional<RequestError> NeedsBlockSize(const Registry& registry, const Query& query) {
  if (query.block_size) return std::nullopt;
  const std::set<uint32_t> sizes = registry.Table()->SizesOf(query.tenant, query.model).sizes;
  if (sizes.size() < 2) return std::nullopt;
  return RequestError{fmt::format("block_size is required: model '{}' has blocks of {} and of {} "
                                  "tokens",
                                  query.model, *sizes.begin(), *std::next(sizes.begin())),
                      "missing",
                      "block_size",
                      {}};
}

HttpResponse AnswerHashRoute(const Call& call) {
  const auto query = ParseByHash(call);
  if (!query) return call.Refuse(400, query.error());
  if (const auto missing = NeedsBlockSize(call.context.registry, *query)) {
    return call.Refuse(400, *missing);
  }
  const Answer answer = AnswerOf(call, *query);
  if (answer.reason == QueryReason::kUnknownBlockSize) {
    return call.Refuse(400, {answer.reason_detail, "unknown_block_size", "block_size", {}});
  }
  if (call.generation == Generation::kDynamo && IsUnknownHere(answer)) {
    return Answer404(call, *query);
  }
  return call.Whole(Written(call, *query, answer));
}

HttpResponse CacheHits(const RouteContext& context, const HttpRequest& request) {
  auto query = ParseCacheQuery(request.body);
  if (!query) return Failed(400, query.error());
  query->min_state = context.options.legacy_min_state;
  return Whole(context,
               CacheAnswerJson(AnswerCacheQuery(context.registry, *query, context.stopping)));
}

// ---- Registrations ----

HttpResponse RefuseGo(const Call& call, const Refusal& refusal) {
  return call.Refuse(400, {refusal.Message(), "invalid_registration", refusal.where, {}});
}

// What upstream says too in its very words, which leave out whatever could help a person: that is
// in the log. `rank`: what could not be registered.
HttpResponse RefuseStrict(const Call& call, const Refusal& refusal, const Registration& rank) {
  log::Info("publisher {}: not registered: {}", rank.Key(), refusal.Message());
  const auto invalid = [&call](std::string text, std::string field = {}) {
    return call.Refuse(400, {std::move(text), "invalid_registration", std::move(field), {}});
  };
  const bool of_endpoint = refusal.where == "endpoint";
  if (refusal.kind == Refusal::Kind::kConflict) {
    return invalid(of_endpoint ? "conflicting active registration for endpoint: " + rank.endpoint
                               : "conflicting registration for service key: " + rank.Key());
  }
  if (!of_endpoint) return invalid(refusal.Message(), refusal.where);
  return call.Refuse(
      500, {fmt::format("Failed to subscribe: failed to start ZMQ client: initial connection "
                        "failed: failed to connect to {}: {}",
                        rank.endpoint, refusal.what),
            "",
            "",
            {}});
}

HttpResponse Register(const Call& call) {
  const bool go = call.generation == Generation::kGo;
  const BodyForm form = FormOf(call.request);
  const auto parsed =
      go ? ParseRegister(call.request.body, form) : ParseStrictRegister(call.request.body, form);
  if (!parsed) return call.Refuse(400, parsed.error());
  const auto refuse = [&](const Refusal& refusal, const Registration& rank) {
    return go ? RefuseGo(call, refusal) : RefuseStrict(call, refusal, rank);
  };
  const auto ranks = ExpandRanks(parsed->registration, parsed->dp_size);
  if (!ranks) return refuse(Refusal(Refusal::Kind::kInvalid, ranks.error()), parsed->registration);
  if (const auto added = call.context.registry.AddAll(*ranks); !added) {
    return refuse(added.error(), (*ranks)[added.error().rank]);
  }
  return Answered(call.generation,
                  RegisteredDocument(parsed->registration.instance_id, *ranks, parsed->unused,
                                     WritingForm(call.generation)));
}

HttpResponse Unregister(const Call& call) {
  const BodyForm form = FormOf(call.request);
  const auto key = call.generation == Generation::kGo
                       ? ParseUnregister(call.request.body, form)
                       : ParseStrictUnregister(call.request.body, form);
  if (!key) return call.Refuse(400, key.error());
  if (!call.context.registry.Remove(*key)) {
    return call.Refuse(404, {"service not found: " + *key, "unknown_service", "", {}});
  }
  return Answered(call.generation, UnregisteredDocument(*key, WritingForm(call.generation)));
}

// ---- What is there ----

HttpResponse Services(const Call& call) {
  const auto publishers = call.context.registry.Publishers();
  if (call.generation == Generation::kGo) return Ok(ServicesJson(publishers));
  // The one answer of the JSON generation that no line break ends.
  const BodyForm form = WritingForm(call.generation);
  return Ok(StrictServices(publishers, form), form);
}

HttpResponse GlobalView(const Call& call) {
  const Registry& registry = call.context.registry;
  const auto publishers = registry.Publishers();
  const auto namespaces = registry.index().Namespaces();
  if (call.generation == Generation::kGo) return Ok(GlobalViewJson(publishers, namespaces));
  return Answered(call.generation,
                  StrictGlobalView(publishers, namespaces, WritingForm(call.generation)));
}

// ---- Which generation ----

HttpResponse RefuseCompat(const Error& error) {
  return Failed(400, {error.Message(), "invalid_value", error.where, {}});
}

using Handler = HttpResponse (*)(const Call&);

// Some paths Dynamo's indexer has too, but not these.
HttpResponse Dispatch(const RouteContext& context, const HttpRequest& request, bool has_dynamo,
                      Handler handler) {
  const auto generation = GenerationOf(request, context.options.compat);
  if (!generation) return RefuseCompat(generation.error());
  if (*generation == Generation::kDynamo && !has_dynamo) {
    return RefuseCompat(Error{"'dynamo' answers /query and /query_by_hash alone",
                              "X-Conductor-Compat", "go, cpp-json or msgpack"});
  }
  return handler(Call{context, request, *generation});
}

// What is posted to the MessagePack generation must be that. The others do not ask.
template <Handler handler>
HttpResponse Posted(const Call& call) {
  if (call.generation != Generation::kMsgpack ||
      FormNamed(call.request.content_type) == BodyForm::kMsgpack) {
    return handler(call);
  }
  return call.Refuse(
      400, {"Content-Type must be application/msgpack", "unsupported_content_type", "", {}});
}

// The other of GET and POST. Nothing, where the listener's own words do.
std::optional<HttpResponse> WrongMethod(const RouteContext& context, const HttpRequest& request) {
  const auto generation = GenerationOf(request, context.options.compat);
  if (!generation || *generation == Generation::kGo || *generation == Generation::kDynamo) {
    return std::nullopt;
  }
  return Refused(*generation, 405, {"Method not allowed", "", "", {}});
}

struct SharedPath {
  const char* method;
  const char* path;
  bool has_dynamo;
  Handler handler;
  Access access = Access::kRead;
};

constexpr std::array kSharedPaths = {
    SharedPath{"POST", "/query", true, Posted<AnswerQueryRoute>},
    SharedPath{"POST", "/query_by_hash", true, Posted<AnswerHashRoute>},
    SharedPath{"POST", "/register", false, Posted<Register>, Access::kAdmin},
    SharedPath{"POST", "/unregister", false, Posted<Unregister>, Access::kAdmin},
    SharedPath{"GET", "/services", false, Services},
    SharedPath{"GET", "/global_view", false, GlobalView},
};

}  // namespace

void AddMooncakeRoutes(HttpListener& listener, const RouteContext& context) {
  for (const SharedPath& shared : kSharedPaths) {
    const bool has_body = shared.method == std::string_view("POST");
    listener.Route(
        shared.method, shared.path,
        [context, shared, has_body](HttpRequest request) {
          if (!has_body) request.content_type.clear();  // of nothing
          return Dispatch(context, request, shared.has_dynamo, shared.handler);
        },
        shared.access);
    listener.RefuseMethod(shared.path, [context](const HttpRequest& request) {
      return WrongMethod(context, request);
    });
  }
  listener.Route("POST", "/cache",
                 [context](const HttpRequest& request) { return CacheHits(context, request); });
}

}  // namespace conductor::serve
