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
      waiting_(limits.max_waiting_bytes) {}

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

void PublisherLife::Apply(const wire::EventBatch& batch) {
  const uint32_t dp_rank = RankOf(batch);
  // Hashing is most of the work and needs no lock.
  std::vector<std::optional<AcceptedStore>> accepted(batch.events.size());
  for (size_t i = 0; i < batch.events.size(); ++i) {
    const auto* stored = std::get_if<wire::BlockStored>(&batch.events[i]);
    if (stored != nullptr) accepted[i] = Accept(*stored);
  }
  Writer writer = index_.Write();
  for (size_t i = 0; i < batch.events.size(); ++i) {
    if (const auto* stored = std::get_if<wire::BlockStored>(&batch.events[i])) {
      if (accepted[i]) Stored(writer, *stored, std::move(*accepted[i]), dp_rank);
    } else if (const auto* removed = std::get_if<wire::BlockRemoved>(&batch.events[i])) {
      Removed(writer, *removed, dp_rank);
    } else if (std::holds_alternative<wire::AllBlocksCleared>(batch.events[i])) {
      Cleared(writer, dp_rank);
    }
  }
}

uint32_t PublisherLife::RankOf(const wire::EventBatch& batch) {
  if (!batch.dp_rank) return profile_.dp_rank;
  const int64_t told = *batch.dp_rank;
  if (told < 0 || told > std::numeric_limits<int32_t>::max()) {
    ++counters_.rank_mismatches;
    return profile_.dp_rank;
  }
  if (told != 0) seen_other_rank_than_zero_ = true;
  if (told == 0 && !seen_other_rank_than_zero_) return profile_.dp_rank;
  if (told != profile_.dp_rank) ++counters_.rank_mismatches;
  return static_cast<uint32_t>(told);
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
  if (event.tokens.empty()) return accepted;
  if (!HasWholeBlocks(event)) {
    ++counters_.refused_shape;
    return std::nullopt;
  }
  if (block_size_ == 0) block_size_ = event.block_size;
  if (event.block_size % block_size_ != 0) {
    ++counters_.refused_block_size;
    counters_.last_refused_block_size = event.block_size;
    return std::nullopt;
  }
  accepted.lora_name = LoraNameOf(event, profile_.lora_name);
  if (accepted.lora_name.size() > limits_.max_name_bytes) {
    ++counters_.refused_names;
    return std::nullopt;
  }
  accepted.locals = LocalHashes(event, block_size_, accepted.lora_name, index_.options().hash_seed);
  accepted.span = event.block_size / block_size_;
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
  if (accepted.locals.empty()) {
    for (const EngineHash name : event.hashes) {
      placed.hashes = {name};
      PlaceOrWait(writer, placed);
    }
    return;
  }
  placed.lora_name = std::move(accepted.lora_name);
  placed.parent = event.parent;
  placed.hashes = event.hashes;
  placed.locals = std::move(accepted.locals);
  placed.span = accepted.span;
  PlaceOrWait(writer, std::move(placed));
}

PublisherLife::Placed PublisherLife::Place(Writer& writer, const WaitingEvent& event,
                                           std::vector<EngineHash>& bound) {
  // Only on the device does a missing parent mean the root: connectors leave it out in mid-chain.
  const bool by_name = event.locals.empty() || (!event.parent && event.tier != Tier::kGpu);
  const EngineHash first = event.hashes.front();
  const auto* name_space = by_name ? writer.NamespaceOf(event.space, first) : nullptr;
  if (by_name && name_space == nullptr) return Placed::kWaits;
  const auto holder = HolderFor(
      writer, by_name ? std::string(name_space->lora_name) : event.lora_name, event.dp_rank);
  if (!holder) return Placed::kRefused;
  index::StoreRequest request{
      .holder = *holder,
      .space = event.space,
      .tier = event.tier,
      .copies = profile_.copies,
      .parent = event.parent,
      .hashes = event.hashes,
      .locals = event.locals,
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
    request.locals = request.locals.subspan(event.span);
    if (!request.gone.empty()) request.gone = request.gone.subspan(1);
  }
  return writer.Store(request) == index::StoreOutcome::kStored ? Placed::kYes : Placed::kWaits;
}

void PublisherLife::PlaceOrWait(Writer& writer, WaitingEvent event) {
  std::vector<EngineHash> bound;
  switch (Place(writer, event, bound)) {
    case Placed::kYes:
      counters_.stored_blocks += event.hashes.size();
      JoinWaiting(writer, event.space, std::move(bound));
      break;
    case Placed::kWaits:
      ++counters_.orphaned;
      if (event.locals.empty()) ++counters_.detached;
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
    const auto holder = holders_.find({name_space->lora_name, dp_rank});
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

std::optional<index::HolderId> PublisherLife::HolderFor(Writer& writer,
                                                        const std::string& lora_name,
                                                        uint32_t dp_rank) {
  const auto found = holders_.find({lora_name, dp_rank});
  if (found != holders_.end()) return found->second;
  if (holders_.size() >= limits_.max_holders) return std::nullopt;
  const index::RankKey rank{
      .name_space = {.tenant = profile_.tenant,
                     .model = profile_.model,
                     .lora_name = lora_name,
                     .block_size = block_size_,
                     .additional_salt = profile_.additional_salt},
      .instance_id = profile_.instance_id,
      .dp_rank = dp_rank,
  };
  const index::HolderId holder = writer.AddHolder(rank, number_, visible_);
  holders_.emplace(HolderKey(lora_name, dp_rank), holder);
  return holder;
}

std::optional<index::AliasSpace> PublisherLife::SpaceFor(Writer& writer, GroupKey group) {
  const auto found = spaces_.find(group);
  if (found != spaces_.end()) return found->second;
  if (spaces_.size() >= limits_.max_groups) return std::nullopt;
  return spaces_.emplace(group, writer.AddSpace(number_)).first->second;
}

}  // namespace conductor::ingest
