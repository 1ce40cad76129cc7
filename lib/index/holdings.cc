// PrefixIndex: who holds what.

#include "lib/index/prefix_index_impl.h"

#include <algorithm>

namespace conductor::index {

Holding* PrefixIndex::Impl::FindHolding(Block* block, HolderId holder, Tier tier, bool inner) {
  for (Holding& holding : block->holdings) {
    if (holding.holder == holder && holding.tier == tier && (holding.span == kInner) == inner) {
      return &holding;
    }
  }
  return nullptr;
}

void PrefixIndex::Impl::AddHolding(Block* block, HolderId id, Tier tier, uint32_t span) {
  block->holdings.push_back(Holding{id, tier, span, 1});
  holders.at(id).blocks[static_cast<size_t>(tier)].insert(block);
  Retain(block);
}

void PrefixIndex::Impl::EraseHolding(Block* block, Holding* holding) {
  const HolderId id = holding->holder;
  const Tier tier = holding->tier;
  block->holdings.erase(block->holdings.begin() + (holding - block->holdings.data()));
  const bool more = std::ranges::any_of(block->holdings, [&](const Holding& other) {
    return other.holder == id && other.tier == tier;
  });
  if (!more) holders.at(id).blocks[static_cast<size_t>(tier)].erase(block);
  ReleaseIfUnheld(block);
}

void PrefixIndex::Impl::HoldInner(HolderId id, Tier tier, Block* last, uint32_t span) {
  Block* inner = last->parent;
  for (uint32_t i = 1; i < span; ++i, inner = inner->parent) {
    if (Holding* holding = FindHolding(inner, id, tier, true)) {
      ++holding->count;
    } else {
      AddHolding(inner, id, tier, kInner);
    }
  }
}

void PrefixIndex::Impl::LeaveInner(HolderId id, Tier tier, Block* last, uint32_t span) {
  Block* inner = last->parent;
  for (uint32_t i = 1; i < span; ++i) {
    Block* next = inner->parent;
    Holding* part = FindHolding(inner, id, tier, true);
    if (--part->count == 0) EraseHolding(inner, part);
    inner = next;
  }
}

void PrefixIndex::Impl::Hold(HolderId id, Tier tier, bool counts, Target target) {
  Holding* holding = FindHolding(target.block, id, tier, false);
  if (holding == nullptr) {
    AddHolding(target.block, id, tier, target.span);
    ++holders.at(id).whole[static_cast<size_t>(tier)];
    HoldInner(id, tier, target.block, target.span);
    return;
  }
  if (counts) ++holding->count;
  const uint32_t before = std::exchange(holding->span, target.span);
  if (before == target.span) return;
  HoldInner(id, tier, target.block, target.span);
  LeaveInner(id, tier, target.block, before);
}

void PrefixIndex::Impl::EraseWhole(Block* block, Holding* holding) {
  const HolderId id = holding->holder;
  const Tier tier = holding->tier;
  const uint32_t span = holding->span;
  EraseHolding(block, holding);
  --holders.at(id).whole[static_cast<size_t>(tier)];
  LeaveInner(id, tier, block, span);
}

bool PrefixIndex::Impl::EraseAllOf(uint32_t publisher, Block* block) {
  bool erased = false;
  for (size_t i = block->holdings.size(); i-- > 0;) {
    Holding& holding = block->holdings[i];
    if (holding.span == kInner || holders.at(holding.holder).publisher != publisher) continue;
    EraseWhole(block, &holding);
    erased = true;
  }
  return erased;
}

uint64_t PrefixIndex::Impl::ClearTier(HolderId id, Tier tier) {
  Holder& holder = holders.at(id);
  const size_t t = static_cast<size_t>(tier);
  const uint64_t cleared = std::exchange(holder.whole[t], 0);
  const auto blocks = std::exchange(holder.blocks[t], {});
  for (Block* block : blocks) {
    std::erase_if(block->holdings, [&](const Holding& holding) {
      return holding.holder == id && holding.tier == tier;
    });
  }
  // In any order: a block is released once its children are, and each release goes on to the
  // parent, so the list of released blocks stays leaf before parent.
  for (Block* block : blocks) ReleaseIfUnheld(block);
  ForgetNamelessLeaves(blocks);
  return cleared;
}

}  // namespace conductor::index
