// `conductor snapshot save`.

#include <fmt/format.h>
#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <utility>

#include "daemon/serve/snapshots.h"
#include "daemon/toolkit/console.h"
#include "daemon/toolkit/json_text.h"
#include "daemon/toolkit/new_file.h"
#include "daemon/toolkit/offline_conductor.h"
#include "daemon/toolkit/offline_snapshot.h"
#include "daemon/toolkit/snapshot_commands.h"
#include "daemon/toolkit/snapshot_daemon.h"
#include "daemon/toolkit/table.h"
#include "lib/base/log.h"
#include "lib/store/snapshot_reader.h"

namespace conductor::toolkit {
namespace {

// What is told of a save.
struct Saved {
  store::SnapshotInfo info;
  std::string source;       // "http://127.0.0.1:13333", or the recordings
  std::string daemon_path;  // empty: no daemon saved it
};

Result<Saved> SaveOffline(const SnapshotSaveOptions& options) {
  auto file = NewFile::Begin(options.file);
  if (!file) return tl::unexpected(std::move(file.error()));
  OfflineConductor conductor;
  const auto loaded = LoadRecordings(conductor, options.recordings, options.taken_for);
  if (!loaded) return tl::unexpected(Error(loaded.error()).Within("--recording"));
  for (const std::string& note : loaded->notes) Warn(note);
  auto report = serve::SaveRegistry(conductor.registry(), file->temporary());
  if (!report) return tl::unexpected(std::move(report.error()));
  if (auto done = file->Commit(); !done) return tl::unexpected(std::move(done.error()));
  report->info.path = options.file;
  Saved saved{.info = std::move(report->info), .source = {}, .daemon_path = {}};
  for (const std::string& path : options.recordings) {
    saved.source += (saved.source.empty() ? "" : ", ") + path;
  }
  return saved;
}

Result<Saved> SaveFromDaemon(const SnapshotSaveOptions& options) {
  const auto told = AskToSave(options.conductors);
  if (!told) return tl::unexpected(told.error());
  Saved saved{.info = {.path = told->path,
                       .bytes = told->bytes,
                       .format = 0,
                       .conductor = {},
                       .saved_at = told->saved_at,
                       .blocks = told->blocks,
                       .publishers = told->publishers,
                       .holdings = told->holdings},
              .source = told->conductor,
              .daemon_path = told->path};
  std::error_code not_there;
  if (options.file.empty() || std::filesystem::equivalent(options.file, told->path, not_there)) {
    return saved;
  }
  if (auto readable = OpenSaved(*told); !readable) return tl::unexpected(readable.error());
  auto file = NewFile::Begin(options.file);
  if (!file) return tl::unexpected(std::move(file.error()));
  if (auto copied = CopyFile(told->path, file->temporary()); !copied) {
    return tl::unexpected(std::move(copied.error()));
  }
  {
    // It may have been saved again since.
    const auto copy = store::SnapshotReader::Open(file->temporary());
    if (!copy) return tl::unexpected(copy.error());
    saved.info = copy->info();
  }
  if (auto done = file->Commit(); !done) return tl::unexpected(std::move(done.error()));
  saved.info.path = options.file;
  return saved;
}

std::string Text(const Saved& saved) {
  std::string text = fmt::format("{}: {} publishers, {} holdings of {} blocks, {} bytes, {}\n",
                                 Printable(saved.info.path), Grouped(saved.info.publishers),
                                 Grouped(saved.info.holdings), Grouped(saved.info.blocks),
                                 Grouped(saved.info.bytes), UtcText(saved.info.saved_at));
  if (!saved.daemon_path.empty() && saved.daemon_path != saved.info.path) {
    text += fmt::format("copied from {}, where {} keeps it\n", Printable(saved.daemon_path),
                        Printable(saved.source));
  } else if (!saved.daemon_path.empty()) {
    text += fmt::format("on the machine of {}, which keeps it there\n", Printable(saved.source));
  }
  return text;
}

std::string JsonOf(const Saved& saved) {
  using Json = nlohmann::ordered_json;
  return DumpJson(
             {{"path", saved.info.path},
              {"source", saved.source},
              {"daemon_path", saved.daemon_path.empty() ? Json(nullptr) : Json(saved.daemon_path)},
              {"bytes", saved.info.bytes},
              {"blocks", saved.info.blocks},
              {"holdings", saved.info.holdings},
              {"publishers", saved.info.publishers},
              {"saved_at", saved.info.saved_at}}) +
         "\n";
}

}  // namespace

int RunSnapshotSave(SnapshotSaveOptions options) {
  Output output;
  log::SetLevel(log::Level::kError);
  const bool offline = !options.recordings.empty();
  if (offline && !options.conductors.urls.empty()) {
    return Complain(kExitUsage, {"one of the two is saved", "--conductor and --recording", {}});
  }
  if (offline && options.file.empty()) {
    return Complain(kExitUsage, {"there is no file to write", "FILE", "its name"});
  }
  if (options.conductors.urls.empty()) options.conductors.urls = {kDefaultConductor};
  const auto saved = offline ? SaveOffline(options) : SaveFromDaemon(options);
  if (!saved) return Complain(kExitFailed, saved.error());
  output.Print(options.json ? JsonOf(*saved) : Text(*saved));
  return output.End(kExitDone);
}

}  // namespace conductor::toolkit
