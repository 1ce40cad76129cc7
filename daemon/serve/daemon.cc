#include "daemon/serve/daemon.h"

#include <fmt/format.h>
#include <malloc.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "daemon/serve/config.h"
#include "daemon/serve/demo.h"
#include "daemon/serve/http_api.h"
#include "daemon/serve/query_endpoint.h"
#include "daemon/serve/registry.h"
#include "daemon/serve/save_at_end.h"
#include "daemon/serve/snapshots.h"
#include "daemon/serve/stop_signals.h"
#include "lib/base/log.h"
#include "lib/base/result.h"

namespace conductor::serve {
namespace {

constexpr int kDone = 0;
constexpr int kFailed = 1;
constexpr int kUsage = 2;

constexpr uint16_t kDefaultPort = 13333;

// At the end. Requests and queries are given so long before the snapshot is saved all the same.
constexpr Duration kAnswersWithin = std::chrono::seconds(1);
// The snapshot of 100 million blocks takes less than half of it, and another one may be under way.
// Whoever cannot wait for it sends two more signals, and has the last one.
constexpr Duration kSaveWithin = std::chrono::minutes(3);
constexpr Duration kPublishersWithin = std::chrono::milliseconds(1500);

int Complain(int code, const Error& error) {
  fmt::print(stderr, "conductor: {}\n", error.Message());
  return code;
}

std::optional<std::string> Environment(const char* name) {
  // No thread changes the environment.
  const char* value = std::getenv(name);
  if (value == nullptr || *value == '\0') return std::nullopt;
  return std::string(value);
}

Status SetLogLevel(const ServeOptions& options) {
  std::string where = "--log-level";
  std::optional<std::string> text = options.log_level;
  if (!text) {
    where = "CONDUCTOR_LOG_LEVEL";
    text = Environment("CONDUCTOR_LOG_LEVEL");
  }
  if (!text) return {};
  const auto level = log::ParseLevel(*text);
  if (!level) return tl::unexpected(Error(level.error()).Within(where));
  log::SetLevel(*level);
  return {};
}

// A file that somebody named must be there; the default one may be missing.
Result<Config> ReadConfig(const ServeOptions& options) {
  if (options.demo && !options.config_path) {
    if (const auto path = Environment("CONDUCTOR_CONFIG_PATH")) {
      log::Info("CONDUCTOR_CONFIG_PATH: {} is not read beside --demo; --config is", *path);
    }
    return Config{};
  }
  if (options.config_path) return LoadConfig(*options.config_path);
  if (const auto path = Environment("CONDUCTOR_CONFIG_PATH")) return LoadConfig(*path);
  const std::string path = DefaultConfigPath();
  std::error_code error;
  if (!std::filesystem::exists(path, error)) {
    log::Warn(
        "no configuration file at {}: starting without publishers; register them with "
        "POST /register, or name a file with --config",
        path);
    return Config{};
  }
  return LoadConfig(path);
}

// Limits that do not fit one another are a matter of flags, wherever they were given.
Result<Limits> ReadLimits(const ServeOptions& options, const Config& config) {
  auto limits = LimitsFrom(config.settings, options.settings);
  if (!limits) return limits;
  limits->http.host = options.host ? *options.host : config.host.value_or(limits->http.host);
  limits->http.port = options.port ? *options.port : config.http_server_port.value_or(kDefaultPort);
  limits->query.address =
      options.query_endpoint ? *options.query_endpoint : config.query_endpoint.value_or("");
  return limits;
}

// Large bodies and what is made of them go back to the system when they are done with. Left to
// itself the allocator would learn to keep blocks of up to 32 MiB.
void ReturnLargeBlocks() { ::mallopt(M_MMAP_THRESHOLD, 1 << 20); }

bool IsLoopback(const std::string& host) {
  return host == "localhost" || host == "::1" || host.starts_with("127.");
}

void WarnOfExposure(const HttpApi::Options& options) {
  if (IsLoopback(options.host)) return;
  if (options.auth_token_file.empty()) {
    log::Warn(
        "listening on {}: WHOEVER REACHES THIS ADDRESS CAN REGISTER, CLEAR AND REMOVE PUBLISHERS; "
        "nobody is asked for a token: name a file of them with --auth-token-file",
        options.host);
  } else if (!options.has_tls()) {
    log::Warn(
        "listening on {} without TLS: tokens can be read on their way; give --tls-cert and "
        "--tls-key, unless a proxy encrypts",
        options.host);
  }
}

// Registers `publishers`; what could not be is added to `problems`.
void RegisterAll(Registry& registry, const std::vector<Registration>& publishers,
                 std::vector<Error>& problems) {
  for (const Registration& publisher : publishers) {
    if (const auto added = registry.Add(publisher); !added) {
      problems.push_back(Error(added.error()).Within(publisher.Key()));
    }
  }
}

Result<std::shared_ptr<QueryEndpoint>> StartQueryEndpoint(HttpApi& http,
                                                          const QueryEndpoint::Options& options) {
  if (!IsLocalQueryAddress(options.address)) {
    log::Warn(
        "answering queries at {}: whoever reaches this address can ask; bearer tokens are not "
        "spoken there, so a wider address than loopback needs a network boundary",
        options.address);
  }
  auto queries = std::make_shared<QueryEndpoint>(http.context(), options);
  const auto bound = queries->Start();
  if (!bound) return tl::unexpected(Error(bound.error()).Within("--query-endpoint"));
  http.ShowQueryEndpoint([queries] { return queries->stats(); });
  log::Info("answering queries at {}", *bound);
  return queries;
}

std::string Url(const HttpApi::Options& options, uint16_t port) {
  const bool bare_ipv6 = options.host.find(':') != std::string::npos && options.host[0] != '[';
  return fmt::format("{}://{}:{}", options.has_tls() ? "https" : "http",
                     bare_ipv6 ? fmt::format("[{}]", options.host) : options.host, port);
}

// One error line each; true when they forbid to go on.
bool Report(const std::vector<Error>& problems, bool strict) {
  for (const Error& problem : problems) log::Error("{}", problem.Message());
  if (problems.empty() || !strict) return false;
  fmt::print(stderr, "conductor: {} broken publisher{} and --strict: not starting; the first: {}\n",
             problems.size(), problems.size() == 1 ? "" : "s", problems.front().Message());
  return true;
}

}  // namespace

int RunServe(const ServeOptions& options) {
  StopSignals signals;
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);  // a snapshot that is larger than it may be is an error of its own
  if (const auto level = SetLogLevel(options); !level) return Complain(kUsage, level.error());
  ReturnLargeBlocks();
  const auto config = ReadConfig(options);
  if (!config) return Complain(kFailed, config.error());
  const auto limits = ReadLimits(options, *config);
  if (!limits) return Complain(kUsage, limits.error());
  if (options.demo && limits->http.names_files()) {
    return Complain(kUsage, {"it asks its daemon without TLS and without a token", "--demo",
                             "neither --auth-token-file nor --tls-cert beside it"});
  }
  if (options.demo && !limits->snapshots.file.empty()) {
    return Complain(kUsage,
                    {"its publishers begin anew each time", "--demo", "no --state beside it"});
  }
  for (const std::string& note : config->notes) log::Info("{}", note);
  if (Report(config->problems, options.strict)) return kFailed;

  std::unique_ptr<Demo> demo;
  if (options.demo) {
    auto created = Demo::Create(options.demo_seed);
    if (!created) return Complain(kFailed, created.error());
    demo = std::move(*created);
  }

  Registry registry(limits->registry);
  if (!registry.limit_warning().empty()) log::Warn("{}", registry.limit_warning());

  std::unique_ptr<Snapshots> snapshots;
  if (!limits->snapshots.file.empty()) {
    auto opened = Snapshots::Open(registry, limits->snapshots, config->publishers, options.strict);
    if (!opened) return Complain(kFailed, opened.error());
    snapshots = std::move(*opened);
  }

  const HttpApi::Options& http_options = limits->http;
  WarnOfExposure(http_options);
  HttpApi http(registry, http_options);
  if (snapshots) http.Serve(*snapshots);
  std::shared_ptr<QueryEndpoint> queries;
  if (!limits->query.address.empty()) {
    auto started = StartQueryEndpoint(http, limits->query);
    if (!started) return Complain(kFailed, started.error());
    queries = std::move(*started);
  }
  const auto port = http.Start();
  if (!port) return Complain(kFailed, port.error());

  std::vector<Error> problems;
  RegisterAll(registry, config->publishers, problems);
  if (demo) RegisterAll(registry, demo->registrations(), problems);
  if (Report(problems, options.strict)) return kFailed;
  if (const size_t broken = config->problems.size() + problems.size(); broken > 0) {
    log::Warn("{} publisher{} registered, {} left out: the lines above say why", registry.size(),
              registry.size() == 1 ? " is" : "s are", broken);
  }
  if (snapshots) {
    snapshots->Start();
    signals.Keep("the snapshot", kSaveWithin);
  }
  http.SetReady(true);
  // From here on the process ends by a signal only, and none comes through once one ended it.
  if (http_options.names_files()) signals.OnHangup([&http] { http.ReloadFiles(); });

  const std::string url = Url(http_options, *port);
  fmt::print("conductor: listening on {}\n", url);
  std::fflush(stdout);
  if (demo) demo->Start(url);

  log::Info("{}: stopping", signals.Wait());
  const auto end_answers = [&] {
    if (demo) {
      signals.Ending("the demo");
      demo->Stop();
    }
    signals.Ending("the HTTP requests");
    http.Stop();
    signals.Ending("the queries over ZeroMQ");
    if (queries) queries->Stop();
  };
  if (snapshots) {
    SaveAtEnd(signals, *snapshots, end_answers, kAnswersWithin);
  } else {
    end_answers();
  }
  signals.Ending("the publishers", kPublishersWithin);
  return kDone;
}

}  // namespace conductor::serve
