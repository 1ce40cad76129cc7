#include "lib/ingest/publisher_life.h"

#include <algorithm>
#include <limits>
#include <set>
#include <type_traits>
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
  Writer writer = index_.Write();
  for (const wire::KvEvent& event : batch.events) {
    std::visit(
        [&](const auto& kind) {
          using Kind = std::decay_t<decltype(kind)>;
          if constexpr (std::is_same_v<Kind, wire::BlockStored>) {
            Stored(writer, kind, dp_rank);
          } else if constexpr (std::is_same_v<Kind, wire::BlockRemoved>) {
            Removed(writer, kind, dp_rank);
          } else {
            Cleared(writer, dp_rank);
          }
        },
        event);
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

void PublisherLife::Stored(Writer& writer, const wire::BlockStored& event, uint32_t dp_rank) {
  ++counters_.stored_events;
  const auto tier = TierOf(event.medium);
  if (!tier) {
    ++counters_.ignored_medium;
  } else if (!IsIndexedGroup(event.group)) {
    ++counters_.ignored_group;
  } else if (event.tokens.empty()) {
    StoredByName(writer, event, *tier, dp_rank);
  } else {
    StoredWithTokens(writer, event, *tier, dp_rank);
  }
}

void PublisherLife::StoredWithTokens(Writer& writer, const wire::BlockStored& event, Tier tier,
                                     uint32_t dp_rank) {
  if (!HasWholeBlocks(event)) {
    ++counters_.refused_shape;
    return;
  }
  if (block_size_ == 0) block_size_ = event.block_size;
  if (event.block_size % block_size_ != 0) {
    ++counters_.refused_block_size;
    counters_.last_refused_block_size = event.block_size;
    return;
  }
  const std::string lora_name = LoraNameOf(event, profile_.lora_name);
  WaitingEvent placed;
  placed.lora_name = lora_name;
  placed.space = SpaceFor(writer, GroupOf(event.group));
  placed.tier = tier;
  placed.dp_rank = dp_rank;
  placed.parent = event.parent;
  placed.hashes = event.hashes;
  placed.locals = LocalHashes(event, block_size_, lora_name, index_.options().hash_seed);
  placed.span = event.block_size / block_size_;
  PlaceOrWait(writer, std::move(placed));
}

void PublisherLife::StoredByName(Writer& writer, const wire::BlockStored& event, Tier tier,
                                 uint32_t dp_rank) {
  for (const EngineHash name : event.hashes) {
    WaitingEvent placed;
    placed.space = SpaceFor(writer, GroupOf(event.group));
    placed.tier = tier;
    placed.dp_rank = dp_rank;
    placed.hashes = {name};
    PlaceOrWait(writer, std::move(placed));
  }
}

std::optional<index::HolderId> PublisherLife::PlaceFirstByName(Writer& writer,
                                                               const WaitingEvent& event) {
  const EngineHash name = event.hashes.front();
  const auto* name_space = writer.NamespaceOf(event.space, name);
  if (name_space == nullptr) return std::nullopt;
  const index::HolderId holder =
      HolderFor(writer, std::string(name_space->lora_name), event.dp_rank);
  if (event.gone.empty() || event.gone.front() == 0) {
    (void)writer.StoreKnown(holder, event.space, event.tier, profile_.copies, name);
  }
  return holder;
}

bool PublisherLife::Place(Writer& writer, const WaitingEvent& event) {
  // Only on the device does a missing parent mean the root: connectors leave it out in mid-chain.
  const bool by_name = event.locals.empty() || (!event.parent && event.tier != Tier::kGpu);
  index::StoreRequest request{
      .holder = {},
      .space = event.space,
      .tier = event.tier,
      .copies = profile_.copies,
      .parent = event.parent,
      .hashes = event.hashes,
      .locals = event.locals,
      .span = event.span,
      .gone = event.gone,
  };
  if (by_name) {
    const auto holder = PlaceFirstByName(writer, event);
    if (!holder) return false;
    if (event.hashes.size() == 1) return true;
    request.holder = *holder;
    request.parent = event.hashes.front();
    request.hashes = request.hashes.subspan(1);
    request.locals = request.locals.subspan(event.span);
    if (!request.gone.empty()) request.gone = request.gone.subspan(1);
  } else {
    request.holder = HolderFor(writer, event.lora_name, event.dp_rank);
  }
  return writer.Store(request) == index::StoreOutcome::kStored;
}

void PublisherLife::PlaceOrWait(Writer& writer, WaitingEvent event) {
  if (Place(writer, event)) {
    counters_.stored_blocks += event.hashes.size();
    JoinWaiting(writer, event.space, event.hashes);
    return;
  }
  ++counters_.orphaned;
  counters_.waiting_dropped += waiting_.Add(std::move(event));
}

void PublisherLife::JoinWaiting(Writer& writer, index::AliasSpace space,
                                std::span<const EngineHash> names) {
  if (waiting_.empty()) return;
  std::set<uint64_t> ready;
  const auto collect = [&](std::span<const EngineHash> known) {
    for (const EngineHash name : known) {
      if (const auto* numbers = waiting_.AwaitedBy(space, name)) {
        ready.insert(numbers->begin(), numbers->end());
      }
    }
  };
  collect(names);
  while (!ready.empty()) {
    const uint64_t number = ready.extract(ready.begin()).value();
    // What it awaits is known now, but may stand in another namespace.
    if (!Place(writer, waiting_.Get(number))) continue;
    const WaitingEvent event = waiting_.Take(number);
    ++counters_.joined;
    counters_.stored_blocks += event.hashes.size();
    collect(event.hashes);
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
  const bool held = std::ranges::any_of(holders_, [&](const auto& entry) {
    return entry.first.second == dp_rank &&
           writer.Remove(entry.second, space, tier, name) == index::RemoveOutcome::kRemoved;
  });
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

index::HolderId PublisherLife::HolderFor(Writer& writer, const std::string& lora_name,
                                         uint32_t dp_rank) {
  const auto [found, added] = holders_.try_emplace({lora_name, dp_rank});
  if (added) {
    const index::RankKey rank{
        .name_space = {.tenant = profile_.tenant,
                       .model = profile_.model,
                       .lora_name = lora_name,
                       .block_size = block_size_,
                       .additional_salt = profile_.additional_salt},
        .instance_id = profile_.instance_id,
        .dp_rank = dp_rank,
    };
    found->second = writer.AddHolder(rank, number_, visible_);
  }
  return found->second;
}

index::AliasSpace PublisherLife::SpaceFor(Writer& writer, GroupKey group) {
  const auto [found, added] = spaces_.try_emplace(group);
  if (added) found->second = writer.AddSpace(number_);
  return found->second;
}

}  // namespace conductor::ingest
