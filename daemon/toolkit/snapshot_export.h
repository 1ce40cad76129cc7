#ifndef CONDUCTOR_DAEMON_TOOLKIT_SNAPSHOT_EXPORT_H_
#define CONDUCTOR_DAEMON_TOOLKIT_SNAPSHOT_EXPORT_H_

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/toolkit/snapshot_content.h"

namespace conductor::toolkit {

// Takes whole lines; false: no more are wanted.
using TakeLine = std::function<bool(std::string_view line)>;

// JSON lines, one for each stretch of blocks that a holder holds on a tier without a gap, at most
// 64 of them; then one for each object of a pool and tier. docs/snapshot.md has the members. Of
// `instances` alone, where there are any.
void ExportRuns(const SnapshotContent& content, const std::vector<std::string>& instances,
                const TakeLine& take);

// The same as events of RFC 1527 (VisitStandardEvents), holder by holder, then objects.
void ExportStandardEvents(const SnapshotContent& content, const std::vector<std::string>& instances,
                          const TakeLine& take);

}  // namespace conductor::toolkit

#endif  // CONDUCTOR_DAEMON_TOOLKIT_SNAPSHOT_EXPORT_H_
