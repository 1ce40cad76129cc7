#include "daemon/proxy/proxy.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <csignal>
#include <cstdio>

#include "daemon/proxy/assembly.h"
#include "daemon/proxy/choreographies.h"
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

}  // namespace

int RunProxy(const ProxyOptions& options) {
  serve::StopSignals signals(options.drain_timeout + kPatience);
  std::signal(SIGPIPE, SIG_IGN);
  RaiseFileLimit();
  const auto assembly = Assembly::Start(options);
  if (!assembly) return Complain(assembly.error());

  fmt::print("conductor: listening on {}\n", HttpUrl(options.host, (*assembly)->port()));
  std::fflush(stdout);

  log::Info("{}: stopping when the requests in hand are done", signals.Wait());
  signals.Ending("the requests in hand");
  (*assembly)->Drain(options.drain_timeout);
  signals.Ending("the connections");
  (*assembly)->Stop();
  return kDone;
}

}  // namespace conductor::proxy
