#include "daemon/serve/http_api.h"

#include <fmt/format.h>

#include <atomic>
#include <random>
#include <stop_token>
#include <utility>

#include "daemon/serve/answer_document.h"
#include "daemon/serve/answers.h"
#include "daemon/serve/http_listener.h"
#include "daemon/serve/metrics.h"
#include "daemon/serve/publisher_json.h"
#include "daemon/serve/requests.h"

namespace conductor::serve {
namespace {

HttpListener::Options ListenerOptions(const HttpApi::Options& options) {
  HttpListener::Options listener;
  listener.host = options.host;
  listener.port = options.port;
  listener.max_connections = options.max_connections;
  listener.limits.max_body_bytes = options.max_body_bytes;
  listener.limits.max_inflight_bytes = options.max_inflight_bytes;
  listener.limits.request_timeout = options.request_timeout;
  listener.limits.idle_timeout = options.idle_timeout;
  return listener;
}

HttpResponse Ok(std::string body, BodyForm form = BodyForm::kJson) {
  return HttpResponse{.body = std::move(body), .content_type = std::string(MediaType(form))};
}

HttpResponse Failed(int status, const RequestError& error, BodyForm form = BodyForm::kJson) {
  return HttpResponse{.status = status,
                      .body = ErrorDocument(error, form),
                      .content_type = std::string(MediaType(form))};
}

// Of its body: JSON unless it says otherwise.
BodyForm FormOf(const HttpRequest& request) {
  return FormNamed(request.content_type).value_or(BodyForm::kJson);
}

// Of the answer: what it accepts, or else the form that it came in.
BodyForm AnswerForm(const HttpRequest& request) {
  return FormNamed(request.accept).value_or(FormOf(request));
}

// All or none: those that a failure leaves behind are taken back, but for what was there before.
Status AddAll(Registry& registry, const std::vector<Registration>& ranks) {
  std::vector<std::string> added;
  for (const Registration& rank : ranks) {
    const auto one = registry.Add(rank);
    if (one) {
      if (*one == Registry::Added::kNew) added.push_back(rank.Key());
      continue;
    }
    for (const std::string& key : added) (void)registry.Remove(key);
    Error error = one.error();
    if (ranks.size() > 1) error.what = fmt::format("rank {}: {}", rank.dp_rank, error.what);
    return tl::unexpected(std::move(error));
  }
  return {};
}

// Tells one run of the daemon from another: what a client knew of an earlier one is gone.
std::string RandomId() {
  std::random_device random;
  std::string id;
  for (int i = 0; i < 4; ++i) id += fmt::format("{:08x}", random());
  return id;
}

}  // namespace

struct HttpApi::Impl {
  Impl(Registry& given_registry, const Options& options)
      : registry(given_registry),
        legacy_min_state(options.legacy_min_state),
        listener(ListenerOptions(options)),
        metrics(registry, [this] { return listener.connections(); }) {
    RouteAll();
    listener.OnExchange([this](const HttpExchange& exchange) { metrics.Count(exchange); });
  }

  void RouteAll();

  // `answer`, unless the server stops: then the walk behind it may have been cut short.
  HttpResponse Whole(std::string answer, BodyForm form = BodyForm::kJson) const;
  HttpResponse MooncakeQuery(const HttpRequest& request) const;
  HttpResponse CacheHits(const HttpRequest& request) const;
  HttpResponse RankedQuery(const HttpRequest& request) const;
  HttpResponse Register(const HttpRequest& request);
  HttpResponse Unregister(const HttpRequest& request);
  HttpResponse OnePublisher(const std::string& id) const;
  HttpResponse NoPublisher(const std::string& id) const;
  HttpResponse Health() const;
  HttpResponse Readiness() const;

  Registry& registry;
  const MinState legacy_min_state;
  HttpListener listener;
  Metrics metrics;
  const std::string boot_id = RandomId();
  std::stop_source stopping;  // of walks over long prompts
  std::atomic<bool> ready = false;
};

void HttpApi::Impl::RouteAll() {
  using Method = HttpResponse (Impl::*)(const HttpRequest&);
  using ConstMethod = HttpResponse (Impl::*)(const HttpRequest&) const;
  const auto post = [this](const char* path, auto method) {
    listener.Route("POST", path,
                   [this, method](HttpRequest request) { return (this->*method)(request); });
  };
  const auto get = [this](const char* path, auto answer) {
    listener.Route("GET", path, [answer](const HttpRequest&) -> HttpResponse { return answer(); });
  };
  const auto of_publisher = [this](const char* method, const char* path, auto act) {
    listener.Route(method, path, [this, act](const HttpRequest& request) {
      return act(request.parameter) ? OnePublisher(request.parameter)
                                    : NoPublisher(request.parameter);
    });
  };
  post("/v1/query", ConstMethod{&Impl::RankedQuery});
  get("/v1/publishers", [this] { return Ok(PublishersJson(registry.Publishers())); });
  of_publisher("GET", "/v1/publishers/{id}", [](const std::string&) { return true; });
  of_publisher("POST", "/v1/publishers/{id}/resync",
               [this](const std::string& id) { return registry.Resync(id); });
  of_publisher("POST", "/v1/publishers/{id}/clear",
               [this](const std::string& id) { return registry.Clear(id); });
  post("/query", ConstMethod{&Impl::MooncakeQuery});
  post("/register", Method{&Impl::Register});
  post("/unregister", Method{&Impl::Unregister});
  get("/services", [this] { return Ok(ServicesJson(registry.Publishers())); });
  get("/global_view",
      [this] { return Ok(GlobalViewJson(registry.Publishers(), registry.index().Namespaces())); });
  post("/cache", ConstMethod{&Impl::CacheHits});
  get("/healthz", [this] { return Health(); });
  get("/readyz", [this] { return Readiness(); });
  get("/metrics", [this] {
    return HttpResponse{.body = metrics.Scrape(), .content_type = Metrics::kContentType};
  });
}

HttpResponse HttpApi::Impl::Whole(std::string answer, BodyForm form) const {
  if (!stopping.stop_requested()) return Ok(std::move(answer), form);
  return Failed(503, {"the daemon is being stopped", "stopping", "", {}}, form);
}

HttpResponse HttpApi::Impl::MooncakeQuery(const HttpRequest& request) const {
  const auto query = ParseMooncakeQuery(request.body);
  if (!query) return Failed(400, query.error());
  Answer answer = AnswerQuery(registry, *query, stopping.get_token());
  ApplyMinState(legacy_min_state, answer);
  return Whole(MooncakeAnswerJson(*query, answer));
}

HttpResponse HttpApi::Impl::CacheHits(const HttpRequest& request) const {
  auto query = ParseCacheQuery(request.body);
  if (!query) return Failed(400, query.error());
  query->min_state = legacy_min_state;
  return Whole(CacheAnswerJson(AnswerCacheQuery(registry, *query, stopping.get_token())));
}

HttpResponse HttpApi::Impl::RankedQuery(const HttpRequest& request) const {
  const BodyForm form = FormOf(request);
  const auto ranked = ParseQuery(request.body, form);
  if (!ranked) return Failed(400, ranked.error(), AnswerForm(request));
  const Answer answer = AnswerQuery(registry, ranked->query, stopping.get_token());
  return Whole(AnswerDocument(*ranked, answer, AnswerForm(request)), AnswerForm(request));
}

HttpResponse HttpApi::Impl::Register(const HttpRequest& request) {
  const auto parsed = ParseRegister(request.body);
  if (!parsed) return Failed(400, parsed.error());
  const auto ranks = ExpandRanks(parsed->registration, parsed->dp_size);
  const auto added = ranks.and_then([this](const auto& all) { return AddAll(registry, all); });
  if (!added) {
    return Failed(400, {added.error().Message(), "invalid_registration", added.error().where, {}});
  }
  return Ok(RegisteredJson(parsed->registration.instance_id, *ranks, parsed->unused));
}

HttpResponse HttpApi::Impl::Unregister(const HttpRequest& request) {
  const auto key = ParseUnregister(request.body);
  if (!key) return Failed(400, key.error());
  if (!registry.Remove(*key)) {
    return Failed(404, {"service not found: " + *key, "unknown_service", "", {}});
  }
  return Ok(UnregisteredJson(*key));
}

HttpResponse HttpApi::Impl::OnePublisher(const std::string& id) const {
  for (const PublisherStatus& status : registry.Publishers()) {
    if (status.registration.Key() == id) return Ok(PublisherJson(status));
  }
  return NoPublisher(id);
}

HttpResponse HttpApi::Impl::NoPublisher(const std::string& id) const {
  return Failed(404, {fmt::format("no publisher has the id '{}' (expected one that "
                                  "GET /v1/publishers lists, percent-encoded)",
                                  id),
                      "unknown_publisher",
                      "",
                      {}});
}

HttpResponse HttpApi::Impl::Health() const {
  return Ok(fmt::format(R"({{"status":"ok","version":"{}","boot_id":"{}"}})", CONDUCTOR_VERSION,
                        boot_id));
}

HttpResponse HttpApi::Impl::Readiness() const {
  if (ready) return Ok(R"({"status":"ready"})");
  return Failed(503, {"the configured publishers are not all added yet", "not_ready", "", {}});
}

HttpApi::HttpApi(Registry& registry, const Options& options)
    : impl_(std::make_unique<Impl>(registry, options)) {}

HttpApi::~HttpApi() { Stop(); }

Result<uint16_t> HttpApi::Start() { return impl_->listener.Start(); }

void HttpApi::SetReady(bool ready) { impl_->ready = ready; }

void HttpApi::Stop() {
  impl_->stopping.request_stop();
  impl_->listener.Stop();
}

const std::vector<std::pair<std::string, std::string>>& HttpApi::routes() const {
  return impl_->listener.routes();
}

}  // namespace conductor::serve
