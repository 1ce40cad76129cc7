#include "lib/ingest/publisher_life.h"

#include <algorithm>
#include <limits>
#include <set>
#include <utility>
#include <variant>

#include "lib/ingest/event_rules.h"

namespace conductor::ingest {
namespace {

std::optional<Tier> TierOf(const std::optional<std::string>& medium) {
  return TierOfMedium(medium ? std::string_view(*medium) : std::string_view());
}

int64_t GroupOf(const wire::CacheGroup& group) { return group.index.value_or(0); }

}  // namespace

PublisherLife::PublisherLife(index::PrefixIndex& index, const PublisherProfile& profile,
                             const IngestLimits& limits, uint32_t number, bool visible,
                             IngestCounters& counters)
    : index_(index),
      profile_(profile),
      limits_(limits),
      number_(number),
      visible_(visible),
      counters_(counters),
      block_size_(profile.block_size),
      waiting_(limits.max_waiting_bytes) {
  if (profile.hash_profile && limits.hash_check_every > 0) {
    hash_check_ = std::make_unique<HashCheck>(*profile.hash_profile, limits.hash_check_every);
  }
}

PublisherLife::~PublisherLife() {
  if (holders_.empty() && spaces_.empty()) return;
  Writer writer = index_.Write();
  LeaveIndex(writer);
}

void PublisherLife::LeaveIndex(Writer& writer) {
  for (const auto& [key, holder] : holders_) writer.DropHolder(holder);
  for (const auto& [key, space] : spaces_) writer.DropSpace(space);
  holders_.clear();
  spaces_.clear();
}

void PublisherLife::Replace(PublisherLife& other) {
  Writer writer = index_.Write();
  for (const auto& [key, holder] : holders_) writer.SetVisible(holder, true);
  visible_ = true;
  other.LeaveIndex(writer);
}

bool PublisherLife::HoldsNothing() const {
  if (!waiting_.empty()) return false;
  return std::ranges::all_of(holders_, [&](const auto& entry) {
    return std::ranges::all_of(
        kTiers, [&](Tier tier) { return index_.HeldBlocks(entry.second, tier) == 0; });
  });
}

void PublisherLife::Apply(const wire::EventBatch& batch, MonoTime now) {
  now_ = now;
  const uint32_t dp_rank = RankOf(batch);
  if (!batch.events.empty()) NoteRank(dp_rank);
  // Hashing is most of the work and needs no lock.
  std::vector<std::optional<AcceptedStore>> accepted(batch.events.size());
  for (size_t i = 0; i < batch.events.size(); ++i) {
    const auto* stored = std::get_if<wire::BlockStored>(&batch.events[i]);
    if (stored != nullptr) accepted[i] = Accept(*stored);
  }
  Writer writer = index_.Write();
  for (size_t i = 0; i < batch.events.size(); ++i) {
    const wire::KvEvent& event = batch.events[i];
    if (const auto* stored = std::get_if<wire::BlockStored>(&event)) {
      if (!accepted[i]) continue;
      Stored(writer, *stored, std::move(*accepted[i]), RankOf(stored->origin, dp_rank));
    } else if (const auto* removed = std::get_if<wire::BlockRemoved>(&event)) {
      Removed(writer, *removed, RankOf(removed->origin, dp_rank));
    } else if (std::holds_alternative<wire::AllBlocksCleared>(event)) {
      Cleared(writer, dp_rank);
    } else if (const auto* cleared = std::get_if<wire::ScopeCleared>(&event)) {
      Cleared(writer, *cleared);
    }
  }
}

bool PublisherLife::Believes(int64_t dp_rank) {
  if (dp_rank < 0 || dp_rank > std::numeric_limits<int32_t>::max()) return false;
  if (dp_rank != 0) seen_other_rank_than_zero_ = true;
  return dp_rank != 0 || seen_other_rank_than_zero_;
}

uint32_t PublisherLife::RankOf(const wire::EventBatch& batch) {
  if (!batch.dp_rank) return profile_.dp_rank;
  const bool believed = Believes(*batch.dp_rank);
  const bool told = believed || *batch.dp_rank != 0;
  if (told && *batch.dp_rank != profile_.dp_rank) ++counters_.rank_mismatches;
  return believed ? static_cast<uint32_t>(*batch.dp_rank) : profile_.dp_rank;
}

uint32_t PublisherLife::RankOf(const std::optional<wire::Origin>& origin, uint32_t of_batch) {
  if (!origin || !origin->dp_rank || !Believes(*origin->dp_rank)) return of_batch;
  NoteRank(static_cast<uint32_t>(*origin->dp_rank));
  return static_cast<uint32_t>(*origin->dp_rank);
}

void PublisherLife::NoteRank(uint32_t dp_rank) {
  if (!counters_.rank) counters_.rank = dp_rank;
  counters_.several_ranks |= *counters_.rank != dp_rank;
}

PublisherLife::NamespacePtr PublisherLife::NamespaceOf(const wire::BlockStored& event) {
  const auto too_long = [this](const std::optional<std::string>& name) {
    return name && name->size() > limits_.max_name_bytes;
  };
  if (too_long(event.lora_name)) return nullptr;
  if (event.origin && (too_long(event.origin->tenant) || too_long(event.origin->model) ||
                       too_long(event.origin->additional_salt))) {
    return nullptr;
  }
  index::NamespaceKey key{.tenant = profile_.tenant,
                          .model = profile_.model,
                          .lora_name = LoraNameOf(event, profile_.lora_name),
                          .block_size = block_size_,
                          .additional_salt = profile_.additional_salt};
  if (event.origin) {
    key.tenant = event.origin->tenant.value_or(std::move(key.tenant));
    key.model = event.origin->model.value_or(std::move(key.model));
    key.additional_salt = event.origin->additional_salt.value_or(std::move(key.additional_salt));
  }
  if (!last_namespace_ || *last_namespace_ != key) {
    last_namespace_ = std::make_shared<const index::NamespaceKey>(std::move(key));
  }
  return last_namespace_;
}

std::optional<PublisherLife::AcceptedStore> PublisherLife::Accept(const wire::BlockStored& event) {
  ++counters_.stored_events;
  const auto tier = TierOf(event.medium);
  if (!tier) {
    ++counters_.ignored_medium;
    return std::nullopt;
  }
  if (!IsIndexedGroup(event.group)) {
    ++counters_.ignored_group;
    return std::nullopt;
  }
  AcceptedStore accepted{.tier = *tier};
  accepted.begins_prompt =
      !event.parent && (event.base_block_idx ? *event.base_block_idx == 0
                                             : *tier == Tier::kGpu || profile_.root_on_any_tier);
  const bool standard = event.standard_hashes && event.tokens.empty() && !event.hashes.empty() &&
                        event.block_size > 0;
  if (event.tokens.empty() && !standard) return accepted;
  if (!standard && !HasWholeBlocks(event)) {
    ++counters_.refused_shape;
    return std::nullopt;
  }
  if (block_size_ == 0) block_size_ = event.block_size;
  const bool fits =
      standard ? event.block_size == block_size_ : event.block_size % block_size_ == 0;
  if (!fits) {
    ++counters_.refused_block_size;
    counters_.last_refused_block_size = event.block_size;
    return std::nullopt;
  }
  accepted.name_space = NamespaceOf(event);
  if (!accepted.name_space) {
    ++counters_.refused_names;
    return std::nullopt;
  }
  if (standard) {
    for (const EngineHash hash : event.hashes) {
      accepted.prefixes.push_back(PrefixHash{static_cast<uint64_t>(hash)});
    }
    return accepted;
  }
  const std::string& lora_name = accepted.name_space->lora_name;
  accepted.locals = LocalHashes(event, block_size_, lora_name, index_.options().hash_seed);
  accepted.span = event.block_size / block_size_;
  if (hash_check_ && *tier == Tier::kGpu) hash_check_->Look(event, lora_name);
  return accepted;
}

void PublisherLife::Stored(Writer& writer, const wire::BlockStored& event, AcceptedStore accepted,
                           uint32_t dp_rank) {
  const auto space = SpaceFor(writer, GroupOf(event.group));
  if (!space) {
    ++counters_.refused_names;
    return;
  }
  WaitingEvent placed;
  placed.space = *space;
  placed.tier = accepted.tier;
  placed.dp_rank = dp_rank;
  if (!accepted.name_space) {
    for (const EngineHash name : event.hashes) {
      placed.hashes = {name};
      PlaceOrWait(writer, placed);
    }
    return;
  }
  placed.name_space = std::move(accepted.name_space);
  placed.parent = event.parent;
  placed.hashes = event.hashes;
  placed.locals = std::move(accepted.locals);
  placed.prefixes = std::move(accepted.prefixes);
  placed.span = accepted.span;
  placed.begins_prompt = accepted.begins_prompt;
  PlaceOrWait(writer, std::move(placed));
}

PublisherLife::Placed PublisherLife::Place(Writer& writer, const WaitingEvent& event,
                                           std::vector<EngineHash>& bound) {
  // Connectors leave the parent out in mid-chain.
  const bool by_name = !event.tells_blocks() || (!event.parent && !event.begins_prompt);
  const EngineHash first = event.hashes.front();
  const auto* named = by_name ? writer.NamespaceOf(event.space, first) : nullptr;
  if (by_name && named == nullptr) return Placed::kWaits;
  const index::NamespaceKey name_space = by_name ? *named : *event.name_space;
  const auto holder = HolderFor(writer, name_space, event.dp_rank);
  if (!holder) return Placed::kRefused;
  index::StoreRequest request{
      .holder = *holder,
      .space = event.space,
      .tier = event.tier,
      .copies = profile_.copies,
      .parent = event.parent,
      .hashes = event.hashes,
      .locals = event.locals,
      .prefixes = event.prefixes,
      .span = event.span,
      .gone = event.gone,
      .bound = &bound,
  };
  if (by_name) {
    if (event.gone.empty() || event.gone.front() == 0) {
      (void)writer.StoreKnown(*holder, event.space, event.tier, profile_.copies, first);
    }
    if (event.hashes.size() == 1) return Placed::kYes;
    request.parent = first;
    request.hashes = request.hashes.subspan(1);
    if (!request.locals.empty()) request.locals = request.locals.subspan(event.span);
    if (!request.prefixes.empty()) request.prefixes = request.prefixes.subspan(1);
    if (!request.gone.empty()) request.gone = request.gone.subspan(1);
  }
  return writer.Store(request) == index::StoreOutcome::kStored ? Placed::kYes : Placed::kWaits;
}

void PublisherLife::PlaceOrWait(Writer& writer, WaitingEvent event) {
  const Duration ttl = profile_.ttl[static_cast<size_t>(event.tier)];
  for (size_t i = 0; ttl > Duration::zero() && i < event.hashes.size(); ++i) {
    expiry_.Announce({event.space, event.tier, event.dp_rank, event.hashes[i]}, now_ + ttl);
  }
  std::vector<EngineHash> bound;
  switch (Place(writer, event, bound)) {
    case Placed::kYes:
      counters_.stored_blocks += event.hashes.size();
      JoinWaiting(writer, event.space, std::move(bound));
      break;
    case Placed::kWaits:
      ++counters_.orphaned;
      if (!event.tells_blocks()) ++counters_.detached;
      counters_.waiting_dropped += waiting_.Add(std::move(event));
      break;
    case Placed::kRefused:
      ++counters_.refused_names;
      break;
  }
}

void PublisherLife::JoinWaiting(Writer& writer, index::AliasSpace space,
                                std::vector<EngineHash> bound) {
  std::set<uint64_t> ready;
  const auto collect = [&] {
    for (const EngineHash name : bound) {
      if (const auto* numbers = waiting_.AwaitedBy(space, name)) {
        ready.insert(numbers->begin(), numbers->end());
      }
    }
    bound.clear();
  };
  if (!waiting_.empty()) collect();
  while (!ready.empty()) {
    const uint64_t number = ready.extract(ready.begin()).value();
    const Placed placed = Place(writer, waiting_.Get(number), bound);
    // What it awaits is known now, but may stand in another namespace.
    if (placed == Placed::kWaits) continue;
    const WaitingEvent event = waiting_.Take(number);
    if (placed == Placed::kRefused) {
      ++counters_.refused_names;
      continue;
    }
    ++counters_.joined;
    counters_.stored_blocks += event.hashes.size();
    collect();
  }
}

void PublisherLife::Removed(Writer& writer, const wire::BlockRemoved& event, uint32_t dp_rank) {
  ++counters_.removed_events;
  const auto tier = TierOf(event.medium);
  if (!tier) {
    ++counters_.ignored_medium;
    return;
  }
  const auto space = spaces_.find(GroupOf(event.group));
  for (const EngineHash name : event.hashes) {
    const bool removed =
        space != spaces_.end() && RemoveName(writer, space->second, *tier, dp_rank, name);
    ++(removed ? counters_.removed_blocks : counters_.removed_unknown);
  }
}

bool PublisherLife::RemoveName(Writer& writer, index::AliasSpace space, Tier tier, uint32_t dp_rank,
                               EngineHash name) {
  bool held = false;
  if (const auto* name_space = writer.NamespaceOf(space, name)) {
    const auto holder = holders_.find({*name_space, dp_rank});
    held = holder != holders_.end() &&
           writer.Remove(holder->second, space, tier, name) == index::RemoveOutcome::kRemoved;
  }
  // Where copies count, one removal is for one of them. Elsewhere it is for all that was said.
  const bool copies_count = tier == Tier::kGpu && profile_.copies == index::CopyMode::kCount;
  if (copies_count) return held || waiting_.Remove(space, tier, dp_rank, name, false);
  return waiting_.Remove(space, tier, dp_rank, name, true) || held;
}

void PublisherLife::Cleared(Writer& writer, uint32_t dp_rank) {
  ++counters_.cleared_events;
  for (const auto& [key, holder] : holders_) {
    if (key.second == dp_rank) counters_.removed_blocks += writer.Clear(holder, Tier::kGpu);
  }
  waiting_.Clear(Tier::kGpu, dp_rank);
}

void PublisherLife::Cleared(Writer& writer, const wire::ScopeCleared& event) {
  ++counters_.cleared_events;
  const auto named = event.medium ? TierOf(event.medium) : std::nullopt;
  if (event.medium && !named) {
    ++counters_.ignored_medium;
    return;
  }
  const auto rank_fits = [&](uint32_t rank) { return !event.dp_rank || *event.dp_rank == rank; };
  for (const Tier tier : kTiers) {
    if (named && tier != *named) continue;
    for (const auto& [key, holder] : holders_) {
      if (event.tenant && key.first.tenant != *event.tenant) continue;
      if (rank_fits(key.second)) counters_.removed_blocks += writer.Clear(holder, tier);
    }
    waiting_.ClearIf(tier, [&](const WaitingEvent& waiting) {
      // Whose tenant an event without tokens is of is not known: it goes, and figures are too low
      // at most.
      const bool of_tenant =
          !event.tenant || !waiting.name_space || waiting.name_space->tenant == *event.tenant;
      return of_tenant && rank_fits(waiting.dp_rank);
    });
  }
}

void PublisherLife::Tick(MonoTime now) {
  auto due = expiry_.TakeDue(now);
  if (!due) return;
  Writer writer = index_.Write();
  for (; due; due = expiry_.TakeDue(now)) Expire(writer, *due);
}

void PublisherLife::Expire(Writer& writer, const Held& held) {
  const auto& [space, tier, dp_rank, name] = held;
  bool gone = waiting_.Remove(space, tier, dp_rank, name, /*all=*/true);
  if (const auto* name_space = writer.NamespaceOf(space, name)) {
    const auto holder = holders_.find({*name_space, dp_rank});
    while (holder != holders_.end() &&
           writer.Remove(holder->second, space, tier, name) == index::RemoveOutcome::kRemoved) {
      gone = true;
    }
  }
  if (gone) ++counters_.expired_blocks;
}

std::optional<index::HolderId> PublisherLife::HolderFor(Writer& writer,
                                                        const index::NamespaceKey& name_space,
                                                        uint32_t dp_rank) {
  const auto found = holders_.find({name_space, dp_rank});
  if (found != holders_.end()) return found->second;
  if (holders_.size() >= limits_.max_holders) return std::nullopt;
  const index::RankKey rank{
      .name_space = name_space, .instance_id = profile_.instance_id, .dp_rank = dp_rank};
  const index::HolderId holder = writer.AddHolder(rank, number_, visible_);
  holders_.emplace(HolderKey(name_space, dp_rank), holder);
  return holder;
}

std::optional<index::AliasSpace> PublisherLife::SpaceFor(Writer& writer, GroupKey group) {
  const auto found = spaces_.find(group);
  if (found != spaces_.end()) return found->second;
  if (spaces_.size() >= limits_.max_groups) return std::nullopt;
  const auto pool_group = static_cast<uint32_t>(group);
  return spaces_.emplace(group, writer.AddSpace(number_, pool_group)).first->second;
}

}  // namespace conductor::ingest
