#include "lib/ingest/waiting_events.h"

namespace conductor::ingest {
namespace {

// Takes `value` out of the set under `key`, and the set when it is empty then.
template <typename Map, typename Value>
void EraseFrom(Map& map, const typename Map::key_type& key, const Value& value) {
  const auto found = map.find(key);
  if (found == map.end()) return;
  found->second.erase(value);
  if (found->second.empty()) map.erase(found);
}

}  // namespace

size_t WaitingEvent::bytes() const {
  // The vectors, and about what the two name tables cost for each hash.
  constexpr size_t kPerHash = sizeof(EngineHash) + sizeof(uint8_t) + 160;
  return sizeof(*this) + 128 + hashes.size() * kPerHash +
         (locals.size() + prefixes.size()) * sizeof(uint64_t);
}

size_t WaitingEvents::Add(WaitingEvent event) {
  const size_t bytes = event.bytes();
  if (bytes > max_bytes_) return 1;
  size_t dropped = 0;
  for (; bytes_ + bytes > max_bytes_; ++dropped) Take(events_.begin()->first);
  event.gone.resize(event.hashes.size(), 0);
  const uint64_t number = next_++;
  awaited_[{event.space, event.awaited()}].insert(number);
  of_rank_[{event.tier, event.dp_rank}].insert(number);
  for (size_t i = 0; i < event.hashes.size(); ++i) {
    if (event.gone[i] == 0) counted_[CountedAs(event, event.hashes[i])].emplace(number, i);
  }
  bytes_ += bytes;
  events_.emplace(number, std::move(event));
  return dropped;
}

const std::set<uint64_t>* WaitingEvents::AwaitedBy(index::AliasSpace space, EngineHash name) const {
  const auto found = awaited_.find({space, name});
  return found == awaited_.end() ? nullptr : &found->second;
}

WaitingEvent WaitingEvents::Take(uint64_t number) {
  const auto found = events_.find(number);
  WaitingEvent event = std::move(found->second);
  events_.erase(found);
  bytes_ -= event.bytes();
  EraseFrom(awaited_, {event.space, event.awaited()}, number);
  EraseFrom(of_rank_, {event.tier, event.dp_rank}, number);
  for (size_t i = 0; i < event.hashes.size(); ++i) {
    if (event.gone[i] == 0) {
      EraseFrom(counted_, CountedAs(event, event.hashes[i]), Position(number, i));
    }
  }
  return event;
}

bool WaitingEvents::Remove(index::AliasSpace space, Tier tier, uint32_t dp_rank, EngineHash name,
                           bool all) {
  const auto found = counted_.find({space, name, tier, dp_rank});
  if (found == counted_.end()) return false;
  std::set<Position>& positions = found->second;
  std::set<Position> removed;
  if (all) {
    removed.swap(positions);
  } else {
    removed.insert(positions.extract(positions.begin()));
  }
  if (positions.empty()) counted_.erase(found);
  for (const auto& [number, position] : removed) {
    WaitingEvent& event = events_.at(number);
    event.gone[position] = 1;
    if (!event.tells_blocks()) Take(number);
  }
  return true;
}

void WaitingEvents::Clear(Tier tier, uint32_t dp_rank) {
  const auto found = of_rank_.find({tier, dp_rank});
  if (found == of_rank_.end()) return;
  const std::set<uint64_t> cleared = found->second;
  for (const uint64_t number : cleared) Take(number);
}

void WaitingEvents::ClearIf(Tier tier, const std::function<bool(const WaitingEvent&)>& gone) {
  std::vector<uint64_t> cleared;
  for (const auto& [number, event] : events_) {
    if (event.tier == tier && gone(event)) cleared.push_back(number);
  }
  for (const uint64_t number : cleared) Take(number);
}

}  // namespace conductor::ingest
