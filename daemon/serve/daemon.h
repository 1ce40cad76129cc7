#ifndef CONDUCTOR_DAEMON_SERVE_DAEMON_H_
#define CONDUCTOR_DAEMON_SERVE_DAEMON_H_

#include <cstdint>
#include <optional>
#include <string>

#include "daemon/serve/settings.h"

namespace conductor::serve {

// `conductor serve` as its flags say it. What a flag leaves open the environment decides
// (CONDUCTOR_CONFIG_PATH, CONDUCTOR_LOG_LEVEL), then the configuration file, then the default.
struct ServeOptions {
  std::optional<std::string> config_path;
  std::optional<std::string> host;            // 127.0.0.1
  std::optional<uint16_t> port;               // 13333; 0: a free one
  std::optional<std::string> query_endpoint;  // none; as CheckQueryAddress() wants it
  std::optional<std::string> log_level;
  bool strict = false;  // a broken entry of the configuration file is fatal
  bool demo = false;    // a simulated fleet beside the daemon, and no configuration file
  uint64_t demo_seed = 1;
  GivenSettings settings;  // limits and times
};

// Runs until SIGTERM or SIGINT. Prints "conductor: listening on http://HOST:PORT" (https with TLS)
// to stdout once requests are answered. The process's exit code: 0 ended by a signal, 1 could not
// start (what and where on stderr), 2 an option or environment variable that cannot be read.
[[nodiscard]] int RunServe(const ServeOptions& options);

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_DAEMON_H_
