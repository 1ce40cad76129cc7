#ifndef CONDUCTOR_LIB_INGEST_LIFE_COPY_H_
#define CONDUCTOR_LIB_INGEST_LIFE_COPY_H_

#include <utility>

#include "lib/index/chain_copy.h"
#include "lib/ingest/saved_life.h"

namespace conductor::ingest {

// Copies what a publisher's visible life is, piece by piece, as index::ChainCopy does. It is what
// is true at one moment as long as nothing is applied between its making and the last Step().
class LifeCopy {
 public:
  LifeCopy(SavedLife life, index::ChainCopy chains)
      : life_(std::move(life)), chains_(std::move(chains)) {}

  // A tenth of a millisecond of work; false when all is copied.
  bool Step() { return chains_.Step(); }

  // Once, at the end.
  [[nodiscard]] SavedLife Take() {
    life_.chains = chains_.Take();
    return std::move(life_);
  }

 private:
  SavedLife life_;
  index::ChainCopy chains_;
};

}  // namespace conductor::ingest

#endif  // CONDUCTOR_LIB_INGEST_LIFE_COPY_H_
