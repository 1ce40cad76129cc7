#ifndef CONDUCTOR_DAEMON_TOOLKIT_SNAPSHOT_DAEMON_H_
#define CONDUCTOR_DAEMON_TOOLKIT_SNAPSHOT_DAEMON_H_

#include <cstdint>
#include <string>

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
  double seconds = 0;
};

// Has the first of the daemons that answers save its snapshot (POST /v1/snapshot). An error says
// why it did not, and what would help.
[[nodiscard]] Result<DaemonSave> AskToSave(const ConductorSourceOptions& options);

// Opens what it saved, where that can be read from here and is still what it said. Errors say where
// it is otherwise.
[[nodiscard]] Result<store::SnapshotReader> OpenSaved(const DaemonSave& saved);

}  // namespace conductor::toolkit

#endif  // CONDUCTOR_DAEMON_TOOLKIT_SNAPSHOT_DAEMON_H_
