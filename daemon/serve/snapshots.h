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
  double seconds = 0;
  std::vector<Publisher> publishers;  // in the order of their keys
};

// Writes what the registry has into a new file at `path`, publisher by publisher: each is copied
// while it is held still, and written from the copy. `configured`: keys that a configuration file
// has. What is left of a save that failed is for the caller to remove. Any thread.
[[nodiscard]] Result<SaveReport> SaveRegistry(const Registry& registry, const std::string& path,
                                              const std::set<std::string>& configured = {});

// The snapshot of a daemon: loaded at its start, saved now and then, at the end and on request.
// Thread-safe once opened.
class Snapshots {
 public:
  struct Options {
    std::string file;                              // empty: there is none
    Duration interval = std::chrono::seconds(60);  // zero: only at the end and on request
  };
  struct Stats {
    uint64_t saved = 0;
    uint64_t failed = 0;
    // Of the newest save of this process, or of what it loaded; nothing: neither.
    std::optional<store::SnapshotInfo> info;
    double seconds = 0;  // that the last save took
    uint64_t restored_publishers = 0;
    uint64_t restored_holdings = 0;
  };

  // Takes the file, and loads what is in it into `registry`, which must outlive this and have
  // nothing yet. A file that cannot be used is kept under another name, with an error in the log;
  // with `strict` it is an error and stays. Where the directory cannot be written the file is
  // loaded still, and a warning says that nothing will be saved; with `strict` that is an error
  // too. Other errors: another daemon has the file; its directory is not there.
  [[nodiscard]] static Result<std::unique_ptr<Snapshots>> Open(Registry& registry,
                                                               const Options& options,
                                                               std::vector<Registration> configured,
                                                               bool strict);
  ~Snapshots();
  Snapshots(const Snapshots&) = delete;
  Snapshots& operator=(const Snapshots&) = delete;

  // Saves every Options::interval from now on, where there is one.
  void Start();
  // The last save, after which there is none.
  void Stop();

  // One at a time: it waits for another that is under way.
  [[nodiscard]] Result<SaveReport> Save();

  [[nodiscard]] Stats stats() const;

 private:
  Snapshots(Registry& registry, const Options& options) : registry_(registry), options_(options) {}

  [[nodiscard]] Status Load(std::vector<Registration> configured, bool strict);

  Registry& registry_;
  const Options options_;
  std::optional<store::StateFile> file_;  // nothing: it cannot be written
  std::string why_not_;                   // why
  std::set<std::string> configured_;
  std::mutex saving_;         // held while one is being saved
  bool stopped_ = false;      // guarded by saving_
  mutable std::mutex mutex_;  // guards stats_
  Stats stats_;
  std::jthread timer_;
};

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_SNAPSHOTS_H_
