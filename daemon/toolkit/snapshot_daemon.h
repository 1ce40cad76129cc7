#ifndef CONDUCTOR_DAEMON_TOOLKIT_SNAPSHOT_DAEMON_H_
#define CONDUCTOR_DAEMON_TOOLKIT_SNAPSHOT_DAEMON_H_

#include <cstdint>
#include <string>
#include <tl/expected.hpp>

#include "daemon/toolkit/score_source.h"
#include "lib/base/result.h"
#include "lib/store/snapshot_reader.h"

namespace conductor::toolkit {

// What a daemon said it has saved.
struct DaemonSave {
  std::string conductor;  // its URL
  std::string path;       // on its machine, in its file system
  uint64_t bytes = 0;
  uint64_t blocks = 0;
  uint64_t holdings = 0;
  uint64_t publishers = 0;
  double saved_at = 0;  // Unix seconds
  std::string digest;   // of what is in it, 16 hexadecimal digits
  double seconds = 0;
};

// Has the first of the daemons that answers save its snapshot (POST /v1/snapshot). An error says
// why it did not, and what would help.
[[nodiscard]] Result<DaemonSave> AskToSave(const ConductorSourceOptions& options);

struct NotSaved : Error {
  // A snapshot of the same name that is newer: the daemon has saved again, as it seems.
  bool since = false;
};

// What is at `path` is what the daemon said it has saved: not another file of the same name on
// another machine, nor one that it has saved since. Errors say what it is otherwise.
[[nodiscard]] tl::expected<store::SnapshotReader, NotSaved> OpenSaved(const DaemonSave& saved,
                                                                      const std::string& path);

// A daemon that saves all the time may have saved again before its file is opened; then it is asked
// so often. After any other error it is not: each time it saves all that it has.
inline constexpr int kSaveAttempts = 3;

// Has a daemon save, and opens that; again when another save came between the two.
[[nodiscard]] Result<store::SnapshotReader> SaveAndOpen(const ConductorSourceOptions& options);

}  // namespace conductor::toolkit

#endif  // CONDUCTOR_DAEMON_TOOLKIT_SNAPSHOT_DAEMON_H_
