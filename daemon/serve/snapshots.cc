#include "daemon/serve/snapshots.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <exception>
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
  return ::stat(path.c_str(), &status) == 0 || errno != ENOENT;
}

std::string AgeText(double seconds) {
  if (seconds >= 0) return fmt::format("saved {:.0f} s ago", seconds);
  return fmt::format("saved {:.0f} s from now: the clock was set back", -seconds);
}

// Short enough to need no memory itself.
tl::unexpected<Error> NoMemory() { return tl::unexpected<Error>(Error{"no memory", {}, {}}); }

// Reads a file as the next start will: one value that it would refuse costs this save then, and not
// all that is in the file.
Status ReadAgain(const std::string& path) {
  const auto fail = [](Error error, store::SnapshotReader::Blame blame) -> Status {
    return tl::unexpected(std::move(error).Within(blame == store::SnapshotReader::Blame::kReading
                                                      ? "what was written cannot be read again"
                                                      : "what was written cannot be loaded again"));
  };
  store::SnapshotReader::Blame blame{};
  auto reader = store::SnapshotReader::Open(path, &blame);
  if (!reader) return fail(std::move(reader.error()), blame);
  store::ChainVisitor nobody;
  auto done = reader->VisitChains(nobody);
  if (done) done = reader->VisitPoolNames(nobody);
  if (!done) return fail(std::move(done.error()), reader->blame());
  return {};
}

void RemoveAll(Registry& registry) {
  for (const std::string& key : registry.Keys()) (void)registry.Remove(key);
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
    auto copied = registry.Copy(key);
    // What is left out would be lost with the snapshot whose place this takes.
    if (!copied) return tl::unexpected(copied.error());
    std::optional<store::SavedPublisher>& saved = *copied;
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
  report.digest = (*writer)->digest();
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
    if (strict || !file.error().unwritable) {
      return tl::unexpected(Error(file.error()).Within("--state"));
    }
    log::Warn("--state: {}: NOTHING WILL BE SAVED until that is mended", file.error().Message());
  }
  if (auto loaded = snapshots->Load(std::move(configured), strict); !loaded) {
    return tl::unexpected(Error(loaded.error()).Within("--state"));
  }
  return snapshots;
}

Status Snapshots::Load(std::vector<Registration> configured, bool strict) {
  using Blame = store::SnapshotReader::Blame;
  const std::string path =
      file_ ? file_->path() : store::ResolveLinks(options_.file).value_or(options_.file);
  const auto version = store::VersionOf(path);
  if (!version && !IsThere(path)) {
    log::Info("no snapshot at {} yet", path);
    return {};
  }
  const MonoTime begin = MonoNow();
  Blame blame = Blame::kReading;
  store::SnapshotInfo info;
  const auto restore = [&]() -> Result<Registry::Restored> {
    try {
      auto reader = store::SnapshotReader::Open(path, &blame);
      if (!reader) return tl::unexpected(reader.error());
      info = reader->info();
      auto restored = registry_.Restore(*reader, {.configured = std::move(configured)});
      if (!restored) blame = reader->blame();
      return restored;
    } catch (const std::exception& error) {  // no memory
      blame = Blame::kReading;
      RemoveAll(registry_);
      return Fail(fmt::format("cannot be loaded: {}", error.what()), path);
    }
  };
  const auto restored = restore();
  if (restored) {
    for (const Error& left : restored->left_out) {
      log::Warn("publisher {}: not restored from the snapshot: {}", left.where, left.what);
    }
    const double age = UnixNow() - info.saved_at;
    log::Info(
        "restored {} publishers, {} of them with {} blocks, from {}, {}, in {:.2f} s: stale until "
        "each proves it; {} are left out, with {} blocks",
        restored->publishers, restored->with_blocks, restored->holdings, path, AgeText(age),
        SecondsSince(begin), registry_.restored().left_out.load(),
        registry_.restored().left_out_holdings.load());
    known_ = version;
    stats_.info = std::move(info);
    stats_.restored_publishers = restored->publishers;
    stats_.restored_holdings = restored->holdings;
    since_ = MonoNow();
    age_then_ = std::max(age, 0.0);
    return {};
  }
  if (strict) return tl::unexpected(restored.error());
  const std::string why = restored.error().Message();
  // The next save must not take the place of what may be the last copy.
  if (blame == Blame::kReading) {
    log::Error(
        "the snapshot cannot be read, and may be good: {}; it stays, and NOTHING WILL BE "
        "SAVED over it; starting without it",
        why);
    why_not_ = "it could not be read at the start: " + why;
    return {};
  }
  log::Error("the snapshot cannot be used: {}", why);
  // Who has no lock must not move what another may use. It is not known_, so that the first save
  // that can be written keeps it under another name.
  if (!file_) {
    log::Error("it stays until it can be kept under another name; starting without it");
    return {};
  }
  const auto aside = file_->SetAside();
  if (aside) {
    log::Error("it is kept as {}; starting without it", *aside);
  } else {
    log::Error("{}: NOTHING WILL BE SAVED until that is mended; starting without it",
               aside.error().Message());
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
  std::unique_lock lock(mutex_);
  stopping_ = true;
  changed_.notify_all();
  changed_.wait(lock, [this] { return !saving_; });
  if (std::exchange(stopped_, true)) return;
  (void)SaveOrSayWhyNot(lock, /*last=*/true);
  lock.unlock();
  // It saves no more.
  if (timer_.joinable()) {
    timer_.request_stop();
    timer_.join();
  }
}

Result<SaveReport> Snapshots::Save() {
  std::unique_lock lock(mutex_);
  return SaveOrSayWhyNot(lock, /*last=*/false);
}

Result<SaveReport> Snapshots::SaveOrSayWhyNot(std::unique_lock<std::mutex>& lock, bool last) {
  try {
    return SaveHolding(lock, last);
  } catch (const std::exception&) {
    return NoMemory();
  }
}

Result<SaveReport> Snapshots::SaveHolding(std::unique_lock<std::mutex>& lock, bool last) {
  const uint64_t wanted = begun_ + 1;
  for (;;) {
    if (ended_ >= wanted) return newest_;
    if (stopping_ && !last) {
      return Fail("the daemon stops, and saves once more by itself", options_.file);
    }
    if (!saving_) break;
    ++stats_.waiting;
    changed_.wait(lock);
    --stats_.waiting;
  }
  // From here until all is told nothing may throw: others wait.
  saving_ = true;
  ++begun_;
  lock.unlock();
  const MonoTime begin = MonoNow();
  Attempted attempted = Attempt();
  lock.lock();
  saving_ = false;
  ended_ = begun_;
  newest_ = std::move(attempted.report);
  if (attempted.placed) {
    stats_.info = std::move(attempted.placed);
    since_ = begin;
    age_then_ = 0;
  }
  if (newest_) {
    ++stats_.saved;
    stats_.seconds = newest_->seconds;
  } else {
    ++stats_.failed;
  }
  changed_.notify_all();
  return newest_;
}

Snapshots::Attempted Snapshots::Attempt() {
  const MonoTime begin = MonoNow();
  Attempted attempted{.report = NoMemory(), .placed = {}};
  Result<SaveReport>& report = attempted.report;
  try {
    try {
      report = Write(attempted.placed);
    } catch (const std::exception& error) {  // no memory
      report = Fail(error.what(), options_.file);
    }
    if (report) {
      report->seconds = SecondsSince(begin);
      log::Debug("snapshot {}: {} blocks of {} publishers in {} bytes and {:.2f} s", options_.file,
                 report->info.blocks, report->info.publishers, report->info.bytes, report->seconds);
      return attempted;
    }
    log::Error("{}{}", attempted.placed ? "" : "no snapshot is saved, the last good one stays: ",
               report.error().Message());
    if (file_) file_->Discard();
  } catch (const std::exception&) {
    // Not even for a line in the log: the report says what there was memory to say, and the next
    // attempt discards what is left of this one.
  }
  return attempted;
}

Status Snapshots::Hold() {
  if (file_ && file_->Holds()) return {};
  const bool lost = file_.has_value();
  if (lost) {
    log::Warn("{}.lock was removed or replaced: it is taken again", file_->path());
    file_.reset();
  }
  auto taken = store::StateFile::Take(options_.file);
  if (!taken) return tl::unexpected<Error>(std::move(taken.error()));
  file_ = *std::move(taken);
  if (!lost) log::Info("{} can be saved now", options_.file);
  return {};
}

Result<SaveReport> Snapshots::Write(std::optional<store::SnapshotInfo>& placed) {
  if (!why_not_.empty()) return Fail(why_not_, options_.file, "that mended, and a restart");
  if (auto held = Hold(); !held) return tl::unexpected(std::move(held.error()));
  file_->Discard();
  auto report = options_.write(registry_, file_->temporary(), configured_);
  if (!report) return report;
  if (auto sound = ReadAgain(file_->temporary()); !sound) {
    return tl::unexpected(std::move(sound.error()));
  }
  report->info.path = file_->path();
  store::SnapshotInfo info = report->info;
  const auto there = store::VersionOf(file_->path());
  if (there && there != known_) {
    const auto aside = file_->SetAside();
    if (!aside) return tl::unexpected(aside.error());
    log::Error("what was at {} was neither loaded nor saved by this daemon: it is kept as {}",
               file_->path(), *aside);
  }
  const auto written = store::VersionOf(file_->temporary());
  if (auto done = file_->Replace(); !done) return tl::unexpected(std::move(done.error()));
  known_ = written;
  placed = std::move(info);
  if (auto done = file_->Sync(); !done) {
    return tl::unexpected(std::move(done.error())
                              .Within("a snapshot is saved, and may be lost when the power fails"));
  }
  return report;
}

Snapshots::Stats Snapshots::stats() const {
  const std::lock_guard lock(mutex_);
  Stats stats = stats_;
  if (stats.info) stats.age = age_then_ + SecondsSince(since_);
  return stats;
}

}  // namespace conductor::serve
