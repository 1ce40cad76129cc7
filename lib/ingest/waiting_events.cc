#include "lib/ingest/waiting_events.h"

#include <algorithm>

namespace conductor::ingest {

size_t WaitingEvent::bytes() const {
  // The vectors, and about what the two name tables cost for each hash.
  constexpr size_t kPerHash = sizeof(EngineHash) + sizeof(uint8_t) + 96;
  return sizeof(*this) + 128 + lora_name.size() + hashes.size() * kPerHash +
         locals.size() * sizeof(LocalHash);
}

size_t WaitingEvents::Add(WaitingEvent event) {
  const size_t bytes = event.bytes();
  if (bytes > max_bytes_) return 1;
  size_t dropped = 0;
  for (; bytes_ + bytes > max_bytes_; ++dropped) Take(events_.begin()->first);
  event.gone.assign(event.hashes.size(), 0);
  const uint64_t number = next_++;
  awaited_[{event.space, event.awaited()}].insert(number);
  for (const EngineHash name : event.hashes) named_[{event.space, name}].insert(number);
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
  Forget(awaited_, {event.space, event.awaited()}, number);
  for (const EngineHash name : event.hashes) Forget(named_, {event.space, name}, number);
  return event;
}

bool WaitingEvents::Remove(index::AliasSpace space, Tier tier, uint32_t dp_rank, EngineHash name,
                           bool all) {
  const auto found = named_.find({space, name});
  if (found == named_.end()) return false;
  bool removed = false;
  std::vector<uint64_t> spent;
  for (const uint64_t number : found->second) {
    WaitingEvent& event = events_.at(number);
    if (event.tier != tier || event.dp_rank != dp_rank) continue;
    for (size_t i = 0; i < event.hashes.size() && (all || !removed); ++i) {
      if (event.hashes[i] != name || event.gone[i] != 0) continue;
      event.gone[i] = 1;
      removed = true;
      if (event.locals.empty()) spent.push_back(number);
    }
    if (removed && !all) break;
  }
  for (const uint64_t number : spent) Take(number);
  return removed;
}

void WaitingEvents::Clear(Tier tier, uint32_t dp_rank) {
  std::vector<uint64_t> cleared;
  for (const auto& [number, event] : events_) {
    if (event.tier == tier && event.dp_rank == dp_rank) cleared.push_back(number);
  }
  for (const uint64_t number : cleared) Take(number);
}

void WaitingEvents::Forget(ByName& names, const Name& name, uint64_t number) {
  const auto found = names.find(name);
  if (found == names.end()) return;
  found->second.erase(number);
  if (found->second.empty()) names.erase(found);
}

}  // namespace conductor::ingest
