#ifndef CONDUCTOR_LIB_STORE_SNAPSHOT_WRITER_H_
#define CONDUCTOR_LIB_STORE_SNAPSHOT_WRITER_H_

#include <cstdint>
#include <memory>
#include <string>

#include "lib/base/result.h"
#include "lib/store/saved_publisher.h"

namespace conductor::store {

// Writes a snapshot into a new file, publisher by publisher; docs/snapshot-format.md has the
// tables. What publishers share is written once, block by block. Keeps about 150 bytes of memory
// for each run of up to 64 blocks.
//
// The file is complete, and on the disk, once Finish() said so; before that it is no snapshot, and
// nobody may read it. Making it take the place of another is StateFile's.
class SnapshotWriter {
 public:
  struct Options {
    std::string conductor;   // the version that writes it
    double saved_at = 0;     // Unix seconds
    uint64_t hash_seed = 0;  // of all hashes
    std::string vfs;         // of SQLite; empty: the system's. For tests
  };

  // Creates `path`, for its owner alone; it must not be there.
  [[nodiscard]] static Result<std::unique_ptr<SnapshotWriter>> Create(const std::string& path,
                                                                      const Options& options);
  ~SnapshotWriter();
  SnapshotWriter(const SnapshotWriter&) = delete;
  SnapshotWriter& operator=(const SnapshotWriter&) = delete;

  // After an error all that follows is one too.
  [[nodiscard]] Status Add(const SavedPublisher& publisher);

  // The last call.
  [[nodiscard]] Result<SnapshotInfo> Finish();
  // Of what is in the file, once it is finished.
  [[nodiscard]] uint64_t digest() const;

 private:
  struct Impl;
  explicit SnapshotWriter(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace conductor::store

#endif  // CONDUCTOR_LIB_STORE_SNAPSHOT_WRITER_H_
