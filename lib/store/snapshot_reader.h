#ifndef CONDUCTOR_LIB_STORE_SNAPSHOT_READER_H_
#define CONDUCTOR_LIB_STORE_SNAPSHOT_READER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "lib/base/result.h"
#include "lib/base/tier.h"
#include "lib/hash/block_hash.h"
#include "lib/index/prefix_index.h"
#include "lib/store/saved_publisher.h"

namespace conductor::store {

// A publisher of a file, with what its holders and spaces are called there. The chains of its life
// or pool are empty: they are for ChainVisitor.
struct StoredPublisher {
  SavedPublisher saved;
  std::vector<uint32_t> holders;  // ids of life->holders, in their order
  std::vector<uint32_t> spaces;   // ids of life->groups, or of pool->spaces
};

// What a file says of chains, row by row: all runs, then all holdings, then all names. Views: for
// the length of the call.
class ChainVisitor {
 public:
  virtual ~ChainVisitor() = default;

  struct Run {
    uint32_t id = 0;  // 1, 2, 3, ...
    const index::NamespaceKey* name_space = nullptr;
    std::optional<uint32_t> parent;  // id of a run before
    uint32_t parent_block = 0;
    uint32_t position = 0;  // blocks of the chain before it
    std::span<const PrefixHash> blocks;
  };
  virtual void OnRun(const Run& run) { (void)run; }
  virtual void OnHolding(uint32_t run, uint32_t holder, Tier tier, uint64_t blocks) {
    (void)run, (void)holder, (void)tier, (void)blocks;
  }
  // Of a block that OnHolding told.
  virtual void OnSpecial(uint32_t run, uint32_t holder, Tier tier, uint32_t block, uint32_t span,
                         uint32_t copies) {
    (void)run, (void)holder, (void)tier, (void)block, (void)span, (void)copies;
  }
  // So many names are in the file; those that several spaces share count once. Before the first.
  virtual void OnNamesAhead(uint64_t count) { (void)count; }
  // One name for each bit of `blocks`; of engines, and in VisitPoolNames() of pools.
  virtual void OnNames(uint32_t run, uint32_t space, uint64_t blocks,
                       std::span<const EngineHash> names) {
    (void)run, (void)space, (void)blocks, (void)names;
  }
  // A name of a block that stands for several, at least two, that block as the last: after the
  // names of engines, before those of pools.
  virtual void OnSpan(uint32_t run, uint32_t block, uint32_t space, EngineHash name,
                      uint32_t span) {
    (void)run, (void)block, (void)space, (void)name, (void)span;
  }
};

// Reads a snapshot. Whatever is in the file, reading it ends, in memory that is in proportion to
// its size, and what comes out is sound: rows that point nowhere, numbers out of their range, masks
// beyond their run and blobs of a wrong length are errors that name the table, the row, the column
// and what was expected. So is a table whose rows are not all those that were written.
class SnapshotReader {
 public:
  // What an error is to be laid to.
  enum class Blame : uint8_t {
    kFile,     // it is damaged, another program's, of a newer version: so it will be the next time
    kReading,  // no memory, no right to read, a disk that fails: it may be good
  };

  // Takes no lock, and minds none; what lies beside the file is not looked at. `blame` is set with
  // an error. Errors: no such file; no SQLite file, or none of Conductor's; one of a newer version;
  // other tables than a snapshot has.
  [[nodiscard]] static Result<SnapshotReader> Open(const std::string& path, Blame* blame = nullptr);
  SnapshotReader(SnapshotReader&&) noexcept;
  SnapshotReader& operator=(SnapshotReader&&) noexcept;
  ~SnapshotReader();

  [[nodiscard]] const SnapshotInfo& info() const;
  // Of what is in it, as it was written: what tells it from others. VisitChains() checks it.
  [[nodiscard]] uint64_t digest() const;
  // Of the last error of the calls below.
  [[nodiscard]] Blame blame() const;

  // In the order of their keys.
  [[nodiscard]] Result<std::vector<StoredPublisher>> Publishers();

  // Tells all chains, but for the names of pools. Each table is told as it is read, and its digest
  // compared with the one that was written at its end: an error may come when much was told.
  [[nodiscard]] Status VisitChains(ChainVisitor& visitor);
  // The names of pools alone, after that.
  [[nodiscard]] Status VisitPoolNames(ChainVisitor& visitor);

  // All that can be wrong with the file: SQLite's own check, references, what the other calls find.
  // The hashes of a chain cannot be computed again, since neither tokens nor their local hashes are
  // kept; the digest stands for them.
  [[nodiscard]] Status Verify();

 private:
  struct Impl;
  explicit SnapshotReader(std::unique_ptr<Impl> impl);
  // `file_is_to_blame`: once there is a database.
  [[nodiscard]] static Result<SnapshotReader> OpenFile(
      const std::string& path, std::shared_ptr<const bool>& file_is_to_blame);
  std::unique_ptr<Impl> impl_;
};

}  // namespace conductor::store

#endif  // CONDUCTOR_LIB_STORE_SNAPSHOT_READER_H_
