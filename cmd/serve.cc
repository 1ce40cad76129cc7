#include <memory>
#include <string>

#include "cmd/flag.h"
#include "cmd/subcommands.h"
#include "daemon/serve/daemon.h"
#include "lib/base/log.h"

namespace conductor::cmd {
namespace {

constexpr const char* kFooter =
    R"(Times are like 500ms, 5s, 15m; sizes like 65536, 512k, 64m.

Environment (flags come first, then these, then the file):
  CONDUCTOR_CONFIG_PATH  the configuration file
  CONDUCTOR_LOG_LEVEL    as --log-level

Examples:
  conductor serve --demo
  conductor serve --config conductor.json --strict
  conductor serve --host 0.0.0.0 --port 13333 --log-level WARN

Exit codes: 0 ended by a signal, 1 failed, 2 usage. See conductor-serve(1).)";

Result<std::string> ParseLogLevel(const std::string& text) {
  return log::ParseLevel(text).map([&](log::Level) { return text; });
}

Result<std::string> ParseHost(const std::string& text) {
  if (text.empty()) return Fail("is empty", {}, "a name or an address to listen on");
  return text;
}

}  // namespace

void AddServe(CLI::App& app, Run& run) {
  const auto options = std::make_shared<serve::ServeOptions>();
  CLI::App& serve = *app.add_subcommand("serve", "Run the daemon");
  serve.footer(kFooter);
  serve
      .add_option("--config", options->config_path, "read FILE [~/.mooncake/conductor_config.json]")
      ->type_name("FILE");
  AddFlag(serve, "--host", options->host, ParseHost, "HOST", "address to listen on [127.0.0.1]");
  AddNumberFlag(serve, "--port", options->port, "a port", 0, 65535,
                "port to listen on [13333]; 0: a free one");
  AddFlag(serve, "--log-level", options->log_level, ParseLogLevel, "LEVEL",
          "DEBUG, INFO, WARN or ERROR [INFO]");
  serve.add_flag("--strict", options->strict, "a broken entry of the file is fatal");
  serve.add_flag("--demo", options->demo, "run a simulated fleet beside the daemon; no file");
  AddNumberFlag(serve, "--demo-seed", options->demo_seed, "a seed", 0, UINT64_MAX,
                "seed of the simulated fleet [1]");
  AddNumberFlag(serve, "--max-publishers", options->max_publishers, "a number of publishers", 1,
                65536, "most publishers at once [1024]");
  AddNumberFlag(serve, "--ingest-threads", options->ingest_threads, "a number of threads", 1, 256,
                "threads that read events [2]");
  AddTimeFlag(serve, "--probe-interval", options->probe_interval,
              "silence after which a publisher is asked [5s]");
  AddTimeFlag(serve, "--replay-timeout", options->replay_timeout,
              "silence that ends a replay [5s]");
  AddNumberFlag(serve, "--http-max-connections", options->http_max_connections,
                "a number of connections", 1, 65536, "most connections; beyond: 503 [1024]");
  AddFlag(serve, "--http-max-body", options->http_max_body_bytes, ParseSize, "SIZE",
          "largest request; beyond: 413 [16m]");
  AddFlag(serve, "--http-max-inflight", options->http_max_inflight_bytes, ParseSize, "SIZE",
          "all requests under way; beyond: 503 [512m]");
  serve.final_callback([options, &run] { run = [options] { return serve::RunServe(*options); }; });
}

}  // namespace conductor::cmd
