#ifndef CONDUCTOR_LIB_INGEST_LIFE_COPY_H_
#define CONDUCTOR_LIB_INGEST_LIFE_COPY_H_

#include <cstdint>
#include <functional>
#include <utility>

#include "lib/index/chain_copy.h"
#include "lib/ingest/saved_life.h"

namespace conductor::ingest {

// Copies what a publisher's visible life is, piece by piece, as index::ChainCopy does. It is what
// is true at one moment as long as nothing is applied between its making and the last Step().
class LifeCopy {
 public:
  // `trimmed` is what SavedLife::trimmed is by now.
  LifeCopy(SavedLife life, index::ChainCopy chains, std::function<uint64_t()> trimmed)
      : life_(std::move(life)), chains_(std::move(chains)), trimmed_(std::move(trimmed)) {}

  // A tenth of a millisecond of work; false when all is copied.
  bool Step() {
    if (chains_.Step()) return true;
    // Room is made for others all the while, and what was given up since it began may be missing.
    life_.trimmed = trimmed_();
    return false;
  }

  // Once, at the end.
  [[nodiscard]] SavedLife Take() {
    life_.chains = chains_.Take();
    return std::move(life_);
  }

 private:
  SavedLife life_;
  index::ChainCopy chains_;
  std::function<uint64_t()> trimmed_;
};

}  // namespace conductor::ingest

#endif  // CONDUCTOR_LIB_INGEST_LIFE_COPY_H_
