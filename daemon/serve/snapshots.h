#ifndef CONDUCTOR_DAEMON_SERVE_SNAPSHOTS_H_
#define CONDUCTOR_DAEMON_SERVE_SNAPSHOTS_H_

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "daemon/serve/registry.h"
#include "lib/base/clock.h"
#include "lib/base/result.h"
#include "lib/store/saved_publisher.h"
#include "lib/store/state_file.h"

namespace conductor::serve {

// One save, as it is told.
struct SaveReport {
  struct Publisher {
    std::string key;
    std::optional<uint64_t> cursor;  // nothing: no batch of it was ever applied
    uint64_t holdings = 0;           // (block, holder, tier); objects of a pool
  };

  store::SnapshotInfo info;
  uint64_t digest = 0;  // of what is in it, as the file has it
  double seconds = 0;
  std::vector<Publisher> publishers;  // in the order of their keys
};

// Writes what the registry has into a new file at `path`, publisher by publisher: each is copied
// while it is held still, and written from the copy. `configured`: keys that a configuration file
// has. What is left of a save that failed is for the caller to remove. Any thread.
[[nodiscard]] Result<SaveReport> SaveRegistry(const Registry& registry, const std::string& path,
                                              const std::set<std::string>& configured = {});

// The snapshot of a daemon: loaded at its start, saved now and then, at the end and on request.
// Thread-safe once opened. What goes wrong, and be it that there is no memory, is an error in the
// log and in Stats::failed, and ends nothing: saving never throws.
//
// What is written is read again, all of it, before it takes the place of the last good file: what
// would make the next start refuse the whole of it is a failed save.
//
// A file that this has neither loaded nor saved is never written over: whatever it is, and however
// late it came there (a volume that is mounted after the start), the save that would take its place
// keeps it under another name, with an error in the log.
class Snapshots {
 public:
  struct Options {
    std::string file;                              // empty: there is none
    Duration interval = std::chrono::seconds(60);  // zero: only at the end and on request
    // What writes it: SaveRegistry, but in tests of what goes wrong meanwhile.
    std::function<Result<SaveReport>(const Registry&, const std::string& path,
                                     const std::set<std::string>& configured)>
        write = SaveRegistry;
  };
  struct Stats {
    uint64_t saved = 0;
    uint64_t failed = 0;
    uint64_t waiting = 0;  // who wait for a save that has not begun
    // Of the newest save of this process, or of what it loaded; nothing: neither.
    std::optional<store::SnapshotInfo> info;
    double age = 0;      // of `info`, in seconds, whatever became of the clock since
    double seconds = 0;  // that the last save took
    uint64_t restored_publishers = 0;
    uint64_t restored_holdings = 0;
  };

  // Takes the file, and loads what is in it into `registry`, which must outlive this and have
  // nothing yet. A file that is damaged, another program's or of a newer version is kept under
  // another name, with an error in the log; where that cannot be, by the first save that can. One
  // that cannot be read for another reason (no right,
  // no memory, a disk that fails) may be good: it stays, and nothing is saved over it. Where
  // nothing can be made beside the file (rights, a disk that is read-only or full) it is loaded
  // still, a warning says that nothing will be saved, and each save tries again. With `strict` each
  // of these is an error, and the file stays. Other errors: another daemon has the file; its
  // directory is not there; it is no regular file.
  [[nodiscard]] static Result<std::unique_ptr<Snapshots>> Open(Registry& registry,
                                                               const Options& options,
                                                               std::vector<Registration> configured,
                                                               bool strict);
  ~Snapshots();
  Snapshots(const Snapshots&) = delete;
  Snapshots& operator=(const Snapshots&) = delete;

  // Saves every Options::interval from now on, where there is one.
  void Start();
  // Waits for one that is under way, and saves for the last time. Who waits for a save that has not
  // begun has an error. May be called again.
  void Stop();

  // One at a time. One that is under way may have passed a publisher already, so the next one
  // answers; all that wait for it share it.
  [[nodiscard]] Result<SaveReport> Save();

  [[nodiscard]] Stats stats() const;

 private:
  Snapshots(Registry& registry, const Options& options) : registry_(registry), options_(options) {}

  struct Attempted {
    Result<SaveReport> report;
    // What is at the file now, and be it that the report is an error: it may be lost still when the
    // power fails. Nothing: what was there before.
    std::optional<store::SnapshotInfo> placed;
  };

  [[nodiscard]] Status Load(std::vector<Registration> configured, bool strict);
  [[nodiscard]] Result<SaveReport> SaveOrSayWhyNot(std::unique_lock<std::mutex>& lock, bool last);
  // May throw where there is no memory for the answer; the save itself is done with then.
  [[nodiscard]] Result<SaveReport> SaveHolding(std::unique_lock<std::mutex>& lock, bool last);
  // One save, told in the log. Never throws.
  [[nodiscard]] Attempted Attempt();
  [[nodiscard]] Result<SaveReport> Write(std::optional<store::SnapshotInfo>& placed);
  // The lock of the file, taken where it is not held. May take another one than before.
  [[nodiscard]] Status Hold();

  Registry& registry_;
  const Options options_;
  std::set<std::string> configured_;
  // Of who saves, which is one at a time.
  std::optional<store::StateFile> file_;  // nothing: it could not be taken yet
  std::string why_not_;                   // what is there must not be touched; why
  // What was loaded or saved last: all that a save may write over. Nothing: no file at all.
  std::optional<store::FileVersion> known_;

  mutable std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  bool saving_ = false;
  uint64_t begun_ = 0;  // saves; of them
  uint64_t ended_ = 0;  // all but one that is under way
  Result<SaveReport> newest_;
  bool stopping_ = false;
  bool stopped_ = false;
  Stats stats_;
  MonoTime since_{};     // when stats_.info was saved or loaded ...
  double age_then_ = 0;  // ... and what its age was then
  std::jthread timer_;
};

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_SNAPSHOTS_H_
