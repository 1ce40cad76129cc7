#include "lib/index/prefix_index.h"

#include <algorithm>
#include <random>
#include <shared_mutex>
#include <utility>

#include "lib/index/prefix_index_impl.h"

namespace conductor::index {
namespace {

bool Counts(Tier tier, CopyMode copies) { return tier == Tier::kGpu && copies == CopyMode::kCount; }

}  // namespace

PrefixIndex::Impl::Impl(Options given)
    : options(given),
      store((uint64_t{std::random_device()()} << 32) + std::random_device()()),
      history(given.history) {}

PrefixIndex::PrefixIndex(Options options) : impl_(std::make_unique<Impl>(options)) {}
PrefixIndex::~PrefixIndex() = default;

const PrefixIndex::Options& PrefixIndex::options() const { return impl_->options; }

IndexStats PrefixIndex::Stats() const {
  const std::shared_lock<FairSharedMutex> lock(impl_->mutex);
  IndexStats stats;
  stats.blocks = impl_->blocks;
  stats.released = impl_->released.count();
  for (const auto& [id, holder] : impl_->holders) {
    for (const uint64_t whole : holder.whole) stats.holdings += whole;
  }
  stats.aliases = impl_->aliases;
  stats.holders = impl_->holders.size();
  stats.name_conflicts = impl_->name_conflicts;
  stats.runs = impl_->store.run_count();
  stats.bytes = impl_->Bytes();
  stats.trimmed = impl_->trimmed;
  stats.trims = impl_->trims;
  return stats;
}

std::vector<NamespaceStats> PrefixIndex::Namespaces() const {
  const std::shared_lock<FairSharedMutex> lock(impl_->mutex);
  std::vector<NamespaceStats> all;
  for (const auto& [key, name_space] : impl_->namespaces) {
    all.push_back(NamespaceStats{key, name_space->blocks});
  }
  return all;
}

std::vector<RankStats> PrefixIndex::Ranks(std::optional<std::string_view> instance) const {
  const std::shared_lock<FairSharedMutex> lock(impl_->mutex);
  std::vector<RankStats> all;
  for (const auto& [key, name_space] : impl_->namespaces) {
    for (const auto& [name, group] : name_space->groups) {
      if (instance && name.first != *instance) continue;
      RankStats stats{.rank = *group.rank};
      for (const HolderId id : group.holders) {
        const Holder& holder = impl_->holders.at(id);
        if (!holder.visible) continue;
        ++stats.holders;
        for (size_t tier = 0; tier < kTierCount; ++tier) stats.blocks[tier] += holder.whole[tier];
      }
      if (stats.holders > 0) all.push_back(std::move(stats));
    }
  }
  return all;
}

uint64_t PrefixIndex::HeldBlocks(HolderId holder, Tier tier) const {
  const std::shared_lock<FairSharedMutex> lock(impl_->mutex);
  const auto found = impl_->holders.find(holder);
  return found == impl_->holders.end() ? 0 : found->second.whole[static_cast<size_t>(tier)];
}

PoolStats PrefixIndex::StatsOf(PoolId pool) const {
  const std::shared_lock<FairSharedMutex> lock(impl_->mutex);
  const auto found = impl_->pools.find(pool);
  return found == impl_->pools.end() ? PoolStats{} : found->second.stats;
}

bool PrefixIndex::HasPoolProfiles() const { return impl_->profiles > 0; }

uint64_t PrefixIndex::Trims() const { return impl_->trims; }

uint64_t PrefixIndex::TrimmedOf(HolderId holder) const {
  const std::shared_lock<FairSharedMutex> lock(impl_->mutex);
  const auto found = impl_->holders.find(holder);
  return found == impl_->holders.end() ? 0 : found->second.trimmed;
}

PrefixIndex::Writer PrefixIndex::Write(const Occasion& occasion) {
  Writer writer(impl_.get());
  impl_->occasion = occasion;
  return writer;
}

PrefixIndex::Writer::Writer(Impl* impl) : impl_(impl) { impl_->mutex.lock(); }

PrefixIndex::Writer::Writer(Writer&& other) noexcept : impl_(std::exchange(other.impl_, nullptr)) {}

PrefixIndex::Writer::~Writer() {
  if (impl_ == nullptr) return;
  impl_->TrimReleased();
  impl_->KeepBudget();
  impl_->PublishRosters();
  impl_->released.Tidy();
  impl_->store.Collect();
  impl_->mutex.unlock();
}

HolderId PrefixIndex::Writer::AddHolder(const RankKey& rank, uint32_t publisher, bool visible,
                                        std::string called) {
  Namespace* name_space = impl_->FindOrAddNamespace(rank.name_space);
  const HolderId id = impl_->NewHolder(name_space, publisher, visible);
  Group& group = name_space->groups[{rank.instance_id, rank.dp_rank}];
  if (!group.rank) group.rank = std::make_shared<const RankKey>(rank);
  group.holders.push_back(id);
  Holder& holder = impl_->holders.at(id);
  holder.group = &group;
  holder.source = impl_->history.AddSource(group.rank, std::move(called));
  return id;
}

AliasSpace PrefixIndex::Writer::AddSpace(uint32_t publisher, uint32_t group) {
  const AliasSpace id{impl_->next_space++};
  Space space{};
  space.publisher = publisher;
  space.group = group;
  impl_->spaces.emplace(id, std::move(space));
  return id;
}

void PrefixIndex::Writer::SetVisible(HolderId id, bool visible) {
  Holder& holder = impl_->holders.at(id);
  holder.visible = visible;
  impl_->appeared |= visible;
  impl_->unpublished.insert(holder.name_space);
}

void PrefixIndex::Writer::DropHolder(HolderId id, RemovalCause cause) {
  // Those that take its place are seen before it goes.
  if (impl_->appeared) impl_->PublishRosters();
  for (const Tier tier : kTiers) impl_->ClearTier(id, tier, cause);
  impl_->EraseHolder(id);
}

void PrefixIndex::Writer::DropSpace(AliasSpace id) {
  const auto found = impl_->spaces.find(id);
  const auto number = static_cast<uint32_t>(id);
  Space space = std::move(found->second);
  const std::vector<uint32_t> runs = space.runs.Take();
  impl_->spaces.erase(found);
  std::vector<std::pair<uint32_t, EngineHash>> names;
  constexpr size_t kAhead = 8;
  for (size_t i = 0; i < runs.size(); ++i) {
    const uint32_t run = runs[i];
    if (i + kAhead < runs.size()) impl_->store.PrefetchRun(runs[i + kAhead]);
    if ((impl_->store.run(run).flags & Run::kUsed) == 0) continue;
    names.clear();
    impl_->store.ForEachNameOf(
        number, run, [&](uint32_t offset, EngineHash name) { names.emplace_back(offset, name); });
    impl_->store.DropNamesOf(number, run);
    impl_->aliases -= names.size();
    Namespace* name_space = impl_->by_number[impl_->store.run(run).name_space];
    for (const auto& [offset, name] : names) {
      impl_->PartName(space, name, name_space, BlockRef(run, offset), /*moved=*/false);
    }
  }
  impl_->ForgetNamelessLeaves(runs);
}

StoreOutcome PrefixIndex::Writer::Store(const StoreRequest& request) {
  Impl& impl = *impl_;
  // A batch may be long: the budget is not for its end alone.
  constexpr uint64_t kBetweenLooks = 64;
  if (impl.announced % kBetweenLooks == kBetweenLooks - 1) impl.KeepBudget();
  Holder& holder = impl.holders.at(request.holder);
  Space& space = impl.spaces.at(request.space);
  Namespace* name_space = holder.name_space;
  Impl::Tip tip;
  if (request.parent) {
    const auto found = impl.FindName(request.space, space, *request.parent);
    if (!found) return StoreOutcome::kUnknownParent;
    tip.block = found->block;
    if (impl.NamespaceOf(tip.block) != name_space) return StoreOutcome::kUnknownParent;
  }
  const bool counts = Counts(request.tier, request.copies);
  const auto stamp = static_cast<uint32_t>(++impl.announced >> 6);
  PrefixHash one{};
  std::vector<PrefixHash> several(request.span > 1 ? request.span : 0);
  const std::span<PrefixHash> prefixes =
      request.span > 1 ? std::span<PrefixHash>(several) : std::span<PrefixHash>(&one, 1);
  std::vector<BlockRef> gone;
  std::optional<PrefixHash> previous;
  if (tip.block.is_block()) previous = impl.store.prefix(tip.block);
  constexpr size_t kAhead = 32;  // names that are looked up together
  if (request.hashes.size() > 2) impl.Prefetch(request.hashes, 0, kAhead);
  for (size_t i = 0; i < request.hashes.size(); ++i) {
    if (i % kAhead == 0) impl.Prefetch(request.hashes, i + kAhead, kAhead);
    for (size_t j = 0; j < request.span; ++j) {
      prefixes[j] = request.prefixes.empty()
                        ? impl.Prefix(previous, request.locals[i * request.span + j])
                        : request.prefixes[i];
      previous = prefixes[j];
    }
    tip.more = (request.hashes.size() - i - 1) * request.span;
    const Target target =
        impl.Resolve(request, space, name_space, request.hashes[i], tip, prefixes);
    // Below the device a known name may stand for another block than the tokens say.
    if (impl.store.prefix(target.block) != prefixes.back()) {
      previous = impl.store.prefix(target.block);
    }
    if (request.gone.empty() || request.gone[i] == 0) {
      impl.Hold(holder, request.holder, request.tier, counts, target);
    } else {
      gone.push_back(target.block);
    }
    impl.store.run(target.block.run()).stamp = stamp;
    if (target.left.is_block()) impl.LetGo(target.left);
  }
  for (size_t i = gone.size(); i-- > 0;) {
    // Its name may have moved on within the event, and it was forgotten for want of another.
    if (!impl.store.Exists(gone[i])) continue;
    impl.Retain(gone[i]);
    impl.ReleaseIfUnheld(gone[i]);
  }
  return StoreOutcome::kStored;
}

bool PrefixIndex::Writer::StoreKnown(HolderId id, AliasSpace space, Tier tier, CopyMode copies,
                                     EngineHash name) {
  const auto found = impl_->FindName(space, impl_->spaces.at(space), name);
  if (!found) return false;
  Holder& holder = impl_->holders.at(id);
  if (impl_->NamespaceOf(found->block) != holder.name_space) return false;
  impl_->Hold(holder, id, tier, Counts(tier, copies), *found);
  impl_->store.run(found->block.run()).stamp = static_cast<uint32_t>(++impl_->announced >> 6);
  return true;
}

const NamespaceKey* PrefixIndex::Writer::NamespaceOf(AliasSpace space, EngineHash name) const {
  const auto found = impl_->FindName(space, impl_->spaces.at(space), name);
  return found ? impl_->NamespaceOf(found->block)->key.get() : nullptr;
}

std::optional<NamespaceId> PrefixIndex::Writer::NamespaceIdOf(AliasSpace space,
                                                              EngineHash name) const {
  const auto found = impl_->FindName(space, impl_->spaces.at(space), name);
  if (!found) return std::nullopt;
  return NamespaceId{impl_->NamespaceOf(found->block)->number};
}

NamespaceId PrefixIndex::Writer::NamespaceIdOf(HolderId holder) const {
  return NamespaceId{impl_->holders.at(holder).name_space->number};
}

void PrefixIndex::Writer::Prefetch(std::span<const EngineHash> names) const {
  impl_->Prefetch(names, 0, names.size());
}

bool PrefixIndex::Writer::Knows(AliasSpace space, EngineHash name) const {
  return impl_->FindName(space, impl_->spaces.at(space), name).has_value();
}

RemoveOutcome PrefixIndex::Writer::Remove(HolderId id, AliasSpace space, Tier tier, EngineHash name,
                                          RemovalCause cause) {
  const auto found = impl_->FindName(space, impl_->spaces.at(space), name);
  if (!found) return RemoveOutcome::kUnknownName;
  Holder& holder = impl_->holders.at(id);
  if (impl_->NamespaceOf(found->block) != holder.name_space) return RemoveOutcome::kOtherNamespace;
  return impl_->Leave(holder, id, tier, found->block, cause) ? RemoveOutcome::kRemoved
                                                             : RemoveOutcome::kNotHeld;
}

bool PrefixIndex::Writer::Holds(HolderId id, AliasSpace space, Tier tier, EngineHash name) const {
  const auto found = impl_->FindName(space, impl_->spaces.at(space), name);
  return found && impl_->HeldSpan(impl_->holders.at(id), id, tier, found->block) != 0;
}

uint64_t PrefixIndex::Writer::Clear(HolderId holder, Tier tier) {
  return impl_->ClearTier(holder, tier, RemovalCause::kCleared);
}

}  // namespace conductor::index
