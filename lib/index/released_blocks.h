#ifndef CONDUCTOR_LIB_INDEX_RELEASED_BLOCKS_H_
#define CONDUCTOR_LIB_INDEX_RELEASED_BLOCKS_H_

#include <cstdint>
#include <vector>

#include "lib/index/run_store.h"

namespace conductor::index {

// The blocks that nobody holds and that have no held descendants, in the order in which they became
// so, children before their parents.
//
// In a run those are always the last ones, and a later one was released before an earlier one. So
// the list is of pieces of runs, 24 bytes each, and not of blocks; what an engine evicts one by one
// from the end of a chain is one piece.
class ReleasedBlocks {
 public:
  // `store` outlives it. Run::released is its own.
  explicit ReleasedBlocks(RunStore& store) : store_(store) {}

  // The blocks from `begin` to `end` of the run, which follow directly before those that are
  // released in it already.
  void Add(uint32_t run, uint32_t begin, uint32_t end);
  // The first `blocks` of the run are not, or not any more.
  void Remove(uint32_t run, uint32_t blocks);
  // The last block of the run leaves the list, if it is in it.
  void RemoveLast(uint32_t run);

  // Gives memory back where the list was much longer. To be called now and then.
  void Tidy();

  // The block that was released first. Requires count() > 0.
  [[nodiscard]] BlockRef Oldest() const;
  [[nodiscard]] uint64_t count() const { return count_; }  // blocks

  // Which blocks of the run are in it: from `begin` to `end`, of all pieces together. False when
  // there is a hole in them or they are out of order.
  [[nodiscard]] bool Check(uint32_t run, uint32_t& begin, uint32_t& end) const;
  [[nodiscard]] size_t bytes() const { return pieces_.capacity() * sizeof(Piece); }

 private:
  static constexpr uint32_t kNone = RunStore::kNoRun;

  struct Piece {
    uint32_t run;
    uint8_t begin;
    uint8_t end;
    uint32_t older_in_run;  // the piece with the run's blocks behind these
    uint32_t older;         // in the whole list
    uint32_t younger;
  };

  void Drop(uint32_t piece);
  // The run's oldest piece, with its last blocks.
  [[nodiscard]] uint32_t LastOf(uint32_t run) const;

  RunStore& store_;
  std::vector<Piece> pieces_;
  uint32_t free_ = kNone;  // linked by `younger`
  size_t free_count_ = 0;
  uint32_t oldest_ = kNone;
  uint32_t youngest_ = kNone;
  uint64_t count_ = 0;
};

}  // namespace conductor::index

#endif  // CONDUCTOR_LIB_INDEX_RELEASED_BLOCKS_H_
