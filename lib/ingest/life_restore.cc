// PublisherLife: to a file and back.

#include <algorithm>
#include <utility>

#include "lib/ingest/publisher_life.h"

namespace conductor::ingest {

std::unique_ptr<LifeCopy> PublisherLife::BeginCopy(MonoTime now) const {
  SavedLife saved{.block_size = block_size_,
                  .rank = counters_.rank,
                  .several_ranks = counters_.several_ranks,
                  .ranks_are_believed = seen_other_rank_than_zero_};
  std::vector<index::HolderId> holders;
  for (const auto& [key, holder] : holders_) {
    saved.holders.push_back({key.first, key.second});
    holders.push_back(holder);
  }
  std::vector<index::AliasSpace> spaces;
  for (const auto& [group, space] : spaces_) {
    saved.groups.push_back(group);
    spaces.push_back(space);
  }
  const auto number_of = [&spaces](index::AliasSpace space) {
    return static_cast<uint32_t>(std::ranges::find(spaces, space) - spaces.begin());
  };
  waiting_.ForEach([&](const WaitingEvent& event) {
    SavedLife::Waiting waiting{.space = number_of(event.space),
                               .tier = event.tier,
                               .dp_rank = event.dp_rank,
                               .parent = event.parent,
                               .hashes = event.hashes,
                               .locals = event.locals,
                               .prefixes = event.prefixes,
                               .span = event.span,
                               .begins_prompt = event.begins_prompt,
                               .gone = event.gone};
    if (event.name_space) waiting.name_space = *event.name_space;
    saved.waiting.push_back(std::move(waiting));
  });
  expiry_.ForEach([&](const Held& held, MonoTime end) {
    const auto& [space, tier, dp_rank, name] = held;
    saved.deadlines.push_back({number_of(space), tier, dp_rank, name, end - now});
  });
  return std::make_unique<LifeCopy>(std::move(saved), index::ChainCopy(index_, holders, spaces),
                                    [this] { return TrimmedBlocks(); });
}

uint64_t PublisherLife::Holdings() const {
  uint64_t holdings = 0;
  for (const auto& [key, holder] : holders_) {
    for (const Tier tier : kTiers) holdings += index_.HeldBlocks(holder, tier);
  }
  return holdings;
}

PublisherIngest::Restored PublisherLife::Restore(Writer& writer, const SavedLife& saved,
                                                 MonoTime now, Duration elapsed) {
  // A registered size wins: what was learnt may be another's.
  if (block_size_ == 0) block_size_ = saved.block_size;
  if (saved.rank) counters_.rank = saved.rank;
  counters_.several_ranks |= saved.several_ranks;
  seen_other_rank_than_zero_ |= saved.ranks_are_believed;
  PublisherIngest::Restored restored;
  for (const SavedLife::Holder& from : saved.holders) {
    const auto known = holders_.find({from.name_space, from.dp_rank});
    if (known != holders_.end()) {
      restored.holders.push_back(known->second);
      continue;
    }
    const index::RankKey rank{.name_space = from.name_space,
                              .instance_id = profile_.instance_id,
                              .dp_rank = from.dp_rank};
    const index::HolderId holder = writer.AddHolder(rank, number_, visible_, profile_.name);
    holders_.emplace(HolderKey(from.name_space, from.dp_rank), holder);
    holders_by_number_.emplace(std::pair(writer.NamespaceIdOf(holder), from.dp_rank), holder);
    restored.holders.push_back(holder);
  }
  for (const int64_t group : saved.groups) {
    const auto known = spaces_.find(group);
    if (known != spaces_.end()) {
      restored.spaces.push_back(known->second);
      continue;
    }
    const index::AliasSpace space = writer.AddSpace(number_, static_cast<uint32_t>(group));
    spaces_.emplace(group, space);
    restored.spaces.push_back(space);
  }
  for (const SavedLife::Waiting& from : saved.waiting) {
    WaitingEvent event;
    if (from.name_space) {
      event.name_space = std::make_shared<const index::NamespaceKey>(*from.name_space);
    }
    event.space = restored.spaces[from.space];
    event.tier = from.tier;
    event.dp_rank = from.dp_rank;
    event.parent = from.parent;
    event.hashes = from.hashes;
    event.locals = from.locals;
    event.prefixes = from.prefixes;
    event.span = from.span;
    event.begins_prompt = from.begins_prompt;
    event.gone = from.gone;
    const size_t dropped = waiting_.Add(std::move(event));
    counters_.waiting_dropped += dropped;
    restored.waiting_dropped += dropped;
  }
  for (const SavedLife::Deadline& from : saved.deadlines) {
    expiry_.Announce({restored.spaces[from.space], from.tier, from.dp_rank, from.name},
                     now + from.left - elapsed);
  }
  return restored;
}

}  // namespace conductor::ingest
