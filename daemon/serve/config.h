#ifndef CONDUCTOR_DAEMON_SERVE_CONFIG_H_
#define CONDUCTOR_DAEMON_SERVE_CONFIG_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/serve/registration.h"
#include "daemon/serve/settings.h"
#include "lib/base/result.h"

namespace conductor::serve {

// What a configuration file says; conductor.json(5) describes it. The files of every generation
// of the Mooncake Conductor load as they are.
struct Config {
  std::optional<uint16_t> http_server_port;
  std::optional<std::string> host;
  std::optional<std::string> query_endpoint;
  GivenSettings settings;
  std::vector<Registration> publishers;  // in the file's order, ranks of one entry one by one
  // Entries that could not be used and keys that appear twice, each with the file and its JSON path
  // ("conductor.json: kvevent_instance.vllm-1.port"). At most a few hundred; the last tells how
  // many more there are.
  std::vector<Error> problems;
  // Things that were understood and are worth a line: unknown keys, fields without meaning here.
  // One for all entries of which the same is to be said.
  std::vector<std::string> notes;
};

// Reads the text of a configuration file. An error only when it is no JSON object or a top-level
// field has the wrong type; a bad publisher entry is a problem, and the others stand.
// `name` stands for the file in messages.
[[nodiscard]] Result<Config> ParseConfig(std::string_view json, std::string_view name);

// ParseConfig over a file's content. A file that is missing or cannot be read is an error.
[[nodiscard]] Result<Config> LoadConfig(const std::string& path);

// $HOME/.mooncake/conductor_config.json, or without HOME the same below the working directory.
[[nodiscard]] std::string DefaultConfigPath();

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_CONFIG_H_
