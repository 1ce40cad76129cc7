#include "daemon/serve/http_api.h"

#include <fmt/format.h>

#include <atomic>
#include <random>
#include <stop_token>
#include <utility>

#include "daemon/serve/http_listener.h"
#include "daemon/serve/metrics.h"
#include "daemon/serve/routes.h"
#include "lib/base/log.h"

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

// Tells one run of the daemon from another: what a client knew of an earlier one is gone.
std::string RandomId() {
  std::random_device random;
  std::string id;
  for (int i = 0; i < 4; ++i) id += fmt::format("{:08x}", random());
  return id;
}

}  // namespace

struct HttpApi::Impl {
  Impl(Registry& registry, const Options& given)
      : options(given),
        context{registry, options, stopping.get_token()},
        listener(ListenerOptions(given)),
        metrics(registry, [this] { return listener.connections(); }) {
    AddQueryRoutes(listener, context);
    AddPublisherRoutes(listener, context);
    AddInventoryRoutes(listener, context);
    AddIngestRoutes(listener, context,
                    [this](const IngestExchange& exchange) { metrics.Count(exchange); });
    AddEventRoutes(listener, context);
    AddSnapshotRoutes(listener, [this] { return snapshots; });
    AddMooncakeRoutes(listener, context);
    WriteRefusals(listener, context);
    AddProcessRoutes();
    listener.OnExchange([this](const HttpExchange& exchange) { metrics.Count(exchange); });
  }

  void AddProcessRoutes();
  Status LoadFiles();
  HttpResponse Health() const;
  HttpResponse Readiness() const;

  const Options options;
  std::stop_source stopping;
  const RouteContext context;
  HttpListener listener;
  Metrics metrics;
  const std::string boot_id = RandomId();
  std::atomic<bool> ready = false;
  Snapshots* snapshots = nullptr;  // set before the listener's threads start
};

void HttpApi::Impl::AddProcessRoutes() {
  listener.Route(
      "GET", "/healthz", [this](const HttpRequest&) { return Health(); }, Access::kOpen);
  listener.Route(
      "GET", "/readyz", [this](const HttpRequest&) { return Readiness(); }, Access::kOpen);
  listener.Route("GET", "/metrics", [this](const HttpRequest&) {
    return HttpResponse{.body = metrics.Scrape(), .content_type = Metrics::kContentType};
  });
}

Status HttpApi::Impl::LoadFiles() {
  if (options.has_tls()) {
    auto tls = TlsContext::Load(options.tls_cert, options.tls_key);
    if (!tls) return tl::unexpected(tls.error());
    for (const std::string& warning : (*tls)->warnings()) log::Warn("{}", warning);
    listener.Secure(*std::move(tls));
  }
  if (options.auth_token_file.empty()) return {};
  auto tokens = AuthTokens::Load(options.auth_token_file);
  if (!tokens) return tl::unexpected(tokens.error());
  for (const std::string& warning : tokens->warnings()) log::Warn("{}", warning);
  log::Info("requests must show one of the {} tokens of {}", tokens->size(),
            options.auth_token_file);
  listener.Require(*std::move(tokens));
  return {};
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

Result<uint16_t> HttpApi::Start() {
  if (auto loaded = impl_->LoadFiles(); !loaded) return tl::unexpected(loaded.error());
  return impl_->listener.Start();
}

HttpResponse HttpApi::Answer(std::string_view method, std::string_view target, std::string body,
                             BodyForm form) {
  const size_t mark = target.find('?');
  HttpHead head{.method = std::string(method), .path = std::string(target.substr(0, mark))};
  if (mark != std::string_view::npos) head.query = target.substr(mark + 1);
  head.accept = MediaType(form);
  if (!body.empty()) head.content_type = MediaType(form);
  return impl_->listener.Respond(head, std::move(body));
}

void HttpApi::ReloadFiles() {
  if (auto loaded = impl_->LoadFiles(); !loaded) {
    log::Error("{}; what was read before stands", loaded.error().Message());
  }
}

const RouteContext& HttpApi::context() const { return impl_->context; }

void HttpApi::ShowQueryEndpoint(std::function<QueryStats()> stats) {
  impl_->metrics.ShowQueryEndpoint(std::move(stats));
}

void HttpApi::Serve(Snapshots& snapshots) {
  impl_->snapshots = &snapshots;
  impl_->metrics.ShowSnapshots([&snapshots] { return snapshots.stats(); });
}

void HttpApi::SetReady(bool ready) { impl_->ready = ready; }

void HttpApi::Stop() {
  impl_->stopping.request_stop();
  impl_->listener.Stop();
}

const std::vector<std::pair<std::string, std::string>>& HttpApi::routes() const {
  return impl_->listener.routes();
}

Access HttpApi::access(size_t route) const { return impl_->listener.access(route); }

}  // namespace conductor::serve
