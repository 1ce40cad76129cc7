// `conductor snapshot save`.

#include <fmt/format.h>
#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <system_error>
#include <utility>

#include "daemon/serve/snapshots.h"
#include "daemon/toolkit/console.h"
#include "daemon/toolkit/frame_order.h"
#include "daemon/toolkit/json_text.h"
#include "daemon/toolkit/new_file.h"
#include "daemon/toolkit/offline_conductor.h"
#include "daemon/toolkit/offline_snapshot.h"
#include "daemon/toolkit/replay_engine_source.h"
#include "daemon/toolkit/replay_snapshot.h"
#include "daemon/toolkit/snapshot_commands.h"
#include "daemon/toolkit/snapshot_daemon.h"
#include "daemon/toolkit/table.h"
#include "lib/base/log.h"
#include "lib/base/number.h"
#include "lib/store/snapshot_reader.h"
#include "lib/store/state_file.h"

namespace conductor::toolkit {
namespace {

// What is told of a save.
struct Saved {
  store::SnapshotInfo info;
  std::string source;       // "http://127.0.0.1:13333", or the recordings
  std::string daemon_path;  // empty: no daemon saved it
};

NewFile::Over OverOf(const SnapshotSaveOptions& options) {
  return options.force ? NewFile::Over::kAnyFile : NewFile::Over::kSnapshot;
}

Result<Saved> SaveOffline(const SnapshotSaveOptions& options) {
  auto file = NewFile::Begin(options.file, OverOf(options));
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

// All that an engine has to tell, and what it comes to.
Result<Saved> SaveFromEngine(const SnapshotSaveOptions& options) {
  EngineSource::Options engine{.endpoint = options.replay_endpoint};
  engine.timeout = options.conductors.time_limit;
  engine.as.type = options.taken_for.type;
  if (!options.taken_for.model.empty()) engine.as.model = options.taken_for.model;
  if (!options.taken_for.tenant.empty()) engine.as.tenant = options.taken_for.tenant;
  if (!options.instance.empty()) engine.as.instance = options.instance;
  auto source = EngineSource::Open(engine);
  if (!source) return tl::unexpected(std::move(source.error()));
  auto sink = SnapshotSink::Open(options.file, (*source)->publishers(), OverOf(options));
  if (!sink) return tl::unexpected(std::move(sink.error()));
  FrameOrder order((*source)->publishers());
  Status taken;
  const FrameOrder::Out out = [&](const SourceFrame& frame) {
    if (taken) taken = (*sink)->Take(frame);
  };
  for (SourceFrame frame; taken;) {
    const auto more = (*source)->Next(frame);
    if (!more) return tl::unexpected(more.error());
    if (!*more) break;
    order.Push(std::move(frame), out);
  }
  order.Flush(out);
  for (const std::string& note : (*source)->Notes())
    fmt::print(stderr, "conductor: {}\n", Printable(note));
  if (taken) taken = (*sink)->Finish();
  if (!taken) return tl::unexpected(std::move(taken.error()));
  return Saved{.info = *(*sink)->info(), .source = options.replay_endpoint, .daemon_path = {}};
}

// Copies what the daemon said it has saved to `file`, if it is what is there still.
tl::expected<Saved, NotSaved> CopySaved(const DaemonSave& told, const std::string& path,
                                        NewFile& file, Saved saved) {
  const auto failed = [](Error error) { return tl::unexpected(NotSaved{std::move(error), false}); };
  if (auto copied = CopyFile(told.path, file.temporary()); !copied) {
    return failed(std::move(copied.error()));
  }
  {
    const auto copy = OpenSaved(told, file.temporary());
    if (!copy) return tl::unexpected(copy.error());
    saved.info = copy->info();
  }
  if (auto done = file.Commit(); !done) return failed(std::move(done.error()));
  saved.info.path = path;
  return saved;
}

Result<Saved> SaveFromDaemon(const SnapshotSaveOptions& options) {
  // What cannot be written is told before the daemon saves all that it has. A file that is locked
  // may be its own, though, where there is nothing to be written.
  std::optional<Result<NewFile>> file;
  if (!options.file.empty()) {
    file.emplace(NewFile::Begin(options.file, OverOf(options)));
    const std::string name = store::ResolveLinks(options.file).value_or(options.file);
    std::error_code not_there;
    if (!*file && !std::filesystem::exists(name + ".lock", not_there)) {
      return tl::unexpected(std::move(file->error()));
    }
  }
  for (int attempt = 1;; ++attempt) {
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
    if (!file) return saved;
    const auto copy = [&]() -> tl::expected<Saved, NotSaved> {
      if (auto there = OpenSaved(*told, told->path); !there) {
        return tl::unexpected(std::move(there.error()));
      }
      std::error_code not_there;
      if (std::filesystem::equivalent(options.file, told->path, not_there)) return saved;
      if (!*file) return tl::unexpected(NotSaved{file->error(), false});
      std::filesystem::remove((*file)->temporary(), not_there);  // of the attempt before
      return CopySaved(*told, options.file, **file, std::move(saved));
    };
    auto copied = copy();
    if (copied) return *std::move(copied);
    if (!copied.error().since || attempt == kSaveAttempts) {
      return tl::unexpected<Error>(std::move(copied.error()));
    }
  }
}

std::string Text(const Saved& saved) {
  std::string text =
      fmt::format("{}: {}, {} of {}, {}, {}\n", Printable(saved.info.path),
                  Counted(saved.info.publishers, "publisher"),
                  Counted(saved.info.holdings, "holding"), Counted(saved.info.blocks, "block"),
                  Counted(saved.info.bytes, "byte"), UtcText(saved.info.saved_at));
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
  const bool from_engine = !options.replay_endpoint.empty();
  const bool offline = from_engine || !options.recordings.empty();
  if ((offline && !options.conductors.urls.empty()) ||
      (from_engine && !options.recordings.empty())) {
    return Complain(kExitUsage,
                    {"one of them is saved", "--conductor, --recording, --replay-endpoint", {}});
  }
  if (from_engine && options.taken_for.model.empty()) {
    return Complain(kExitUsage, {"an engine does not say its model", "--model", "NAME"});
  }
  if (!options.instance.empty() && !from_engine) {
    return Complain(kExitUsage,
                    {"means nothing here", "--instance", "it beside --replay-endpoint"});
  }
  if (offline && options.file.empty()) {
    return Complain(kExitUsage, {"there is no file to write", "FILE", "its name"});
  }
  if (options.conductors.urls.empty()) options.conductors.urls = {kDefaultConductor};
  const auto saved = from_engine ? SaveFromEngine(options)
                     : offline   ? SaveOffline(options)
                                 : SaveFromDaemon(options);
  if (!saved) return Complain(kExitFailed, saved.error());
  output.Print(options.json ? JsonOf(*saved) : Text(*saved));
  return output.End(kExitDone);
}

}  // namespace conductor::toolkit
