#ifndef CONDUCTOR_LIB_STORE_WRITTEN_RUNS_H_
#define CONDUCTOR_LIB_STORE_WRITTEN_RUNS_H_

#include <absl/container/flat_hash_map.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "lib/hash/block_hash.h"

namespace conductor::store {

// Which runs are in a file, so that each block is written once whoever holds it. Publishers are
// copied one after the other, and meanwhile a run grows, or loses its end and gets another: what is
// new of it becomes a run of its own, which follows the block that both have.
//
// Some 130 bytes a run of up to 64 blocks: to keep all hashes would be five times that, and to find
// out in the file what another run begins with as much time again as writing it. So of each block a
// byte is kept, and the file is asked where all of them agree and nothing else decides.
class WrittenRuns {
 public:
  // Of one row of the file, from `first` on.
  struct Piece {
    uint32_t run = 0;  // 1, 2, 3, ...
    uint8_t first = 0;
    uint8_t length = 0;
  };
  // A block of a row.
  struct Place {
    uint32_t run = 0;
    uint32_t block = 0;
  };
  // A row that is to be written now.
  struct Row {
    uint32_t run = 0;
    uint32_t name_space = 0;
    std::optional<Place> parent;
    uint32_t position = 0;
    std::span<const PrefixHash> blocks;
  };
  // Writes one; reads the hashes of one that was written, nothing when that is not possible.
  using Write = std::function<void(const Row&)>;
  using Read = std::function<std::vector<PrefixHash>(uint32_t run)>;

  // Where the blocks of a run stand in the file, in their order; what is not there is written.
  //   !blocks.empty() && blocks.size() <= 64; `parent` was told before
  [[nodiscard]] std::vector<Piece> Add(uint32_t name_space, std::optional<Place> parent,
                                       std::span<const PrefixHash> blocks, const Write& write,
                                       const Read& read);

  [[nodiscard]] uint32_t runs() const { return static_cast<uint32_t>(rows_.size()); }

 private:
  struct Known {
    uint32_t position = 0;
    uint8_t length = 0;
    PrefixHash last{};
  };

  // How many of `blocks` the row has from its block `first` on.
  [[nodiscard]] size_t Common(uint32_t run, size_t first, std::span<const PrefixHash> blocks,
                              const Read& read) const;
  [[nodiscard]] static uint8_t Mark(PrefixHash hash) { return static_cast<uint8_t>(hash); }

  std::vector<Known> rows_;  // run - 1
  std::vector<size_t> marks_at_;
  std::vector<uint8_t> marks_;
  // What it follows, and its first block, by both halves of their XXH3-128.
  absl::flat_hash_map<std::pair<uint64_t, uint64_t>, uint32_t> by_first_;
};

}  // namespace conductor::store

#endif  // CONDUCTOR_LIB_STORE_WRITTEN_RUNS_H_
