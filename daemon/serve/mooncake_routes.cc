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
#include "daemon/serve/query_routes.h"
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
  // An answer that was cut short is none. `field`: what the prompt came in.
  [[nodiscard]] HttpResponse RefuseCutShort(const Answer& answer, std::string_view field) const {
    const auto [status, error] = WhyCutShort(context, answer.too_many_blocks, field);
    return Refuse(status, error);
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
  const Registry& registry = call.context.registry;
  const QueryBounds bounds = BoundsOf(call.context);
  const bool in_context =
      call.generation == Generation::kCppJson || call.generation == Generation::kMsgpack;
  Answer answer =
      in_context ? AnswerInContext(registry, query, bounds) : AnswerQuery(registry, query, bounds);
  ApplyMinState(call.context.options.legacy_min_state, answer);
  return answer;
}

HttpResponse Told(const Call& call, const Query& query, const Answer& answer,
                  std::string_view field) {
  if (answer.cut_short) return call.RefuseCutShort(answer, field);
  return Answered(call.generation, Written(call, query, answer));
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
  return Told(call, *query, AnswerOf(call, *query), "token_ids");
}

HttpResponse StrictQueryAnswer(const Call& call) {
  const auto strict = ParseStrictQuery(call.request.body, FormOf(call.request));
  if (!strict) return call.Refuse(400, strict.error());
  const Answer answer = strict->hashable ? AnswerOf(call, strict->query) : Answer{};
  return Told(call, strict->query, answer, "token_ids");
}

HttpResponse DynamoQueryAnswer(const Call& call) {
  const auto query = ParseDynamoQuery(call.request.body, FormOf(call.request));
  if (!query) return call.Refuse(400, query.error());
  const Answer answer = AnswerOf(call, *query);
  if (IsUnknownHere(answer)) return Answer404(call, *query);
  return Told(call, *query, answer, "token_ids");
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
                                                           : RequestBody::Others::kRefuseTersely);
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
  return Told(call, *query, answer, "seq_hashes");
}

HttpResponse CacheHits(const RouteContext& context, const HttpRequest& request) {
  auto query = ParseCacheQuery(request.body);
  if (!query) return Failed(400, query.error());
  query->min_state = context.options.legacy_min_state;
  const CacheAnswer answer = AnswerCacheQuery(context.registry, *query, BoundsOf(context));
  if (answer.cut_short) {
    const auto [status, error] = WhyCutShort(context, answer.too_many_blocks);
    return Failed(status, error);
  }
  return Ok(CacheAnswerJson(answer.hits));
}

// ---- Registrations ----

// An address that is missing, or cannot be used, that generation only met when it subscribed.
HttpResponse RefuseGo(const Call& call, RequestError error, bool of_address) {
  if (!of_address) return call.Refuse(400, error);
  error.error = "Failed to subscribe: " + error.error;
  return call.Refuse(500, error);
}

// What upstream says too in its very words, which leave out whatever could help a person: that is
// in the log. `rank`: what could not be registered.
HttpResponse RefuseStrict(const Call& call, const Refusal& refusal, const Registration& rank) {
  log::Info("publisher {}: not registered: {}", rank.Key(), refusal.Message());
  const auto invalid = [&call](std::string text, std::string field = {}) {
    return call.Refuse(400, {std::move(text), "invalid_registration", std::move(field), {}});
  };
  const bool of_endpoint = refusal.where == "endpoint";
  if (refusal.kind == Refusal::Kind::kLeaving) return invalid(refusal.what);
  if (refusal.kind == Refusal::Kind::kConflict) {
    if (refusal.where == "hash_profile") {
      return invalid(IsPool(rank.type)
                         ? "failed to bind shared-cache profile: hash profile conflicts with the "
                           "registered ContextKey profile"
                         : "failed to register prefix context: registration conflicts with the "
                           "ContextKey hash profile");
    }
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
  if (!parsed && go) {
    const RequestError& error = parsed.error();
    return RefuseGo(call, error, error.field == "endpoint" && error.reason != "invalid_type");
  }
  if (!parsed) return call.Refuse(400, parsed.error());
  const auto refuse = [&](const Refusal& refusal, const Registration& rank) {
    if (!go) return RefuseStrict(call, refusal, rank);
    return RefuseGo(call, {refusal.Message(), "invalid_registration", refusal.where, {}},
                    refusal.kind == Refusal::Kind::kInvalid && refusal.where == "endpoint");
  };
  const auto ranks = ExpandRanks(parsed->registration, parsed->dp_size);
  if (!ranks) return refuse(Refusal(Refusal::Kind::kInvalid, ranks.error()), parsed->registration);
  const auto profiles = go ? Registry::Profiles::kMayDiffer : Registry::Profiles::kMustAgree;
  if (const auto added = call.context.registry.AddAll(*ranks, profiles); !added) {
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
  const Registry::Removed removed = call.context.registry.Remove(*key);
  if (removed != Registry::Removed::kRemoved) {
    const char* why = removed == Registry::Removed::kLeaving
                          ? "service is already being unregistered: "
                          : "service not found: ";
    return call.Refuse(404, {why + *key, "unknown_service", "", {}});
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
  }
  listener.Route("POST", "/cache",
                 [context](const HttpRequest& request) { return CacheHits(context, request); });
}

}  // namespace conductor::serve
