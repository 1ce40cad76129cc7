#include "daemon/proxy/assembly.h"

#include <thread>
#include <utility>

#include "daemon/proxy/choreographies.h"
#include "daemon/proxy/conductor_advisor.h"
#include "daemon/proxy/conductor_link.h"
#include "daemon/proxy/embedded.h"
#include "daemon/proxy/keeper.h"
#include "daemon/proxy/server.h"

namespace conductor::proxy {
namespace {

void AddEngines(Fleet& fleet, const ProxyOptions& options) {
  const Role first = options.is_unified() ? Role::kUnified : Role::kPrefill;
  // Their names differ: CheckOptions().
  for (const EngineSpec& spec : options.prefillers) (void)fleet.Add(first, spec);
  for (const EngineSpec& spec : options.decoders) (void)fleet.Add(Role::kDecode, spec);
}

}  // namespace

// In the order of their making; they refer to those above.
struct Assembly::Parts {
  explicit Parts(const ProxyOptions& given)
      : options(given),
        fleet({.breaker = options.breaker}),
        bodies(options.max_inflight_bytes),
        server(options, options.host, options.port) {
    AddEngines(fleet, options);
  }

  const ProxyOptions options;
  std::unique_ptr<AccessLog> access_log;
  Fleet fleet;
  ProxyMetrics metrics;
  BodyBudget bodies;
  Metaserver metaserver;
  Server server;
  uint16_t port = 0;
  std::unique_ptr<Choreography> choreography;
  std::unique_ptr<Embedded> embedded;
  std::unique_ptr<ConductorLink> link;
  std::unique_ptr<ConductorAdvisor> advisor;
  std::unique_ptr<Shared> shared;
  std::unique_ptr<Keeper> keeper;
};

Assembly::Assembly(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

Assembly::~Assembly() { Stop(); }

Result<std::unique_ptr<Assembly>> Assembly::Start(const ProxyOptions& given) {
  auto access_log = AccessLog::Open(given.access_log);
  if (!access_log) {
    return tl::unexpected(std::move(access_log.error()).Within("--access-log"));
  }
  auto parts = std::make_unique<Parts>(given);
  Parts& all = *parts;
  const ProxyOptions& options = all.options;
  all.access_log = *std::move(access_log);
  const auto port = all.server.Bind();
  if (!port) return tl::unexpected(port.error());
  all.port = *port;
  ChoreographyOptions choreography = options.choreography;
  if (choreography.metaserver.empty()) {
    choreography.metaserver = HttpUrl(options.host, *port) + "/v1/metaserver";
  }
  all.choreography = MakeChoreography(choreography);
  if (options.embedded) {
    all.embedded = std::make_unique<Embedded>();
    const auto loaded =
        options.publishers_file.empty() ? Status() : all.embedded->Load(options.publishers_file);
    if (!loaded) return tl::unexpected(loaded.error());
  }
  all.link = std::make_unique<ConductorLink>(options, all.fleet, all.embedded.get());
  all.advisor = std::make_unique<ConductorAdvisor>(options, all.fleet, *all.link);
  all.shared.reset(new Shared{options, *all.choreography, all.fleet, all.metrics, *all.access_log,
                              all.bodies, all.metaserver});
  if (options.has_conductor() && AsksConductor(options.effective_policy())) {
    if (const auto started = all.link->Start(); !started) return tl::unexpected(started.error());
    all.shared->advisor = all.advisor.get();
  }
  all.keeper = std::make_unique<Keeper>(all.fleet, options);
  all.keeper->Start();
  all.server.Start(*all.shared);
  return std::unique_ptr<Assembly>(new Assembly(std::move(parts)));
}

uint16_t Assembly::port() const { return parts_->port; }

void Assembly::Drain(Duration limit) {
  parts_->shared->drains.store(true, std::memory_order_relaxed);
  parts_->server.Drain();
  const MonoTime until = MonoNow() + limit;
  // Each connection that is left has a request that has begun, if only by its first byte. Not at
  // once: one that has just come may not count yet.
  do {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  } while (parts_->shared->connections.load(std::memory_order_relaxed) > 0 && MonoNow() < until);
}

void Assembly::Stop() { parts_->server.Stop(); }

}  // namespace conductor::proxy
