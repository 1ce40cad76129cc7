#include "lib/ingest/publisher_life.h"

#include <algorithm>
#include <array>
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

PublisherLife::~PublisherLife() { Leave(index::RemovalCause::kUnregistered, {}); }

void PublisherLife::Leave(index::RemovalCause cause, const index::Occasion& occasion) {
  if (holders_.empty() && spaces_.empty()) return;
  Writer writer = index_.Write(occasion);
  LeaveIndex(writer, cause);
}

void PublisherLife::LeaveIndex(Writer& writer, index::RemovalCause cause) {
  for (const auto& [key, holder] : holders_) writer.DropHolder(holder, cause);
  for (const auto& [key, space] : spaces_) writer.DropSpace(space);
  holders_.clear();
  holders_by_number_.clear();
  last_holder_ = {};
  spaces_.clear();
}

void PublisherLife::Replace(PublisherLife& other, const index::Occasion& occasion) {
  Writer writer = index_.Write(occasion);
  for (const auto& [key, holder] : holders_) writer.SetVisible(holder, true);
  for (const auto& [key, holder] : other.holders_) writer.SetVisible(holder, false);
  visible_ = true;
  other.LeaveIndex(writer, index::RemovalCause::kReplaced);
}

bool PublisherLife::HoldsNothing() const {
  if (!waiting_.empty()) return false;
  return std::ranges::all_of(holders_, [&](const auto& entry) {
    return std::ranges::all_of(
        kTiers, [&](Tier tier) { return index_.HeldBlocks(entry.second, tier) == 0; });
  });
}

uint64_t PublisherLife::TrimmedBlocks() const {
  // Asked for with every batch, and nearly never another than before.
  const uint64_t trims = index_.Trims();
  if (trims == trims_seen_ && trimmed_ == 0) return 0;
  trims_seen_ = trims;
  trimmed_ = 0;
  for (const auto& [key, holder] : holders_) trimmed_ += index_.TrimmedOf(holder);
  return trimmed_;
}

void PublisherLife::Apply(const wire::EventBatch& batch, MonoTime now,
                          const index::Occasion& occasion) {
  now_ = now;
  const uint32_t dp_rank = RankOf(batch);
  if (!batch.events.empty()) NoteRank(dp_rank);
  // Hashing is most of the work and needs no lock.
  accepted_.clear();
  locals_.clear();
  prefixes_.clear();
  for (const wire::KvEvent& event : batch.events) {
    const auto* stored = std::get_if<wire::BlockStored>(&event);
    accepted_.push_back(stored != nullptr ? Accept(*stored) : AcceptedStore{});
  }
  Writer writer =
      index_.Write({occasion.sequence, batch.timestamp > 0 ? batch.timestamp : occasion.unix_time});
  constexpr size_t kAhead = 16;  // events
  for (size_t i = 0; i < batch.events.size(); ++i) {
    if (i % kAhead == 0) {
      PrefetchRemoved(
          writer,
          std::span(batch.events).subspan(i).first(std::min(kAhead, batch.events.size() - i)));
    }
    const wire::KvEvent& event = batch.events[i];
    if (const auto* stored = std::get_if<wire::BlockStored>(&event)) {
      if (!accepted_[i].accepted) continue;
      Stored(writer, *stored, accepted_[i], RankOf(stored->origin, dp_rank));
    } else if (const auto* removed = std::get_if<wire::BlockRemoved>(&event)) {
      Removed(writer, *removed, RankOf(removed->origin, dp_rank));
    } else if (std::holds_alternative<wire::AllBlocksCleared>(event)) {
      Cleared(writer, dp_rank);
    } else if (const auto* cleared = std::get_if<wire::ScopeCleared>(&event)) {
      Cleared(writer, *cleared);
    }
  }
}

void PublisherLife::PrefetchRemoved(const Writer& writer, std::span<const wire::KvEvent> events) {
  // Of one event the names follow one another in a chain as a rule, and are found by that.
  std::array<EngineHash, 16> names;
  size_t count = 0;
  for (const wire::KvEvent& event : events) {
    const auto* removed = std::get_if<wire::BlockRemoved>(&event);
    if (removed == nullptr || removed->hashes.empty() || count == names.size()) continue;
    names[count++] = removed->hashes.front();
  }
  if (count > 1) writer.Prefetch(std::span(names).first(count));
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
  if (last_is_plain_ && !event.origin && last_namespace_->block_size == block_size_ &&
      event.lora_id == last_lora_id_ && event.lora_name == last_lora_name_) {
    return last_namespace_;
  }
  last_is_plain_ = !event.origin;
  last_lora_id_ = event.lora_id;
  last_lora_name_ = event.lora_name;
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
    last_holder_ = {};
  }
  return last_namespace_;
}

PublisherLife::AcceptedStore PublisherLife::Accept(const wire::BlockStored& event) {
  ++counters_.stored_events;
  const auto tier = TierOf(event.medium);
  if (!tier) {
    ++counters_.ignored_medium;
    return {};
  }
  if (!IsIndexedGroup(event.group)) {
    ++counters_.ignored_group;
    return {};
  }
  AcceptedStore accepted{.accepted = true, .tier = *tier};
  accepted.begins_prompt =
      !event.parent && (event.base_block_idx ? *event.base_block_idx == 0
                                             : *tier == Tier::kGpu || profile_.root_on_any_tier);
  const bool standard = event.standard_hashes && event.tokens.empty() && !event.hashes.empty() &&
                        event.block_size > 0;
  if (event.tokens.empty() && !standard) return accepted;
  if (!standard && !HasWholeBlocks(event)) {
    ++counters_.refused_shape;
    return {};
  }
  if (block_size_ == 0) block_size_ = event.block_size;
  const bool fits =
      standard ? event.block_size == block_size_ : event.block_size % block_size_ == 0;
  if (!fits) {
    ++counters_.refused_block_size;
    counters_.last_refused_block_size = event.block_size;
    return {};
  }
  accepted.name_space = NamespaceOf(event);
  if (!accepted.name_space) {
    ++counters_.refused_names;
    return {};
  }
  if (standard) {
    accepted.first_prefix = prefixes_.size();
    accepted.prefixes = event.hashes.size();
    for (const EngineHash hash : event.hashes) {
      prefixes_.push_back(PrefixHash{static_cast<uint64_t>(hash)});
    }
    return accepted;
  }
  const std::string& lora_name = accepted.name_space->lora_name;
  if (accepted.begins_prompt && IsSalted(event, lora_name)) ++counters_.salted_prompts;
  accepted.first_local = locals_.size();
  AddLocalHashes(event, block_size_, lora_name, index_.options().hash_seed, locals_);
  accepted.locals = locals_.size() - accepted.first_local;
  accepted.span = event.block_size / block_size_;
  if (hash_check_ && *tier == Tier::kGpu) hash_check_->Look(event, lora_name);
  return accepted;
}

PublisherLife::Placing PublisherLife::Placing::Of(const WaitingEvent& event) {
  return {.name_space = event.name_space,
          .space = event.space,
          .tier = event.tier,
          .dp_rank = event.dp_rank,
          .parent = event.parent,
          .hashes = event.hashes,
          .locals = event.locals,
          .prefixes = event.prefixes,
          .span = event.span,
          .begins_prompt = event.begins_prompt,
          .gone = event.gone};
}

WaitingEvent PublisherLife::Placing::ToWait() const {
  WaitingEvent event;
  event.name_space = name_space;
  event.space = space;
  event.tier = tier;
  event.dp_rank = dp_rank;
  event.parent = parent;
  event.hashes.assign(hashes.begin(), hashes.end());
  event.locals.assign(locals.begin(), locals.end());
  event.prefixes.assign(prefixes.begin(), prefixes.end());
  event.span = span;
  event.begins_prompt = begins_prompt;
  return event;
}

void PublisherLife::Stored(Writer& writer, const wire::BlockStored& event,
                           const AcceptedStore& accepted, uint32_t dp_rank) {
  const auto space = SpaceFor(writer, GroupOf(event.group));
  if (!space) {
    ++counters_.refused_names;
    return;
  }
  Placing placing{.name_space = accepted.name_space,
                  .space = *space,
                  .tier = accepted.tier,
                  .dp_rank = dp_rank};
  const std::span<const EngineHash> hashes = event.hashes;
  if (!accepted.name_space) {
    for (size_t i = 0; i < hashes.size(); ++i) {
      placing.hashes = hashes.subspan(i, 1);
      PlaceOrWait(writer, placing);
    }
    return;
  }
  placing.parent = event.parent;
  placing.hashes = hashes;
  placing.locals = std::span(locals_).subspan(accepted.first_local, accepted.locals);
  placing.prefixes = std::span(prefixes_).subspan(accepted.first_prefix, accepted.prefixes);
  placing.span = accepted.span;
  placing.begins_prompt = accepted.begins_prompt;
  PlaceOrWait(writer, placing);
}

PublisherLife::Placed PublisherLife::Place(Writer& writer, const Placing& event,
                                           std::vector<EngineHash>* bound) {
  // Connectors leave the parent out in mid-chain.
  const bool by_name = !event.tells_blocks() || (!event.parent && !event.begins_prompt);
  const EngineHash first = event.hashes.front();
  std::optional<index::HolderId> holder;
  if (by_name) {
    const auto* named = writer.NamespaceOf(event.space, first);
    if (named == nullptr) return Placed::kWaits;
    holder = HolderOfName(writer, event.space, first, event.dp_rank);
    if (!holder) holder = HolderFor(writer, index::NamespaceKey(*named), event.dp_rank);
  } else if (last_holder_.name_space == event.name_space.get() &&
             last_holder_.dp_rank == event.dp_rank) {
    holder = last_holder_.holder;
  } else {
    holder = HolderFor(writer, *event.name_space, event.dp_rank);
    if (holder && event.name_space == last_namespace_) {
      last_holder_ = {event.name_space.get(), event.dp_rank, *holder};
    }
  }
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
      .bound = bound,
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

void PublisherLife::PlaceOrWait(Writer& writer, const Placing& event) {
  const Duration ttl = profile_.ttl[static_cast<size_t>(event.tier)];
  for (size_t i = 0; ttl > Duration::zero() && i < event.hashes.size(); ++i) {
    expiry_.Announce({event.space, event.tier, event.dp_rank, event.hashes[i]}, now_ + ttl);
  }
  bound_.clear();
  // Nobody waits for a new name as long as nothing waits.
  switch (Place(writer, event, waiting_.empty() ? nullptr : &bound_)) {
    case Placed::kYes:
      counters_.stored_blocks += event.hashes.size();
      if (!waiting_.empty()) JoinWaiting(writer, event.space, std::move(bound_));
      break;
    case Placed::kWaits:
      ++counters_.orphaned;
      if (!event.tells_blocks()) ++counters_.detached;
      counters_.waiting_dropped += waiting_.Add(event.ToWait());
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
    const Placed placed = Place(writer, Placing::Of(waiting_.Get(number)), &bound);
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
  using index::RemoveOutcome;
  auto outcome = RemoveOutcome::kOtherNamespace;
  if (last_holder_.name_space != nullptr && last_holder_.dp_rank == dp_rank) {
    outcome = writer.Remove(last_holder_.holder, space, tier, name);
  }
  if (outcome == RemoveOutcome::kOtherNamespace) {
    const auto holder = HolderOfName(writer, space, name, dp_rank);
    if (holder) outcome = writer.Remove(*holder, space, tier, name);
  }
  const bool held = outcome == RemoveOutcome::kRemoved;
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

void PublisherLife::Tick(MonoTime now, const index::Occasion& occasion) {
  auto due = expiry_.TakeDue(now);
  if (!due) return;
  Writer writer = index_.Write(occasion);
  for (; due; due = expiry_.TakeDue(now)) Expire(writer, *due);
}

void PublisherLife::Expire(Writer& writer, const Held& held) {
  const auto& [space, tier, dp_rank, name] = held;
  bool gone = waiting_.Remove(space, tier, dp_rank, name, /*all=*/true);
  const auto holder = HolderOfName(writer, space, name, dp_rank);
  while (holder && writer.Remove(*holder, space, tier, name, index::RemovalCause::kExpired) ==
                       index::RemoveOutcome::kRemoved) {
    gone = true;
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
  const index::HolderId holder = writer.AddHolder(rank, number_, visible_, profile_.name);
  holders_.emplace(HolderKey(name_space, dp_rank), holder);
  holders_by_number_.emplace(std::pair(writer.NamespaceIdOf(holder), dp_rank), holder);
  return holder;
}

std::optional<index::HolderId> PublisherLife::HolderOfName(const Writer& writer,
                                                           index::AliasSpace space, EngineHash name,
                                                           uint32_t dp_rank) const {
  const auto name_space = writer.NamespaceIdOf(space, name);
  if (!name_space) return std::nullopt;
  const auto holder = holders_by_number_.find(std::pair(*name_space, dp_rank));
  if (holder == holders_by_number_.end()) return std::nullopt;
  return holder->second;
}

std::optional<index::AliasSpace> PublisherLife::SpaceFor(Writer& writer, GroupKey group) {
  const auto found = spaces_.find(group);
  if (found != spaces_.end()) return found->second;
  if (spaces_.size() >= limits_.max_groups) return std::nullopt;
  const auto pool_group = static_cast<uint32_t>(group);
  return spaces_.emplace(group, writer.AddSpace(number_, pool_group)).first->second;
}

}  // namespace conductor::ingest
