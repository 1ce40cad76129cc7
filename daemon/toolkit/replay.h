#ifndef CONDUCTOR_DAEMON_TOOLKIT_REPLAY_H_
#define CONDUCTOR_DAEMON_TOOLKIT_REPLAY_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "daemon/toolkit/redialect.h"
#include "daemon/toolkit/replay_source.h"
#include "lib/base/clock.h"
#include "lib/base/result.h"

namespace conductor::toolkit {

// What the command line says.
struct ReplayOptions {
  // Recordings (one or several), a workload trace, or one engine's replay endpoint (tcp://,
  // ipc://).
  std::vector<std::string> sources;
  std::optional<std::string> publisher;  // only that one: its number, or name; "all": merged

  ReadAs as;
  // Of a replay endpoint:
  uint64_t from_sequence = 0;
  Duration timeout = std::chrono::seconds(5);  // of an answer, and of --into
  uint64_t max_bytes = uint64_t{1} << 30;
  // Of a trace:
  uint32_t capacity = 16384;  // blocks
  bool strict = false;        // a line that cannot be read is fatal

  // Sinks, any of them; the summary is always made.
  std::string publish;  // an endpoint to bind; empty: none
  std::string replay_endpoint;
  std::optional<PublishDialect> dialect;
  std::optional<double>
      speed;  // of the source's time; 0: as fast as it goes; nothing: 1 to publish
  bool renumber = false;
  bool wait_subscriber = false;
  uint32_t ring = 10000;  // batches
  Duration stay{};
  std::string record;  // a file; empty: none
  uint64_t rotate_bytes = 0;
  std::string snapshot;  // a file; empty: none
  std::string into;      // a URL; empty: none
  std::string token_file;
  std::string ca_file;
  bool check = false;

  bool json = false;
};

// "1", "10", "0.5", "max" (which is 0).
[[nodiscard]] Result<double> ParseSpeed(std::string_view text);

// What flags ask of each other: sources that do not go together, flags without what they are for.
[[nodiscard]] Status CheckReplay(const ReplayOptions& options);

// Runs until the source's end or a signal; the process's exit code: 1 where the source or a sink
// failed, or --check found a difference. Results are on standard output, the rest on standard
// error. Requires CheckReplay().
[[nodiscard]] int RunReplay(const ReplayOptions& options);

}  // namespace conductor::toolkit

#endif  // CONDUCTOR_DAEMON_TOOLKIT_REPLAY_H_
