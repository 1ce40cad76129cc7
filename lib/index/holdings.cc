// PrefixIndex: who holds what.

#include <algorithm>
#include <bit>

#include "lib/index/prefix_index_impl.h"

namespace conductor::index {

using Set = RunStore::Set;

uint32_t PrefixIndex::Impl::HeldSpan(const Holder& holder, HolderId id, Tier tier,
                                     BlockRef block) const {
  const Run& run = store.run(block.run());
  const uint64_t bit = RunStore::Bit(block.offset());
  const uint32_t upper = Upper(id, tier);
  if (!holder.has_spans) {
    return (store.Get(run, Set::kHolders, RunStore::Key(upper, 1)) & bit) != 0 ? 1 : 0;
  }
  uint32_t span = 0;
  store.ForEach(
      run, Set::kHolders,
      [&](uint64_t key, uint64_t mask) {
        if (RunStore::Upper(key) != upper) return false;
        if ((mask & bit) != 0) span = RunStore::Lower(key);
        return span == 0;
      },
      RunStore::Key(upper, 0));
  return span;
}

void PrefixIndex::Impl::AddHolding(Holder& holder, HolderId id, Tier tier, Target target) {
  Run& run = store.run(target.block.run());
  const uint64_t key = RunStore::Key(Upper(id, tier), target.span);
  const uint64_t before = store.Get(run, Set::kHolders, key);
  store.Put(run, Set::kHolders, key, before | RunStore::Bit(target.block.offset()));
  if (before == 0) holder.runs[static_cast<size_t>(tier)].Add(target.block.run());
  if (target.span > 1) {
    holder.has_spans = true;
    Namespace* name_space = holder.name_space;
    if (before == 0) ++name_space->span_entries;
    if (target.span > name_space->max_span) {
      name_space->max_span = target.span;
      unpublished.insert(name_space);
    }
  }
  Retain(target.block);
}

void PrefixIndex::Impl::EraseHolding(Holder& holder, HolderId id, Tier tier, Target target) {
  Run& run = store.run(target.block.run());
  const uint32_t upper = Upper(id, tier);
  const uint64_t key = RunStore::Key(upper, target.span);
  const uint64_t left = store.Get(run, Set::kHolders, key) & ~RunStore::Bit(target.block.offset());
  store.Put(run, Set::kHolders, key, left);
  if (left != 0) return;
  if (target.span > 1) SpanEntryGone(holder.name_space);
  holder.runs[static_cast<size_t>(tier)].Left([&](uint32_t candidate) {
    const Run& it = store.run(candidate);
    if ((it.flags & Run::kUsed) == 0) return false;
    bool has = false;
    store.ForEach(
        it, Set::kHolders,
        [&](uint64_t of, uint64_t) {
          has = RunStore::Upper(of) == upper;
          return false;
        },
        RunStore::Key(upper, 0));
    return has;
  });
}

void PrefixIndex::Impl::SpanEntryGone(Namespace* name_space) {
  if (--name_space->span_entries > 0) return;
  name_space->max_span = 1;
  unpublished.insert(name_space);
}

void PrefixIndex::Impl::Hold(Holder& holder, HolderId id, Tier tier, bool counts, Target target) {
  const uint32_t span = target.fresh ? 0 : HeldSpan(holder, id, tier, target.block);
  if (span == 0) {
    AddHolding(holder, id, tier, target);
    ++holder.whole[static_cast<size_t>(tier)];
    return;
  }
  if (counts) ++copies[CopyKey(target.block, id, tier)];
  if (span == target.span) return;
  AddHolding(holder, id, tier, target);
  EraseHolding(holder, id, tier, Target{target.block, span});
}

bool PrefixIndex::Impl::Leave(Holder& holder, HolderId id, Tier tier, BlockRef block,
                              RemovalCause cause) {
  const uint32_t span = HeldSpan(holder, id, tier, block);
  if (span == 0) return false;
  if (!copies.empty()) {
    const auto more = copies.find(CopyKey(block, id, tier));
    if (more != copies.end()) {
      if (--more->second == 0) copies.erase(more);
      return true;
    }
  }
  EraseHolding(holder, id, tier, Target{block, span});
  --holder.whole[static_cast<size_t>(tier)];
  Note(holder, tier, block, cause);
  ReleaseIfUnheld(block);
  return true;
}

bool PrefixIndex::Impl::EraseAllOf(uint32_t publisher, BlockRef block) {
  struct Held {
    HolderId id;
    Tier tier;
    uint32_t span;
  };
  std::vector<Held> held;
  store.ForEach(store.run(block.run()), Set::kHolders, [&](uint64_t key, uint64_t mask) {
    if ((mask & RunStore::Bit(block.offset())) == 0) return true;
    const HolderId id{RunStore::Upper(key) >> 2};
    if (holders.at(id).publisher != publisher) return true;
    held.push_back({id, static_cast<Tier>(RunStore::Upper(key) & 3), RunStore::Lower(key)});
    return true;
  });
  for (const Held& it : held) {
    Holder& holder = holders.at(it.id);
    copies.erase(CopyKey(block, it.id, it.tier));
    EraseHolding(holder, it.id, it.tier, Target{block, it.span});
    --holder.whole[static_cast<size_t>(it.tier)];
    Note(holder, it.tier, block, RemovalCause::kRenamed);
  }
  return !held.empty();
}

void PrefixIndex::Impl::LetGo(BlockRef block) {
  ReleaseIfUnheld(block);
  ForgetNameless(block);
}

uint64_t PrefixIndex::Impl::ClearTier(HolderId id, Tier tier, RemovalCause cause) {
  Holder& holder = holders.at(id);
  const uint32_t upper = Upper(id, tier);
  const uint64_t cleared = std::exchange(holder.whole[static_cast<size_t>(tier)], 0);
  // A hidden set that is thrown away was never told of.
  const bool shown =
      holder.visible || cause == RemovalCause::kCleared || cause == RemovalCause::kReplaced;
  if (cleared > 0 && shown && holder.source != RemovalHistory::kNoSource) {
    history.AddAll(holder.source, cause, tier, cleared, occasion);
  }
  const std::vector<uint32_t> runs = holder.runs[static_cast<size_t>(tier)].Take();
  for (const uint32_t run_id : runs) {
    Run& run = store.run(run_id);
    if ((run.flags & Run::kUsed) == 0) continue;
    for (;;) {
      uint64_t key = 0;
      uint64_t held = 0;
      store.ForEach(
          run, Set::kHolders,
          [&](uint64_t of, uint64_t mask) {
            if (RunStore::Upper(of) != upper) return false;
            key = of;
            held = mask;
            return false;
          },
          RunStore::Key(upper, 0));
      if (held == 0) break;
      store.Put(run, Set::kHolders, key, 0);
      if (RunStore::Lower(key) > 1) SpanEntryGone(holder.name_space);
      for (; held != 0 && !copies.empty(); held &= held - 1) {
        copies.erase(
            CopyKey(BlockRef(run_id, static_cast<uint32_t>(std::countr_zero(held))), id, tier));
      }
    }
  }
  // In any order: a block is released once its children are, and each release goes on to the
  // parent, so the list of released blocks stays leaf before parent.
  for (const uint32_t run_id : runs) {
    const Run& run = store.run(run_id);
    if ((run.flags & Run::kUsed) != 0 && run.retained > 0) {
      ReleaseIfUnheld(BlockRef(run_id, run.retained - 1u));
    }
  }
  ForgetNamelessLeaves(runs);
  if (std::ranges::count(holder.whole, 0u) == kTierCount) holder.trimmed = 0;
  return cleared;
}

}  // namespace conductor::index
