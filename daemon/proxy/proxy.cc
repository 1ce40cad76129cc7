#include "daemon/proxy/proxy.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <memory>
#include <thread>

#include "daemon/proxy/choreographies.h"
#include "daemon/proxy/conductor_advisor.h"
#include "daemon/proxy/conductor_link.h"
#include "daemon/proxy/embedded.h"
#include "daemon/proxy/keeper.h"
#include "daemon/proxy/server.h"
#include "daemon/serve/stop_signals.h"
#include "lib/base/log.h"

namespace conductor::proxy {
namespace {

constexpr int kDone = 0;
constexpr int kFailed = 1;

// After the drain, for what ends at once.
constexpr std::chrono::milliseconds kPatience(1500);

int Complain(const Error& error) {
  fmt::print(stderr, "conductor: {}\n", error.Message());
  return kFailed;
}

// Every stream has two connections. The usual soft limit is 1024.
void RaiseFileLimit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  if (::setrlimit(RLIMIT_NOFILE, &limit) != 0) {
    log::Warn("the limit of open files cannot be raised");
  }
}

void AddEngines(Fleet& fleet, const ProxyOptions& options) {
  const Role first = options.is_unified() ? Role::kUnified : Role::kPrefill;
  // Their names differ: CheckOptions().
  for (const EngineSpec& spec : options.prefillers) (void)fleet.Add(first, spec);
  for (const EngineSpec& spec : options.decoders) (void)fleet.Add(Role::kDecode, spec);
}

// Until nothing is in hand, or the time is over.
void AwaitRequests(const Shared& shared, Duration limit) {
  const MonoTime until = MonoNow() + limit;
  while (shared.requests.load(std::memory_order_relaxed) > 0 && MonoNow() < until) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
}

}  // namespace

int RunProxy(const ProxyOptions& options) {
  serve::StopSignals signals(options.drain_timeout + kPatience);
  std::signal(SIGPIPE, SIG_IGN);
  RaiseFileLimit();
  auto access_log = AccessLog::Open(options.access_log);
  if (!access_log) return Complain(std::move(access_log.error()).Within("--access-log"));

  Fleet fleet({.breaker = options.breaker});
  AddEngines(fleet, options);
  ProxyMetrics metrics;
  BodyBudget bodies(options.max_inflight_bytes);
  Metaserver metaserver;
  Server server(options, options.host, options.port);
  const auto port = server.Bind();
  if (!port) return Complain(port.error());
  ChoreographyOptions choreography_options = options.choreography;
  if (choreography_options.metaserver.empty()) {
    choreography_options.metaserver = HttpUrl(options.host, *port) + "/v1/metaserver";
  }
  const auto choreography = MakeChoreography(choreography_options);
  std::unique_ptr<Embedded> embedded;
  if (options.embedded) {
    embedded = std::make_unique<Embedded>();
    const auto loaded =
        options.publishers_file.empty() ? Status() : embedded->Load(options.publishers_file);
    if (!loaded) return Complain(loaded.error());
  }
  ConductorLink link(options, fleet, embedded.get());
  ConductorAdvisor advisor(options, fleet, link);
  Shared shared{options, *choreography, fleet, metrics, **access_log, bodies, metaserver};
  if (options.has_conductor() && AsksConductor(options.effective_policy())) {
    if (const auto started = link.Start(); !started) return Complain(started.error());
    shared.advisor = &advisor;
  }
  Keeper keeper(fleet, options);
  keeper.Start();
  server.Start(shared);

  fmt::print("conductor: listening on {}\n", HttpUrl(options.host, *port));
  std::fflush(stdout);

  log::Info("{}: stopping when the requests in hand are done", signals.Wait());
  signals.Ending("the requests in hand");
  shared.drains.store(true, std::memory_order_relaxed);
  server.Drain();
  AwaitRequests(shared, options.drain_timeout);
  signals.Ending("the connections");
  server.Stop();
  return kDone;
}

}  // namespace conductor::proxy
