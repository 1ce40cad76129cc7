#include "lib/index/prefix_index.h"

#include <algorithm>
#include <shared_mutex>
#include <utility>

#include "lib/index/prefix_index_impl.h"

namespace conductor::index {
namespace {

bool Counts(Tier tier, CopyMode copies) { return tier == Tier::kGpu && copies == CopyMode::kCount; }

}  // namespace

PrefixIndex::PrefixIndex(Options options) : impl_(std::make_unique<Impl>(options)) {}
PrefixIndex::~PrefixIndex() = default;

const PrefixIndex::Options& PrefixIndex::options() const { return impl_->options; }

IndexStats PrefixIndex::Stats() const {
  const std::shared_lock<FairSharedMutex> lock(impl_->mutex);
  IndexStats stats;
  for (const auto& [key, name_space] : impl_->namespaces) stats.blocks += name_space->blocks.size();
  stats.released = impl_->released.size();
  for (const auto& [id, holder] : impl_->holders) {
    for (const uint64_t whole : holder.whole) stats.holdings += whole;
  }
  for (const auto& [id, space] : impl_->spaces) stats.aliases += space.names.size();
  stats.holders = impl_->holders.size();
  stats.name_conflicts = impl_->name_conflicts;
  return stats;
}

std::vector<NamespaceStats> PrefixIndex::Namespaces() const {
  const std::shared_lock<FairSharedMutex> lock(impl_->mutex);
  std::vector<NamespaceStats> all;
  for (const auto& [key, name_space] : impl_->namespaces) {
    all.push_back(NamespaceStats{key, name_space->blocks.size()});
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

bool PrefixIndex::HasPoolProfiles() const {
  const std::shared_lock<FairSharedMutex> lock(impl_->mutex);
  return std::ranges::any_of(impl_->pools,
                             [](const auto& entry) { return entry.second.profile.has_value(); });
}

PrefixIndex::Writer PrefixIndex::Write() { return Writer(impl_.get()); }

PrefixIndex::Writer::Writer(Impl* impl) : impl_(impl) { impl_->mutex.lock(); }

PrefixIndex::Writer::Writer(Writer&& other) noexcept : impl_(std::exchange(other.impl_, nullptr)) {}

PrefixIndex::Writer::~Writer() {
  if (impl_ == nullptr) return;
  impl_->TrimReleased();
  impl_->mutex.unlock();
}

HolderId PrefixIndex::Writer::AddHolder(const RankKey& rank, uint32_t publisher, bool visible) {
  Namespace* name_space = impl_->FindOrAddNamespace(rank.name_space);
  const HolderId id = impl_->NewHolder(name_space, publisher, visible);
  Group* group = impl_->FindOrAddGroup(name_space, rank);
  group->holders.push_back(id);
  impl_->holders.at(id).group = group;
  return id;
}

AliasSpace PrefixIndex::Writer::AddSpace(uint32_t publisher, uint32_t group) {
  const AliasSpace id{impl_->next_space++};
  impl_->spaces.emplace(id, Space{publisher, group, {}});
  return id;
}

void PrefixIndex::Writer::SetVisible(HolderId holder, bool visible) {
  impl_->holders.at(holder).visible = visible;
}

void PrefixIndex::Writer::DropHolder(HolderId id) {
  for (const Tier tier : kTiers) impl_->ClearTier(id, tier);
  impl_->EraseHolder(id);
}

void PrefixIndex::Writer::DropSpace(AliasSpace id) {
  const auto found = impl_->spaces.find(id);
  const Space space = std::move(found->second);
  impl_->spaces.erase(found);
  absl::flat_hash_set<Block*> blocks;
  for (const auto& [name, target] : space.names) blocks.insert(target.block);
  for (Block* block : blocks) {
    std::erase_if(block->aliases, [&](const Alias& alias) { return alias.space == id; });
  }
  for (const auto& [name, target] : space.names) {
    impl_->PartName(space, name, target.block, /*moved=*/false);
  }
  impl_->ForgetNamelessLeaves(blocks);
}

StoreOutcome PrefixIndex::Writer::Store(const StoreRequest& request) {
  Namespace* name_space = impl_->holders.at(request.holder).name_space;
  Block* parent = nullptr;
  if (request.parent) {
    const auto& names = impl_->spaces.at(request.space).names;
    const auto found = names.find(*request.parent);
    if (found == names.end()) return StoreOutcome::kUnknownParent;
    parent = found->second.block;
    if (parent->name_space != name_space) return StoreOutcome::kUnknownParent;
  }
  std::vector<PrefixHash> prefixes(request.span);
  std::vector<Block*> gone;
  for (size_t i = 0; i < request.hashes.size(); ++i) {
    std::optional<PrefixHash> previous;
    if (parent != nullptr) previous = parent->prefix;
    for (size_t j = 0; j < request.span; ++j) {
      prefixes[j] = request.prefixes.empty()
                        ? impl_->Prefix(previous, request.locals[i * request.span + j])
                        : request.prefixes[i];
      previous = prefixes[j];
    }
    const Target target = impl_->Resolve(request, name_space, request.hashes[i], parent, prefixes);
    if (request.gone.empty() || request.gone[i] == 0) {
      impl_->Hold(request.holder, request.tier, Counts(request.tier, request.copies), target);
    } else {
      gone.push_back(target.block);
    }
    parent = target.block;
  }
  for (size_t i = gone.size(); i-- > 0;) {
    impl_->Retain(gone[i]);
    impl_->ReleaseIfUnheld(gone[i]);
  }
  return StoreOutcome::kStored;
}

bool PrefixIndex::Writer::StoreKnown(HolderId holder, AliasSpace space, Tier tier, CopyMode copies,
                                     EngineHash name) {
  const auto& names = impl_->spaces.at(space).names;
  const auto found = names.find(name);
  if (found == names.end()) return false;
  if (found->second.block->name_space != impl_->holders.at(holder).name_space) return false;
  impl_->Hold(holder, tier, Counts(tier, copies), found->second);
  return true;
}

const NamespaceKey* PrefixIndex::Writer::NamespaceOf(AliasSpace space, EngineHash name) const {
  const auto& names = impl_->spaces.at(space).names;
  const auto found = names.find(name);
  return found == names.end() ? nullptr : &found->second.block->name_space->key;
}

bool PrefixIndex::Writer::Knows(AliasSpace space, EngineHash name) const {
  return impl_->spaces.at(space).names.contains(name);
}

RemoveOutcome PrefixIndex::Writer::Remove(HolderId holder, AliasSpace space, Tier tier,
                                          EngineHash name) {
  const auto& names = impl_->spaces.at(space).names;
  const auto found = names.find(name);
  if (found == names.end()) return RemoveOutcome::kUnknownName;
  Block* block = found->second.block;
  Holding* holding = impl_->FindHolding(block, holder, tier, false);
  if (holding == nullptr) return RemoveOutcome::kNotHeld;
  if (--holding->count == 0) impl_->EraseWhole(block, holding);
  return RemoveOutcome::kRemoved;
}

bool PrefixIndex::Writer::Holds(HolderId holder, AliasSpace space, Tier tier,
                                EngineHash name) const {
  const auto& names = impl_->spaces.at(space).names;
  const auto found = names.find(name);
  return found != names.end() &&
         impl_->FindHolding(found->second.block, holder, tier, false) != nullptr;
}

uint64_t PrefixIndex::Writer::Clear(HolderId holder, Tier tier) {
  return impl_->ClearTier(holder, tier);
}

}  // namespace conductor::index
