// `conductor snapshot verify`.

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <system_error>
#include <utility>

#include "daemon/serve/snapshots.h"
#include "daemon/toolkit/console.h"
#include "daemon/toolkit/json_text.h"
#include "daemon/toolkit/new_file.h"
#include "daemon/toolkit/offline_conductor.h"
#include "daemon/toolkit/snapshot_commands.h"
#include "daemon/toolkit/snapshot_diff.h"
#include "daemon/toolkit/snapshot_verify.h"
#include "daemon/toolkit/terminal.h"
#include "lib/base/log.h"
#include "lib/base/number.h"

namespace conductor::toolkit {
namespace {

using Json = nlohmann::ordered_json;

// A directory of its own beneath that for temporary files, which goes with what is in it.
class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::error_code ignored;
    path_ = std::filesystem::temp_directory_path(ignored).string() + "/conductor-XXXXXX";
    if (::mkdtemp(path_.data()) == nullptr) {
      why_not_ = Error{fmt::format("cannot be made: {}", std::strerror(errno)), path_,
                       "a directory for temporary files, as TMPDIR names it"};
    }
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  ~TemporaryDirectory() {
    std::error_code ignored;
    if (!why_not_) std::filesystem::remove_all(path_, ignored);
  }
  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] const std::optional<Error>& why_not() const { return why_not_; }

 private:
  std::string path_;
  std::optional<Error> why_not_;
};

Result<SnapshotContent> ReadFile(const std::string& path) {
  auto reader = store::SnapshotReader::Open(path);
  if (!reader) return tl::unexpected(std::move(reader.error()));
  return SnapshotContent::Read(*reader);
}

// What the recordings come to at the cursors of the snapshot, by way of a file that is there no
// longer than that.
Result<SnapshotContent> Rebuild(const SnapshotContent& snapshot,
                                const SnapshotVerifyOptions& options) {
  TakenFor taken_for = options.taken_for;
  for (const store::SavedPublisher& publisher : snapshot.publishers()) {
    if (publisher.resume) taken_for.until[publisher.key] = publisher.resume->cursor;
  }
  OfflineConductor::Options conductor_options;
  conductor_options.registry.index.hash_seed = snapshot.info().hash_seed;
  OfflineConductor conductor(conductor_options);
  const auto loaded = LoadRecordings(conductor, options.against, taken_for);
  if (!loaded) return tl::unexpected(Error(loaded.error()).Within("--against"));
  for (const std::string& note : loaded->notes) Warn(note);
  const TemporaryDirectory directory;
  if (directory.why_not()) return tl::unexpected(*directory.why_not());
  auto file = NewFile::Begin(directory.path() + "/rebuild.db", NewFile::Over::kSnapshot);
  if (!file) return tl::unexpected(std::move(file.error()));
  if (auto saved = serve::SaveRegistry(conductor.registry(), file->temporary()); !saved) {
    return tl::unexpected(std::move(saved.error()));
  }
  return ReadFile(file->temporary());
}

std::string Text(const std::vector<SnapshotCheck>& checks, const Terminal& terminal) {
  std::string text;
  for (const SnapshotCheck& check : checks) {
    text += fmt::format("{}  {:<8}  {}\n",
                        check.sound ? terminal.Paint(Colour::kGreen, "ok    ")
                                    : terminal.Paint(Colour::kRed, "FAILED"),
                        check.name, Printable(check.detail));
  }
  return text;
}

std::string JsonOf(const std::string& path, const std::vector<SnapshotCheck>& checks,
                   const std::optional<std::string>& diff, bool sound) {
  Json all = Json::array();
  for (const SnapshotCheck& check : checks) {
    all.push_back({{"name", check.name}, {"sound", check.sound}, {"detail", check.detail}});
  }
  return DumpJson({{"path", path},
                   {"sound", sound},
                   {"checks", std::move(all)},
                   {"against", diff ? Json::parse(*diff) : Json(nullptr)}}) +
         "\n";
}

}  // namespace

int RunSnapshotVerify(const SnapshotVerifyOptions& options) {
  Output output;
  log::SetLevel(log::Level::kError);
  const Terminal terminal = TerminalOf(STDOUT_FILENO);
  std::vector<SnapshotCheck> checks = CheckSnapshot(options.file);
  bool sound = std::ranges::all_of(checks, &SnapshotCheck::sound);
  std::optional<SnapshotDiff> diff;
  if (sound && !options.against.empty()) {
    const auto content = ReadFile(options.file);
    if (!content) return Complain(kExitFailed, content.error());
    const auto rebuilt = Rebuild(*content, options);
    if (!rebuilt) return Complain(kExitFailed, rebuilt.error());
    diff = CompareSnapshots(*content, *rebuilt, options.most);
    diff->name_a = options.file;
    diff->name_b = "the rebuild";
    const uint64_t differing = diff->total().differing();
    checks.push_back({"rebuild", diff->same(),
                      diff->same()
                          ? "a rebuild comes to the same"
                          : fmt::format("{} {} from a rebuild", Counted(differing, "block"),
                                        differing == 1 ? "differs" : "differ")});
    sound = diff->same();
  }
  if (options.json) {
    output.Print(JsonOf(options.file, checks,
                        diff ? std::optional(DiffJson(*diff, options.most)) : std::nullopt, sound));
  } else {
    output.Print(Text(checks, terminal));
    if (diff && !diff->same()) output.Print("\n" + DiffText(*diff, options.most, terminal));
  }
  return output.End(sound ? kExitDone : kExitFailed);
}

}  // namespace conductor::toolkit
