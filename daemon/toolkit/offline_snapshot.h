#ifndef CONDUCTOR_DAEMON_TOOLKIT_OFFLINE_SNAPSHOT_H_
#define CONDUCTOR_DAEMON_TOOLKIT_OFFLINE_SNAPSHOT_H_

#include <memory>
#include <string>
#include <vector>

#include "daemon/serve/registry.h"
#include "daemon/toolkit/offline_conductor.h"
#include "lib/base/result.h"
#include "lib/store/saved_publisher.h"

namespace conductor::toolkit {

// A conductor in this process that has what a snapshot has, as a daemon that has just loaded it:
// all of it is `stale`, and nobody is asked for more.
struct OfflineSnapshot {
  std::unique_ptr<OfflineConductor> conductor;
  store::SnapshotInfo info;
  serve::Registry::Restored restored;

  // What is to be said to people who ask it: when it was saved, that it is stale, what was left
  // out. A sentence each.
  [[nodiscard]] std::vector<std::string> Notes() const;
};

// Errors: the file is no snapshot, or of a newer format, or damaged.
[[nodiscard]] Result<OfflineSnapshot> OpenOfflineSnapshot(const std::string& path);

// "2026-11-26 07:08:15 UTC".
[[nodiscard]] std::string UtcText(double unix_seconds);

}  // namespace conductor::toolkit

#endif  // CONDUCTOR_DAEMON_TOOLKIT_OFFLINE_SNAPSHOT_H_
