#ifndef CONDUCTOR_DAEMON_TOOLKIT_SNAPSHOT_VERIFY_H_
#define CONDUCTOR_DAEMON_TOOLKIT_SNAPSHOT_VERIFY_H_

#include <functional>
#include <string>
#include <vector>

#include "daemon/toolkit/snapshot_content.h"

namespace conductor::toolkit {

// One thing that is asked of a snapshot, and what came of it.
struct SnapshotCheck {
  std::string name;
  bool sound = false;
  std::string detail;  // what was found: a figure, or what is wrong
};

// All that can be checked of a file by itself, in this order; what follows a failure that leaves
// nothing to look at is left out.
//   file        is a snapshot of a format that is known
//   database    integrity_check, foreign_key_check, every row, the digest
//   chains      a block has the same parent and position wherever it stands
//   counts      the views come to what the tables say
[[nodiscard]] std::vector<SnapshotCheck> CheckSnapshot(const std::string& path);

// Whether every block follows the same block, at the same position, in all runs that have it.
// Blocks are hashes of all that is before them: another parent would be another hash. 24 bytes a
// block, for the time of the check.
[[nodiscard]] SnapshotCheck CheckChains(const SnapshotContent& content);

}  // namespace conductor::toolkit

#endif  // CONDUCTOR_DAEMON_TOOLKIT_SNAPSHOT_VERIFY_H_
