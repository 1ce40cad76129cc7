#include "daemon/serve/snapshots.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bit>
#include <filesystem>
#include <utility>

#include "lib/base/log.h"
#include "lib/store/snapshot_reader.h"
#include "lib/store/snapshot_writer.h"

namespace conductor::serve {
namespace {

double SecondsSince(MonoTime begin) {
  return std::chrono::duration<double>(MonoNow() - begin).count();
}

uint64_t HoldingsOf(const store::SavedPublisher& saved) {
  if (saved.pool) return saved.pool->objects.size();
  uint64_t holdings = 0;
  if (!saved.life) return holdings;
  for (const auto& holding : saved.life->chains.holdings) {
    holdings += static_cast<uint64_t>(std::popcount(holding.blocks));
  }
  return holdings;
}

bool IsThere(const std::string& path) {
  struct stat status {};
  return ::lstat(path.c_str(), &status) == 0;
}

}  // namespace

Result<SaveReport> SaveRegistry(const Registry& registry, const std::string& path,
                                const std::set<std::string>& configured) {
  const MonoTime begin = MonoNow();
  auto writer =
      store::SnapshotWriter::Create(path, {.conductor = CONDUCTOR_VERSION,
                                           .saved_at = UnixNow(),
                                           .hash_seed = registry.index().options().hash_seed,
                                           .vfs = {}});
  if (!writer) return tl::unexpected(writer.error());
  SaveReport report;
  for (const std::string& key : registry.Keys()) {
    auto saved = registry.Copy(key);
    if (!saved) continue;  // it left meanwhile
    saved->configured = configured.contains(key);
    if (auto added = (*writer)->Add(*saved); !added) return tl::unexpected(added.error());
    SaveReport::Publisher& told = report.publishers.emplace_back();
    told.key = key;
    if (saved->resume) told.cursor = saved->resume->cursor;
    told.holdings = HoldingsOf(*saved);
  }
  auto info = (*writer)->Finish();
  if (!info) return tl::unexpected(info.error());
  report.info = *std::move(info);
  report.seconds = SecondsSince(begin);
  return report;
}

Result<std::unique_ptr<Snapshots>> Snapshots::Open(Registry& registry, const Options& options,
                                                   std::vector<Registration> configured,
                                                   bool strict) {
  std::unique_ptr<Snapshots> snapshots(new Snapshots(registry, options));
  for (const Registration& publisher : configured) snapshots->configured_.insert(publisher.Key());
  auto file = store::StateFile::Take(options.file);
  if (file) {
    snapshots->file_ = *std::move(file);
  } else {
    // A disk that went read-only must not keep a daemon from answering; a typing error should.
    std::error_code ignored;
    const std::filesystem::path directory = std::filesystem::path(options.file).parent_path();
    const bool writable = ::access(directory.empty() ? "." : directory.c_str(), W_OK) == 0;
    const bool there = std::filesystem::is_directory(directory.empty() ? "." : directory, ignored);
    if (strict || writable || !there) {
      return tl::unexpected(Error(file.error()).Within("--state"));
    }
    snapshots->why_not_ = file.error().Message();
    log::Warn("--state: {}: NOTHING WILL BE SAVED", snapshots->why_not_);
  }
  if (auto loaded = snapshots->Load(std::move(configured), strict); !loaded) {
    return tl::unexpected(Error(loaded.error()).Within("--state"));
  }
  return snapshots;
}

Status Snapshots::Load(std::vector<Registration> configured, bool strict) {
  const std::string& path = options_.file;
  if (!IsThere(path)) {
    log::Info("no snapshot at {} yet", path);
    return {};
  }
  const MonoTime begin = MonoNow();
  auto reader = store::SnapshotReader::Open(path);
  Result<Registry::Restored> restored =
      reader ? registry_.Restore(*reader, {.configured = std::move(configured)})
             : tl::unexpected(reader.error());
  if (restored) {
    for (const Error& left : restored->left_out) {
      log::Warn("publisher {}: not restored from the snapshot: {}", left.where, left.what);
    }
    const store::SnapshotInfo& info = reader->info();
    stats_.info = info;
    stats_.restored_publishers = restored->publishers;
    stats_.restored_holdings = restored->holdings;
    log::Info(
        "restored {} publishers, {} of them with {} blocks, from {}, saved {:.0f} s ago, in "
        "{:.2f} s: stale until each proves it; {} are left out, with {} blocks",
        restored->publishers, restored->with_blocks, restored->holdings, path,
        UnixNow() - info.saved_at, SecondsSince(begin), registry_.restored().left_out.load(),
        registry_.restored().left_out_holdings.load());
    return {};
  }
  if (strict) return tl::unexpected(restored.error());
  log::Error("the snapshot cannot be used: {}", restored.error().Message());
  const auto aside = store::StateFile::SetAside(path);
  if (aside) {
    log::Error("it is kept as {}; starting without it", *aside);
  } else {
    // The next save must not take the place of what may be the last copy.
    log::Error("{}: NOTHING WILL BE SAVED; starting without it", aside.error().Message());
    why_not_ = aside.error().Message();
    file_.reset();
  }
  return {};
}

Snapshots::~Snapshots() = default;

void Snapshots::Start() {
  if (options_.interval <= Duration::zero()) return;
  timer_ = std::jthread([this](const std::stop_token& stop) {
    std::mutex mutex;
    std::condition_variable_any never;
    std::unique_lock lock(mutex);
    while (!stop.stop_requested()) {
      never.wait_for(lock, stop, options_.interval, [] { return false; });
      if (!stop.stop_requested()) (void)Save();
    }
  });
}

void Snapshots::Stop() {
  if (timer_.joinable()) {
    timer_.request_stop();
    timer_.join();
  }
  (void)Save();
  const std::lock_guard lock(saving_);
  stopped_ = true;
}

Result<SaveReport> Snapshots::Save() {
  const std::lock_guard alone(saving_);
  const auto attempt = [&]() -> Result<SaveReport> {
    if (stopped_) return Fail("the daemon stops", options_.file);
    if (!file_) return Fail(why_not_, options_.file, "a directory that can be written");
    file_->Discard();
    auto report = SaveRegistry(registry_, file_->temporary(), configured_);
    if (!report) return report;
    if (auto replaced = file_->Replace(); !replaced) return tl::unexpected(replaced.error());
    report->info.path = file_->path();
    return report;
  };
  const MonoTime begin = MonoNow();
  auto report = attempt();
  if (!report && file_) file_->Discard();
  if (report) report->seconds = SecondsSince(begin);
  const std::lock_guard lock(mutex_);
  if (!report) {
    ++stats_.failed;
    log::Error("no snapshot is saved: {}; the last good one stays", report.error().Message());
    return report;
  }
  ++stats_.saved;
  stats_.info = report->info;
  stats_.seconds = report->seconds;
  log::Debug("snapshot {}: {} blocks of {} publishers in {} bytes and {:.2f} s", options_.file,
             report->info.blocks, report->info.publishers, report->info.bytes, report->seconds);
  return report;
}

Snapshots::Stats Snapshots::stats() const {
  const std::lock_guard lock(mutex_);
  return stats_;
}

}  // namespace conductor::serve
