#ifndef CONDUCTOR_LIB_INDEX_PACKED_CHAINS_H_
#define CONDUCTOR_LIB_INDEX_PACKED_CHAINS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "lib/base/tier.h"
#include "lib/hash/block_hash.h"
#include "lib/index/prefix_index.h"

namespace conductor::index {

// What one publisher holds and how it calls it, at one moment, by itself: nothing in it points into
// an index. ChainCopy makes it, ChainRestore takes it in again.
//
// Packed for the time between the moment that is copied and the end of writing it to a file: 16
// bytes a block with its name and 60 a run of up to 64 blocks, in a few vectors. Structs with
// vectors of their own, one a run, took twice that, and four times as long to copy.
struct PackedChains {
  static constexpr uint32_t kNoRun = ~0u;

  // Blocks that follow one another in one chain. Their hashes are the next `length` in `prefixes`.
  struct Run {
    uint32_t name_space;   // position in name_spaces
    uint32_t parent;       // position in runs, before this one's; kNoRun: it begins a prompt
    uint8_t parent_block;  // position in that run of the block that the first one follows
    uint8_t length;        // 1 to 64
  };
  // What a holder holds of a run on a tier.
  struct Holding {
    uint32_t run;     // position in runs
    uint32_t holder;  // position in the holders that were asked for
    Tier tier;
    uint64_t blocks;  // bit i for the run's block i; never 0
  };
  // A block of a Holding that is not simply there once.
  struct Special {
    uint32_t run;
    uint32_t holder;
    uint8_t block;
    Tier tier;
    uint32_t span;    // blocks that the holding stands for, with this one as the last; at least 1
    uint32_t copies;  // at least 1
  };
  // Names of blocks of a run. They are the next ones in `names`, one for each bit in order. A block
  // with several names in one space stands in several of these.
  struct Names {
    uint32_t run;
    uint32_t space;   // position in the spaces that were asked for
    uint64_t blocks;  // never 0
  };
  // A name of a block that stands for several, that block as the last. In the space of a pool one
  // name may be of several blocks, each with a span of its own.
  struct Span {
    uint32_t run;
    uint32_t space;
    uint8_t block;  // of the run
    EngineHash name;
    uint32_t span;  // at least 2
  };

  std::vector<NamespaceKey> name_spaces;
  std::vector<Run> runs;
  std::vector<PrefixHash> prefixes;
  std::vector<Holding> holdings;
  std::vector<Special> special;
  std::vector<Names> named;
  std::vector<EngineHash> names;
  std::vector<Span> spans;

  [[nodiscard]] size_t bytes() const {
    return runs.size() * sizeof(Run) + prefixes.size() * sizeof(PrefixHash) +
           holdings.size() * sizeof(Holding) + special.size() * sizeof(Special) +
           named.size() * sizeof(Names) + names.size() * sizeof(EngineHash) +
           spans.size() * sizeof(Span);
  }
};

}  // namespace conductor::index

#endif  // CONDUCTOR_LIB_INDEX_PACKED_CHAINS_H_
