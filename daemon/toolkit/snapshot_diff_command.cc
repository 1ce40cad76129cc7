// `conductor snapshot diff`.

#include <unistd.h>

#include <utility>

#include "daemon/toolkit/console.h"
#include "daemon/toolkit/snapshot_commands.h"
#include "daemon/toolkit/snapshot_content.h"
#include "daemon/toolkit/snapshot_daemon.h"
#include "daemon/toolkit/snapshot_diff.h"
#include "lib/store/snapshot_reader.h"

namespace conductor::toolkit {
namespace {

bool IsUrl(const std::string& source) { return source.find("://") != std::string::npos; }

Result<SnapshotContent> ReadSource(const std::string& source, const SnapshotDiffOptions& options) {
  const auto open = [&]() -> Result<store::SnapshotReader> {
    if (!IsUrl(source)) return store::SnapshotReader::Open(source);
    ConductorSourceOptions conductors = options.conductors;
    conductors.urls = {source};
    return SaveAndOpen(conductors);
  };
  auto reader = open();
  if (!reader) return tl::unexpected(std::move(reader.error()));
  return SnapshotContent::Read(*reader);
}

}  // namespace

int RunSnapshotDiff(const SnapshotDiffOptions& options) {
  Output output;
  const auto a = ReadSource(options.a, options);
  if (!a) return Complain(kExitFailed, a.error());
  const auto b = ReadSource(options.b, options);
  if (!b) return Complain(kExitFailed, b.error());
  if (a->info().hash_seed != b->info().hash_seed) {
    return Complain(kExitFailed,
                    {"its blocks are hashed with another seed than those of " + options.a,
                     options.b, "two snapshots of one --hash-seed"});
  }
  SnapshotDiff diff = CompareSnapshots(*a, *b, options.most);
  diff.name_a = options.a;
  diff.name_b = options.b;
  output.Print(options.json ? DiffJson(diff, options.most)
                            : DiffText(diff, options.most, TerminalOf(STDOUT_FILENO)));
  return output.End(diff.same() ? kExitDone : kExitFailed);
}

}  // namespace conductor::toolkit
