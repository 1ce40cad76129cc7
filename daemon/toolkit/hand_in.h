#ifndef CONDUCTOR_DAEMON_TOOLKIT_HAND_IN_H_
#define CONDUCTOR_DAEMON_TOOLKIT_HAND_IN_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include "daemon/toolkit/ingest_answer.h"
#include "lib/base/clock.h"
#include "lib/base/result.h"
#include "lib/client/transport.h"

namespace conductor::toolkit {

struct HandInOptions {
  std::string url;                              // the daemon's, for errors
  Duration limit = std::chrono::seconds(40);    // for one answer, which may wait for 30
  Duration patience = std::chrono::minutes(1);  // with a queue that stays full
  std::function<void(Duration)> pause;          // nothing: sleeps
  std::function<bool()> stopped;                // asked in each pause; nothing: never
};

// What came of handing in.
struct HandedIn {
  uint64_t taken = 0;   // frames, those before an error among them
  uint64_t waits = 0;   // for a full queue
  IngestAnswer answer;  // the last
};

// Hands `count` frames of one publisher in by POST /v1/ingest, each exactly once and in order:
// where the daemon's queue is full (429), waits and goes on after what was taken. `body(from)` is
// the request, in MessagePack, with the frames from that position on. What comes of it is added to
// `handed`, also where it ends in an error: of the connection, a status, a queue that stays full.
[[nodiscard]] Status HandIn(client::Transport& transport, size_t count,
                            const std::function<std::string(size_t)>& body,
                            const HandInOptions& options, HandedIn& handed);

}  // namespace conductor::toolkit

#endif  // CONDUCTOR_DAEMON_TOOLKIT_HAND_IN_H_
