// `conductor snapshot export`.

#include "daemon/toolkit/console.h"
#include "daemon/toolkit/snapshot_commands.h"
#include "daemon/toolkit/snapshot_content.h"
#include "daemon/toolkit/snapshot_export.h"
#include "lib/store/snapshot_reader.h"

namespace conductor::toolkit {

int RunSnapshotExport(const SnapshotExportOptions& options) {
  Output output;
  auto reader = store::SnapshotReader::Open(options.file);
  if (!reader) return Complain(kExitFailed, reader.error());
  const auto content = SnapshotContent::Read(*reader);
  if (!content) return Complain(kExitFailed, content.error());
  const auto print = [&output](std::string_view line) { return output.Print(line); };
  if (options.rfc1527) {
    ExportStandardEvents(*content, options.instances, print);
  } else {
    ExportRuns(*content, options.instances, print);
  }
  return output.End(kExitDone);
}

}  // namespace conductor::toolkit
