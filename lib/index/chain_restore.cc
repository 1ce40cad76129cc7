#include "lib/index/chain_restore.h"

#include <algorithm>
#include <bit>

#include "lib/index/prefix_index_impl.h"

namespace conductor::index {

using Set = RunStore::Set;

ChainRestore::ChainRestore(PrefixIndex::Writer& writer)
    : impl_(*writer.impl_), stamp_(static_cast<uint32_t>(++impl_.announced >> 6)) {}

uint32_t ChainRestore::At(uint32_t run, uint32_t block) const {
  if (!apart_.empty()) {
    const auto apart = apart_.find(run);
    if (apart != apart_.end()) return apart->second[block];
  }
  return first_[run] + block;
}

void ChainRestore::AddRun(const NamespaceKey& key, std::optional<uint32_t> parent,
                          uint32_t parent_block, std::span<const PrefixHash> blocks) {
  Namespace* name_space = nullptr;
  BlockRef tip;
  if (parent) {
    tip = BlockRef(At(*parent, parent_block));
    name_space = impl_.NamespaceOf(tip);
  } else {
    name_space = impl_.FindOrAddNamespace(key);
  }
  std::vector<uint32_t> refs;
  refs.reserve(blocks.size());
  bool bare = false;
  bool follows = true;
  for (size_t i = 0; i < blocks.size(); ++i) {
    BlockRef child;
    if (!bare) child = impl_.store.FindChild(name_space->number, tip, blocks[i]);
    if (!child.is_block()) {
      child = impl_.store.AddChild(name_space->number, tip, blocks[i], blocks.size() - i - 1);
      ++impl_.blocks;
      ++name_space->blocks;
      bare = true;
    }
    impl_.store.run(child.run()).stamp = stamp_;
    tip = child;
    refs.push_back(child.value);
    follows &= child.value == refs.front() + i && child.run() == BlockRef(refs.front()).run();
  }
  const uint32_t number = runs();
  first_.push_back(refs.front());
  length_.push_back(static_cast<uint8_t>(blocks.size()));
  if (!follows) apart_.emplace(number, std::move(refs));
}

void ChainRestore::Hold(uint32_t run, HolderId id, Tier tier, uint64_t blocks) {
  Holder& holder = impl_.holders.at(id);
  const BlockRef first(first_[run]);
  // What is held as a span must not be held as one block too.
  if (apart_.contains(run) || holder.has_spans) {
    for (; blocks != 0; blocks &= blocks - 1) {
      const BlockRef block(At(run, static_cast<uint32_t>(std::countr_zero(blocks))));
      if (impl_.HeldSpan(holder, id, tier, block) != 0) continue;
      impl_.AddHolding(holder, id, tier, Target{block, 1});
      ++holder.whole[static_cast<size_t>(tier)];
    }
    return;
  }
  Run& it = impl_.store.run(first.run());
  const uint64_t key = RunStore::Key(Impl::Upper(id, tier), 1);
  const uint64_t before = impl_.store.Get(it, Set::kHolders, key);
  const uint64_t mask = before | blocks << first.offset();
  if (mask == before) return;
  impl_.store.Put(it, Set::kHolders, key, mask);
  const auto at = static_cast<size_t>(tier);
  if (before == 0) holder.runs[at].Add(first.run());
  holder.whole[at] += static_cast<uint64_t>(std::popcount(mask & ~before));
  impl_.Retain(BlockRef(first.run(), static_cast<uint32_t>(63 - std::countl_zero(mask))));
}

void ChainRestore::HoldSpecial(uint32_t run, uint32_t block_at, HolderId id, Tier tier,
                               uint32_t span, uint32_t copies) {
  Holder& holder = impl_.holders.at(id);
  const BlockRef block(At(run, block_at));
  const uint32_t held = impl_.HeldSpan(holder, id, tier, block);
  if (held == 0) return;
  if (copies > 1) impl_.copies[Impl::CopyKey(block, id, tier)] = copies - 1;
  if (span == held) return;
  impl_.AddHolding(holder, id, tier, Target{block, span});
  impl_.EraseHolding(holder, id, tier, Target{block, held});
}

void ChainRestore::ExpectNames(uint64_t count) { impl_.store.ReserveNames(count); }

void ChainRestore::Name(uint32_t run, AliasSpace id, uint64_t blocks,
                        std::span<const EngineHash> names) {
  Space& space = impl_.spaces.at(id);
  impl_.Prefetch(names, 0, names.size());
  // Nearly always all at once.
  uint64_t bound = 0;
  if (!apart_.contains(run)) {
    const BlockRef first(first_[run]);
    const auto added = impl_.store.AddNamesOfRun(static_cast<uint32_t>(id), first.run(),
                                                 blocks << first.offset(), names.data());
    impl_.Bound(space, first.run(), added);
    bound = added.blocks >> first.offset();
    if (bound == blocks && impl_.NamespaceOf(first)->domain == nullptr) return;
  }
  for (size_t i = 0; blocks != 0 && i < names.size(); ++i, blocks &= blocks - 1) {
    const auto at = static_cast<uint32_t>(std::countr_zero(blocks));
    const BlockRef block(At(run, at));
    if ((bound & RunStore::Bit(at)) != 0) {
      impl_.JoinName(space, names[i], Target{block, 1});
      continue;
    }
    bool heard = false;
    if (impl_.FindName(id, space, names[i], &heard)) continue;
    impl_.Bind(id, space, names[i], Target{block, 1}, heard, names.size() - i - 1);
  }
}

void ChainRestore::SetSpan(uint32_t run, uint32_t block, AliasSpace id, EngineHash name,
                           uint32_t span) {
  Space& space = impl_.spaces.at(id);
  const auto target = impl_.FindName(id, space, name);
  if (!target || target->block != BlockRef(At(run, block)) || target->span == span) return;
  impl_.SetSpan(space, name, span);
  impl_.RespanName(space, name, Target{target->block, span});
}

void ChainRestore::Join(uint32_t run, const PoolDomain& key, uint32_t group, uint64_t blocks,
                        std::span<const EngineHash> names, std::span<const uint32_t> spans) {
  const auto domain = impl_.domains.find(key);
  if (domain == impl_.domains.end()) return;
  for (size_t i = 0; blocks != 0 && i < names.size(); ++i, blocks &= blocks - 1) {
    const auto found = domain->second->names.find(PoolName{group, names[i]});
    if (found == domain->second->names.end()) continue;
    const BlockRef block(At(run, static_cast<uint32_t>(std::countr_zero(blocks))));
    if (impl_.NamespaceOf(block)->domain != domain->second.get()) continue;
    NameEntry& entry = found->second;
    const bool there = std::ranges::any_of(
        entry.blocks, [block](const Joined& joined) { return joined.target.block == block; });
    if (there) continue;
    if (entry.blocks.empty()) {
      for (const Claim& claim : entry.claims) ++impl_.pools.at(claim.pool).stats.joined;
    }
    const Target target{block, spans[i]};
    entry.blocks.push_back(Joined{target, 0});
    for (const Claim& claim : entry.claims) impl_.HoldClaim(claim, target);
  }
}

void ChainRestore::Finish() {
  std::vector<uint32_t> touched;
  // Children before their parents: so is what is released.
  for (uint32_t run = runs(); run-- > 0;) {
    for (uint32_t i = length_[run]; i-- > 0;) {
      const BlockRef block(At(run, i));
      const bool last_there =
          i + 1u == length_[run] || BlockRef(At(run, i + 1)).run() != block.run();
      if (!last_there) continue;
      touched.push_back(block.run());
      if (block.offset() < impl_.store.run(block.run()).retained) continue;
      // With it all that stands before it and is not held.
      impl_.Retain(block);
      impl_.ReleaseIfUnheld(block);
    }
  }
  std::ranges::sort(touched);
  touched.erase(std::unique(touched.begin(), touched.end()), touched.end());
  impl_.ForgetNamelessLeaves(touched);
  first_.clear();
  length_.clear();
  apart_.clear();
}

}  // namespace conductor::index
