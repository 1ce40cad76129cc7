// PrefixIndex: blocks, their lifetime, their names.

#include <algorithm>
#include <bit>
#include <utility>

#include "lib/index/prefix_index_impl.h"

namespace conductor::index {
namespace {

// An engine has one name for a block, or a few where something that it hashes is not told. With a
// name for each of very many salts they would pile up at the blocks that are never released.
constexpr size_t kMaxNamesOfBlock = 64;

}  // namespace

Namespace* PrefixIndex::Impl::FindOrAddNamespace(const NamespaceKey& key) {
  auto& slot = namespaces[key];
  if (slot) return slot.get();
  slot = std::make_unique<Namespace>();
  slot->key = std::make_shared<const NamespaceKey>(key);
  if (free_numbers.empty()) {
    slot->number = static_cast<uint32_t>(by_number.size());
    by_number.push_back(slot.get());
  } else {
    slot->number = free_numbers.back();
    free_numbers.pop_back();
    by_number[slot->number] = slot.get();
  }
  const auto domain = domains.find({key.tenant, key.model, key.additional_salt});
  if (domain != domains.end()) slot->domain = domain->second.get();
  unpublished.insert(slot.get());
  return slot.get();
}

void PrefixIndex::Impl::ForgetIfEmpty(Namespace* name_space) {
  if (name_space->blocks > 0 || !name_space->groups.empty()) return;
  for (const auto& [pool, id] : name_space->pool_holders) holders.erase(id);
  by_number[name_space->number] = nullptr;
  free_numbers.push_back(name_space->number);
  unpublished.erase(name_space);
  {
    const std::unique_lock lock(roster_mutex);
    rosters.namespaces.erase(*name_space->key);
  }
  namespaces.erase(NamespaceKey(*name_space->key));
}

PrefixHash PrefixIndex::Impl::Prefix(std::optional<PrefixHash> parent, LocalHash local) const {
  return parent ? hash::NextPrefix(*parent, local, options.hash_seed) : hash::FirstPrefix(local);
}

BlockRef PrefixIndex::Impl::FindOrAddSpan(Namespace* name_space, Tip& tip,
                                          std::span<const PrefixHash> prefixes) {
  for (size_t i = 0; i < prefixes.size(); ++i) {
    BlockRef child;
    if (!tip.bare) child = store.FindChild(name_space->number, tip.block, prefixes[i]);
    if (!child.is_block()) {
      const size_t more = tip.more + prefixes.size() - i - 1;
      child = store.AddChild(name_space->number, tip.block, prefixes[i], more);
      ++blocks;
      ++name_space->blocks;
      tip.bare = true;
    }
    tip.block = child;
  }
  return tip.block;
}

void PrefixIndex::Impl::Retain(BlockRef block) {
  while (block.is_block()) {
    Run& run = store.run(block.run());
    const uint32_t before = run.retained;
    const uint32_t wanted = block.offset() + 1;
    if (before >= wanted) return;
    released.Remove(block.run(), wanted);
    run.retained = static_cast<uint8_t>(wanted);
    if (before > 0) return;
    store.PlaceAmongSiblings(block.run());
    block = BlockRef(run.parent);
  }
}

bool PrefixIndex::Impl::IsHeld(BlockRef block) const {
  bool held = false;
  store.ForEach(store.run(block.run()), RunStore::Set::kHolders, [&](uint64_t, uint64_t mask) {
    held = (mask & RunStore::Bit(block.offset())) != 0;
    return !held;
  });
  return held;
}

void PrefixIndex::Impl::ReleaseIfUnheld(BlockRef block) {
  while (block.is_block()) {
    const uint32_t id = block.run();
    Run& run = store.run(id);
    const uint32_t before = run.retained;
    // Only the last of those that stay can be the one that they stay for.
    if (before != block.offset() + 1) return;
    uint32_t after = before;
    while (after > 0 && !IsHeld(BlockRef(id, after - 1)) &&
           !store.HasRetainedChildRun(BlockRef(id, after - 1))) {
      --after;
    }
    if (after == before) return;
    released.Add(id, after, before);
    run.retained = static_cast<uint8_t>(after);
    if (after > 0) return;
    store.PlaceAmongSiblings(id);
    block = BlockRef(run.parent);
  }
}

void PrefixIndex::Impl::ForgetOldest() {
  const BlockRef oldest = released.Oldest();
  const BlockRef parent = store.parent(oldest);
  Forget(oldest);
  ForgetNameless(parent);
}

void PrefixIndex::Impl::TrimReleased() {
  while (released.count() > options.released_limit) ForgetOldest();
}

void PrefixIndex::Impl::Forget(BlockRef block) {
  Namespace* name_space = NamespaceOf(block);
  constexpr uint32_t kAhead = 4;  // blocks that are likely to follow this one
  if (block.offset() >= kAhead) store.PrefetchName(BlockRef(block.value - kAhead));
  store.DropNames(block, [&](uint32_t space_id, EngineHash name, bool none_left) {
    Space& space = spaces.at(AliasSpace{space_id});
    --space.names;
    --aliases;
    if (!space.spans.empty()) space.spans.erase(name);
    PartName(space, name, name_space, block, /*moved=*/false);
    if (none_left) {
      space.runs.Left([&](uint32_t run) { return store.HasNamesOf(space_id, run); });
    }
  });
  released.RemoveLast(block.run());
  store.DropLast(block.run());
  --blocks;
  --name_space->blocks;
  ForgetIfEmpty(name_space);
}

bool PrefixIndex::Impl::IsNamelessLeaf(BlockRef block) const {
  const Run& run = store.run(block.run());
  if ((run.flags & Run::kUsed) == 0 || block.offset() + 1 != run.length) return false;
  if (block.offset() < run.retained) return false;
  return !store.HasNames(block) && !store.HasChildRun(block);
}

BlockRef PrefixIndex::Impl::ForgetNameless(BlockRef block) {
  while (block.is_block()) {
    store.CountIfMany(block.run());
    if (!IsNamelessLeaf(block)) break;
    const BlockRef parent = store.parent(block);
    Forget(block);
    block = parent;
  }
  return block;
}

void PrefixIndex::Impl::ForgetNamelessLeaves(std::span<const uint32_t> runs) {
  for (const uint32_t run : runs) {
    const Run& it = store.run(run);
    if ((it.flags & Run::kUsed) != 0) ForgetNameless(BlockRef(run, it.length - 1u));
  }
}

std::optional<Target> PrefixIndex::Impl::FindName(AliasSpace id, const Space& space,
                                                  EngineHash name, bool* heard) const {
  if (space.names == 0 && heard == nullptr) return std::nullopt;
  const auto number = static_cast<uint32_t>(id);
  RunStore::NamePlace& last = space.last;
  const RunStore::NamePlace before{BlockRef(last.block.value - 1), last.column};
  const bool likely = heard == nullptr && last.block.is_block() && last.block.offset() > 0;
  if (likely && store.IsName(number, name, before)) {
    last = before;
  } else {
    const RunStore::NamePlace found = store.FindName(number, name, heard);
    if (!found.block.is_block()) return std::nullopt;
    last = found;
  }
  const BlockRef block = last.block;
  if (space.spans.empty()) return Target{block, 1};
  const auto span = space.spans.find(name);
  return Target{block, span == space.spans.end() ? 1 : span->second};
}

void PrefixIndex::Impl::SetSpan(Space& space, EngineHash name, uint32_t span) {
  if (span != 1) {
    space.spans[name] = span;
  } else if (!space.spans.empty()) {
    space.spans.erase(name);
  }
}

void PrefixIndex::Impl::Bind(AliasSpace id, Space& space, EngineHash name, Target target,
                             bool heard, size_t more) {
  if (store.AddName(static_cast<uint32_t>(id), name, target.block, heard, more)) {
    space.runs.Add(target.block.run());
  }
  ++space.names;
  ++aliases;
  SetSpan(space, name, target.span);
  JoinName(space, name, Target{target.block, target.span});
}

void PrefixIndex::Impl::Bound(Space& space, uint32_t run, const RunStore::AddedNames& added) {
  if (added.first) space.runs.Add(run);
  const auto count = static_cast<uint64_t>(std::popcount(added.blocks));
  space.names += count;
  aliases += count;
}

void PrefixIndex::Impl::Unbind(AliasSpace id, Space& space, EngineHash name, BlockRef block) {
  if (store.DropName(static_cast<uint32_t>(id), name, block)) {
    space.runs.Left([&](uint32_t run) { return store.HasNamesOf(static_cast<uint32_t>(id), run); });
  }
  --space.names;
  --aliases;
  SetSpan(space, name, 1);
  PartName(space, name, NamespaceOf(block), block, /*moved=*/true);
}

void PrefixIndex::Impl::MakeRoomForName(AliasSpace id, Space& space, BlockRef block) {
  const auto number = static_cast<uint32_t>(id);
  if (store.CountNamesOf(number, block) < kMaxNamesOfBlock) return;
  std::vector<EngineHash> names;
  store.ForEachNameOf(number, block.run(), [&](uint32_t offset, EngineHash name) {
    if (offset == block.offset()) names.push_back(name);
  });
  EraseAllOf(space.publisher, block);
  for (const EngineHash name : names) Unbind(id, space, name, block);
  ++name_conflicts;
}

bool PrefixIndex::Impl::HasRoom(BlockRef block, uint32_t span) const {
  for (; block.is_block(); block = BlockRef(store.run(block.run()).parent)) {
    const uint32_t here = block.offset() + 1;
    if (span <= here) return true;
    span -= here;
  }
  return false;
}

Target PrefixIndex::Impl::Resolve(const StoreRequest& request, Space& space, Namespace* name_space,
                                  EngineHash name, Tip& tip, std::span<const PrefixHash> prefixes) {
  const AliasSpace id = request.space;
  const auto span = static_cast<uint32_t>(prefixes.size());
  bool heard = false;
  const auto known = FindName(id, space, name, &heard);
  if (!known) {
    Target target{FindOrAddSpan(name_space, tip, prefixes), span};
    target.fresh = tip.bare;
    if (!target.fresh) MakeRoomForName(id, space, target.block);
    Bind(id, space, name, target, heard, tip.more);
    if (request.bound != nullptr) request.bound->push_back(name);
    return target;
  }
  const bool same_namespace = NamespaceOf(known->block) == name_space;
  // A hash stands for all blocks before it, but where such hashes are told themselves one may have
  // come without those: then the span's inner blocks are not there.
  const bool same_block = same_namespace && store.prefix(known->block) == prefixes.back() &&
                          (span <= known->span || HasRoom(known->block, span));
  if (same_block || (same_namespace && request.tier != Tier::kGpu)) {
    const Target target{known->block, same_block ? span : known->span};
    if (known->span != target.span) {
      SetSpan(space, name, span);
      RespanName(space, name, target);
    }
    tip.block = target.block;
    tip.bare = false;
    return target;
  }
  // Let go of only when the new block is held: one name for block after block of a chain would
  // release and retain all that lies before, each time.
  const BlockRef old = known->block;
  if (EraseAllOf(space.publisher, old)) ++name_conflicts;
  Target target{FindOrAddSpan(name_space, tip, prefixes), span};
  target.left = old;
  Unbind(id, space, name, old);
  MakeRoomForName(id, space, target.block);
  Bind(id, space, name, target, /*heard=*/true, tip.more);
  if (request.bound != nullptr) request.bound->push_back(name);
  return target;
}

}  // namespace conductor::index
