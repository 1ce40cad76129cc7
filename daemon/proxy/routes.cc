#include "daemon/proxy/routes.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "daemon/proxy/parcel.h"
#include "daemon/proxy/serving.h"

namespace conductor::proxy {
namespace {

constexpr std::string_view kJson = "application/json";

size_t Count(const Shared& shared, Role role) { return shared.fleet.Engines(role).size(); }

Awaitable<void> AnswerHealth(Request& request) {
  const Shared& shared = request.shared;
  const bool drains = shared.drains.load(std::memory_order_relaxed);
  const size_t unified = Count(shared, Role::kUnified);
  const std::string body =
      fmt::format(R"({{"status": "{}", "prefill_instances": {}, "decode_instances": {}}})",
                  drains ? "draining" : "ok", Count(shared, Role::kPrefill) + unified,
                  Count(shared, Role::kDecode) + unified);
  co_await AnswerWhole(request, drains ? 503 : 200, kJson, body);
}

std::string_view BreakerName(Breaker::State state) {
  switch (state) {
    case Breaker::State::kClosed:
      return "closed";
    case Breaker::State::kOpen:
      return "open";
    case Breaker::State::kHalfOpen:
      return "half_open";
  }
  return {};
}

Awaitable<void> AnswerStatus(Request& request) {
  nlohmann::ordered_json engines = nlohmann::ordered_json::array();
  for (const Fleet::Standing& one : request.shared.fleet.Engines(MonoNow())) {
    engines.push_back({{"engine", one.engine->name()},
                       {"role", RoleName(one.engine->role())},
                       {"in_flight", one.in_flight},
                       {"load", one.load},
                       {"served", one.served},
                       {"failed", one.failed},
                       {"breaker", BreakerName(one.breaker)},
                       {"draining", one.draining}});
  }
  const nlohmann::ordered_json json = {
      {"requests", request.shared.requests.load(std::memory_order_relaxed)},
      {"policy", PolicyName(request.shared.options.effective_policy())},
      {"connector", ConnectorName(request.shared.options.choreography.connector)},
      {"engines", engines}};
  const std::string body = json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  co_await AnswerWhole(request, 200, kJson, body);
}

Awaitable<void> AnswerMetrics(Request& request) {
  const Shared& shared = request.shared;
  const std::string body =
      shared.metrics.Text({.requests = shared.requests.load(std::memory_order_relaxed),
                           .connections = shared.connections.load(std::memory_order_relaxed),
                           .body_bytes = shared.bodies.used(),
                           .lost_log_lines = shared.access_log.lost(),
                           .engines = shared.fleet.Engines(MonoNow())});
  co_await AnswerWhole(request, 200, "text/plain; version=0.0.4", body);
}

// SGLang's own form of a completion; its engines alone know it.
Awaitable<void> ServeGenerate(Request& request) {
  if (request.shared.options.choreography.connector == Connector::kSglang) {
    co_return co_await ServeCompletion(request);
  }
  co_await AnswerError(request, 404, "invalid_request_error",
                       "there is no such path here but with --connector sglang");
}

struct OwnRoute {
  std::string_view method;
  std::string_view path;
  Awaitable<void> (*answer)(Request&);
};

constexpr std::array<OwnRoute, 13> kOwn = {{
    {"POST", "/v1/completions", ServeCompletion},
    {"POST", "/v1/chat/completions", ServeCompletion},
    {"POST", "/generate", ServeGenerate},
    {"GET", "/v1/models", AnswerModels},
    {"POST", "/v1/metaserver", AnswerMetaserver},
    {"GET", "/healthcheck", AnswerHealth},
    {"GET", "/health", AnswerHealth},
    {"GET", "/status", AnswerStatus},
    {"GET", "/metrics", AnswerMetrics},
    {"POST", "/instances/add", AddInstances},
    {"POST", "/instances/remove", RemoveInstances},
    {"POST", "/reset_prefix_cache", ResetCaches},  // vLLM's
    {"POST", "/flush_cache", ResetCaches},         // SGLang's
}};

// An engine, or what stands before it, may go up with it, and out of /v1.
bool HasDotSegment(std::string_view path) {
  std::string segment;
  for (size_t i = 0; i <= path.size(); ++i) {
    if (i == path.size() || path[i] == '/' || path[i] == '\\') {
      if (segment == "." || segment == "..") return true;
      segment.clear();
    } else if (path[i] == '%' && SameName(path.substr(i, 3), "%2e")) {
      segment += '.';
      i += 2;
    } else {
      segment += path[i];
    }
  }
  return false;
}

bool IsCompletion(std::string_view path) {
  return path == "/v1/completions" || path == "/v1/chat/completions" || path == "/generate";
}

}  // namespace

const std::vector<std::pair<std::string_view, std::string_view>>& OwnRoutes() {
  static const auto all = [] {
    std::vector<std::pair<std::string_view, std::string_view>> routes;
    for (const OwnRoute& route : kOwn) routes.emplace_back(route.method, route.path);
    return routes;
  }();
  return all;
}

bool IsWork(std::string_view method, std::string_view path) {
  if (path == "/generate") return true;
  return path.starts_with("/v1/") && path != "/v1/metaserver" &&
         !(method == "GET" && path == "/v1/models");
}

std::string_view PathLabel(std::string_view path) {
  const auto* const own = std::ranges::find(kOwn, path, &OwnRoute::path);
  if (own != kOwn.end()) return own->path;
  return path.starts_with("/v1/") ? "/v1/*" : "other";
}

Awaitable<void> Route(Request& request) {
  const std::string_view path = request.asked.head.path();
  const std::string_view method = request.asked.head.method;
  bool is_known = false;
  for (const OwnRoute& route : kOwn) {
    if (route.path != path) continue;
    is_known = true;
    const bool fits = route.method == method || (route.method == "GET" && method == "HEAD");
    if (fits) co_return co_await route.answer(request);
  }
  if (is_known) {
    co_return co_await AnswerError(
        request, 405, "invalid_request_error",
        IsCompletion(path) ? "expected POST" : "another method is expected");
  }
  if (path.starts_with("/v1/") && !HasDotSegment(path)) co_return co_await PassOn(request);
  co_await AnswerError(request, 404, "invalid_request_error", "there is no such path here");
}

Awaitable<void> AnswerMetaserver(Request& request) {
  const auto parcel = std::make_shared<Parcel<int>>(request.lane.io);
  const auto called = request.shared.metaserver.Call(
      request.asked.body, [parcel](int status) { parcel->Deliver(status); });
  if (!called) {
    const std::string message = called.error().Message();
    co_return co_await AnswerError(request, 400, "invalid_request_error", message);
  }
  const auto status =
      co_await parcel->Wait(request.departure, request.shared.options.upstreams.first_byte);
  if (!status) co_return co_await AnswerError(request, 504, "prefill_failed", "it takes too long");
  if (*status == 404) {
    co_return co_await AnswerError(request, 404, "not_found", "no request of that id waits");
  }
  if (*status != 200) {
    co_return co_await AnswerError(request, *status, "prefill_failed", "no prefiller could do it");
  }
  co_await AnswerWhole(request, 200, kJson, R"({"status": "ok"})");
}

}  // namespace conductor::proxy
