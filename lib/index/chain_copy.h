#ifndef CONDUCTOR_LIB_INDEX_CHAIN_COPY_H_
#define CONDUCTOR_LIB_INDEX_CHAIN_COPY_H_

#include <absl/container/flat_hash_map.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "lib/index/packed_chains.h"
#include "lib/index/prefix_index.h"

namespace conductor::index {

// Copies what one publisher holds and how it calls it, piece by piece. The index's lock is taken
// for a piece at a time and shared, so others write on between pieces and lookups go on all the
// while; as long as nothing is written for the publisher itself, the copy is what was true at one
// moment. What is given up for memory_limit meanwhile is missing.
//
// A run that others made longer between two pieces may stand in the copy twice, as it was before
// and after; what the publisher has of it stands at one of them.
//
// Any thread, one at a time.
class ChainCopy {
 public:
  // `index` must outlive it. Unknown ids are passed over.
  ChainCopy(const PrefixIndex& index, std::span<const HolderId> holders,
            std::span<const AliasSpace> spaces);

  // Copies the next piece: 64 runs of up to 64 blocks. False when nothing is left.
  bool Step();

  // A pool has names and no space: what the names that it was told of stand for now. `space` is a
  // number that the caller chooses, the same for one domain and group.
  struct PoolNames {
    PoolDomain domain;
    uint32_t space = 0;
    std::vector<PoolName> names;
  };
  // Copies the blocks that the names are joined with; not more than some hundreds at a time.
  void CopyJoined(const PoolNames& of);

  // The copy, complete once Step() said so. Once.
  [[nodiscard]] PackedChains Take();

  [[nodiscard]] const PackedChains& copied() const { return chains_; }

 private:
  struct Wanted {
    HolderId id{};
    uint32_t position = 0;  // in the holders that were asked for
  };
  struct Joined {
    uint32_t run;
    uint32_t space;
    uint8_t block;
    EngineHash name;
  };

  // With the lock held: the position of a copy of the run with at least its first `blocks` blocks
  // as they are now, and of all that it follows.
  uint32_t Copy(uint32_t run, uint32_t blocks);
  [[nodiscard]] bool IsCopied(uint32_t run, uint32_t blocks) const;
  void CopyRun(uint32_t run);
  void CopyNames(uint32_t run);

  const PrefixIndex& index_;
  std::vector<AliasSpace> spaces_;
  std::vector<uint32_t> runs_;  // in which something of the publisher is
  size_t next_ = 0;             // of runs_
  // A namespace as it was last met under its number. Once it is empty and forgotten that is given
  // to another, which another key tells; the one that is kept here is at no other's address.
  struct Met {
    std::shared_ptr<const NamespaceKey> key;
    uint32_t position = 0;  // in name_spaces
  };
  absl::flat_hash_map<uint32_t, Met> name_space_of_;            // by number
  absl::flat_hash_map<uint32_t, std::vector<Wanted>> holders_;  // by number of their namespace
  struct Copied {
    uint32_t position;
    size_t first_prefix;
  };
  absl::flat_hash_map<uint32_t, Copied> copied_;  // run -> its newest copy
  std::vector<Joined> joined_;
  PackedChains chains_;
};

}  // namespace conductor::index

#endif  // CONDUCTOR_LIB_INDEX_CHAIN_COPY_H_
