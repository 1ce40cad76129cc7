#ifndef CONDUCTOR_DAEMON_TOOLKIT_TAP_H_
#define CONDUCTOR_DAEMON_TOOLKIT_TAP_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "daemon/toolkit/tap_filter.h"
#include "lib/base/clock.h"
#include "lib/base/result.h"
#include "lib/trace/recording_format.h"
#include "lib/wire/dialect.h"

namespace conductor::toolkit {

// `conductor tap`: what publishers of KV events say, as it comes.
struct TapOptions {
  // Endpoints of publishers, or recordings; with `conductor` none.
  std::vector<std::string> sources;
  bool bind = false;            // the publishers connect to them
  std::string topic;            // subscription prefix
  std::string replay_endpoint;  // of the one endpoint
  std::optional<uint64_t>
      from;                // ask it from that sequence; of a recording, leave out those before
  std::string conductor;   // URL of a daemon
  std::string token_file;  // with a token for it; empty: none
  std::string ca_file;

  std::optional<wire::Dialect> type;  // nothing: as a recording says, otherwise vLLM
  std::vector<std::string> facts;     // NAME=VALUE: what else a recording is to say of them

  bool json = false;
  bool raw = false;
  bool stats = false;
  bool quiet = false;
  TapFilter filter;
  uint64_t count = 0;                // lines, then it ends; 0: no limit
  std::optional<Duration> duration;  // then it ends
  std::optional<Duration>
      interval;  // of views of `stats`; nothing: 1 s on a terminal, otherwise 10 s

  std::string record;        // a file
  uint64_t rotate_size = 0;  // bytes; 0: never
};

// What cannot be together, and endpoints that can never work.
[[nodiscard]] Status CheckTap(const TapOptions& options);

// Runs until a signal, or what the options say; the process's exit code. Requires CheckTap().
[[nodiscard]] int RunTap(const TapOptions& options);

// On standard error, as all that is no result: "conductor tap: TEXT", which may hold what came from
// the network.
void TapNote(const std::string& text);

using trace::UnixNanos;  // as lines have it too

}  // namespace conductor::toolkit

#endif  // CONDUCTOR_DAEMON_TOOLKIT_TAP_H_
