#ifndef CONDUCTOR_DAEMON_TOOLKIT_SNAPSHOT_COMMANDS_H_
#define CONDUCTOR_DAEMON_TOOLKIT_SNAPSHOT_COMMANDS_H_

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "daemon/serve/registration.h"
#include "daemon/toolkit/offline_recording.h"
#include "daemon/toolkit/score.h"
#include "daemon/toolkit/score_source.h"

namespace conductor::toolkit {

// The subcommands of `conductor snapshot`; conductor-snapshot(1) describes each flag. Each prints
// what comes of it and gives the process's exit code: 0 done, 1 failed, different or not sound, 2
// where the flags do not fit one another.

// A daemon saves, or recordings or what an engine's ring has are made into a snapshot.
struct SnapshotSaveOptions {
  std::string file;    // empty: none but the daemon's own
  bool force = false;  // what is there may be anything, and is lost
  ConductorSourceOptions conductors;
  std::vector<std::string> recordings;
  std::string replay_endpoint;  // of an engine; empty: none
  TakenFor taken_for;
  std::string instance;  // that the engine there is; empty: its endpoint
  bool json = false;
};
[[nodiscard]] int RunSnapshotSave(SnapshotSaveOptions options);

struct SnapshotInfoOptions {
  std::string file;
  bool json = false;
};
[[nodiscard]] int RunSnapshotInfo(const SnapshotInfoOptions& options);

struct SnapshotVerifyOptions {
  std::string file;
  std::vector<std::string> against;  // recordings; none: by itself
  TakenFor taken_for;
  size_t most = 10;  // differing blocks and prefixes that are listed
  bool json = false;
};
[[nodiscard]] int RunSnapshotVerify(const SnapshotVerifyOptions& options);

// Of `options` what is asked and how it is printed counts, with `snapshot` set.
[[nodiscard]] int RunSnapshotQuery(ScoreOptions options);

struct SnapshotDiffOptions {
  std::string a;  // a file, or the URL of a daemon, which then saves one
  std::string b;
  ConductorSourceOptions conductors;  // but the URLs
  size_t most = 10;                   // differing blocks and prefixes that are listed
  bool json = false;
};
[[nodiscard]] int RunSnapshotDiff(const SnapshotDiffOptions& options);

struct SnapshotExportOptions {
  std::string file;
  std::vector<std::string> instances;  // none: all
  bool rfc1527 = false;
};
[[nodiscard]] int RunSnapshotExport(const SnapshotExportOptions& options);

struct SnapshotLoadOptions {
  std::string file;
  ConductorSourceOptions conductors;   // one URL, of HTTP
  std::vector<std::string> instances;  // none: all
  std::string prefix;                  // before the name of each instance
  bool json = false;
};
[[nodiscard]] int RunSnapshotLoad(const SnapshotLoadOptions& options);

}  // namespace conductor::toolkit

#endif  // CONDUCTOR_DAEMON_TOOLKIT_SNAPSHOT_COMMANDS_H_
