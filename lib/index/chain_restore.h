#ifndef CONDUCTOR_LIB_INDEX_CHAIN_RESTORE_H_
#define CONDUCTOR_LIB_INDEX_CHAIN_RESTORE_H_

#include <absl/container/flat_hash_map.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "lib/index/prefix_index.h"

namespace conductor::index {

// Takes chains into an index as somebody copied them (PackedChains), of any number of publishers:
// runs first told to last, and of each what is held of it and how it is called, before or after
// other runs.
//
// All within one Writer, so that nothing is forgotten between a block and the first who holds it.
// Other writers wait meanwhile: it is for the start of a process.
class ChainRestore {
 public:
  // `writer` must outlive it. Until Finish() it may add holders and spaces and tell of pools'
  // blocks, and nothing else.
  explicit ChainRestore(PrefixIndex::Writer& writer);
  ChainRestore(const ChainRestore&) = delete;
  ChainRestore& operator=(const ChainRestore&) = delete;

  // The next run: its number is how many were added before. Blocks that are there already are
  // found again.
  //   !blocks.empty() && blocks.size() <= 64; parent, if any, below its own number and
  //   parent_block below the length of that; the same namespace as the parent's
  void AddRun(const NamespaceKey& name_space, std::optional<uint32_t> parent, uint32_t parent_block,
              std::span<const PrefixHash> blocks);
  [[nodiscard]] uint32_t runs() const { return static_cast<uint32_t>(first_.size()); }
  [[nodiscard]] uint32_t length(uint32_t run) const { return length_[run]; }

  // The holder, of the run's namespace, holds the blocks of the mask; once each, as one block each.
  void Hold(uint32_t run, HolderId holder, Tier tier, uint64_t blocks);
  // What is held so is the end of a span, or there more than once. After Hold().
  void HoldSpecial(uint32_t run, uint32_t block, HolderId holder, Tier tier, uint32_t span,
                   uint32_t copies);
  // So many names are about to come, of all spaces together; that they do not is no harm. Before
  // Name().
  void ExpectNames(uint64_t count);
  // The space calls the blocks of the mask so, one name for each bit. A name that it has for
  // another block already is passed over.
  void Name(uint32_t run, AliasSpace space, uint64_t blocks, std::span<const EngineHash> names);
  // One of these names stands for several blocks, that block as the last. After Name(); a name that
  // the space does not have for it is passed over.
  //   span is no more than the blocks of the chain up to that one
  void SetSpan(uint32_t run, uint32_t block, AliasSpace space, EngineHash name, uint32_t span);
  // What pools of the domain have under these names, they have here too, spans[i] being what
  // names[i] stands for. After SetPoolBlock() of theirs; names that no pool has are passed over.
  //   names.size() == spans.size(), one for each bit
  void Join(uint32_t run, const PoolDomain& domain, uint32_t group, uint64_t blocks,
            std::span<const EngineHash> names, std::span<const uint32_t> spans);

  // The end: what nobody holds is released, and what nobody names is forgotten. Without it the
  // index is not what it should be.
  void Finish();

 private:
  using Impl = PrefixIndex::Impl;

  // BlockRef::value of a run's block.
  [[nodiscard]] uint32_t At(uint32_t run, uint32_t block) const;

  Impl& impl_;
  // Of each run its first block; where the others do not follow it in the index's own run, they
  // are in apart_.
  std::vector<uint32_t> first_;
  std::vector<uint8_t> length_;
  absl::flat_hash_map<uint32_t, std::vector<uint32_t>> apart_;
  uint32_t stamp_ = 0;
};

}  // namespace conductor::index

#endif  // CONDUCTOR_LIB_INDEX_CHAIN_RESTORE_H_
