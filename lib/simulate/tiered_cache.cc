#include "lib/simulate/tiered_cache.h"

#include <algorithm>
#include <ranges>
#include <utility>

namespace conductor::simulate {
namespace {

constexpr size_t At(Tier tier) { return static_cast<size_t>(tier); }

}  // namespace

TieredCache::TieredCache(std::array<uint32_t, kTierCount> capacity) : capacity_(capacity) {}

CacheHits TieredCache::Find(std::span<const EngineHash> names, uint32_t limit) const {
  CacheHits hits;
  Tier reached = Tier::kGpu;
  const auto count = static_cast<uint32_t>(std::min<size_t>(names.size(), limit));
  for (uint32_t i = 0; i < count; ++i) {
    const auto found = by_name_.find(names[i]);
    if (found == by_name_.end()) break;
    const Tier tier = nodes_[found->second].tier;
    // No climbing back to the device: an engine asks its connector for all that follows.
    if (tier == Tier::kGpu && reached != Tier::kGpu) break;
    reached = std::max(reached, tier);
    if (reached == Tier::kGpu) ++hits.gpu;
    if (reached != Tier::kDisk) ++hits.cpu;
    ++hits.disk;
  }
  return hits;
}

bool TieredCache::Take(std::span<const EngineHash> names, const CacheHits& hits, uint32_t room,
                       Lease& lease) {
  std::vector<uint32_t> nodes;
  nodes.reserve(names.size());
  uint64_t wanted = room;
  uint64_t arriving = room;
  for (uint32_t i = 0; i < hits.disk; ++i) {
    const uint32_t node = by_name_.at(names[i]);
    nodes.push_back(node);
    if (nodes_[node].pins == 0) ++wanted;
    if (nodes_[node].tier != Tier::kGpu) ++arriving;
  }
  if (owned() + wanted > capacity(Tier::kGpu)) return false;

  // First what is kept, so that making room cannot evict it, from any tier.
  for (const uint32_t node : nodes) {
    if (nodes_[node].tier == Tier::kGpu) {
      Pin(node);
    } else {
      LeaveUpwards(node);
    }
  }
  MakeRoom(Tier::kGpu, arriving);
  for (const uint32_t node : nodes) {
    if (nodes_[node].tier != Tier::kGpu) Arrive(node);
  }
  room_ += room;
  lease.nodes = std::move(nodes);
  lease.room = room;
  return true;
}

void TieredCache::Fill(std::span<const EngineHash> names, Lease& lease) {
  for (size_t i = lease.nodes.size(); i < names.size() && lease.room > 0; ++i) {
    --lease.room;
    --room_;
    const auto [entry, is_new] = by_name_.try_emplace(names[i], 0);
    if (!is_new) {
      const uint32_t node = entry->second;
      if (nodes_[node].tier == Tier::kGpu) {
        Pin(node);
      } else {
        LeaveUpwards(node);
        Arrive(node);
      }
      lease.nodes.push_back(node);
      continue;
    }
    uint32_t node;
    if (free_.empty()) {
      node = static_cast<uint32_t>(nodes_.size());
      nodes_.emplace_back();
    } else {
      node = free_.back();
      free_.pop_back();
    }
    entry->second = node;
    nodes_[node] = Node{.name = names[i], .pins = 1};
    ++pinned_;
    Enter(node, Tier::kGpu);
    changes_.computed.push_back(static_cast<uint32_t>(i));
    lease.nodes.push_back(node);
  }
}

void TieredCache::Finish(Lease& lease) {
  for (const uint32_t node : std::views::reverse(lease.nodes)) {
    if (--nodes_[node].pins > 0) continue;
    --pinned_;
    Append(node);
  }
  room_ -= lease.room;
  lease = {};
}

CacheChanges TieredCache::TakeChanges() { return std::exchange(changes_, {}); }

std::array<uint64_t, kTierCount> TieredCache::Recount() const {
  std::array<uint64_t, kTierCount> held{};
  for (const auto& [name, node] : by_name_) ++held[At(nodes_[node].tier)];
  return held;
}

void TieredCache::Append(uint32_t node) {
  List& list = lists_[At(nodes_[node].tier)];
  nodes_[node].previous = list.newest;
  nodes_[node].next = kNone;
  (list.newest == kNone ? list.oldest : nodes_[list.newest].next) = node;
  list.newest = node;
}

void TieredCache::Unlink(uint32_t node) {
  List& list = lists_[At(nodes_[node].tier)];
  const auto [previous, next] = std::pair(nodes_[node].previous, nodes_[node].next);
  (previous == kNone ? list.oldest : nodes_[previous].next) = next;
  (next == kNone ? list.newest : nodes_[next].previous) = previous;
}

void TieredCache::Pin(uint32_t node) {
  if (nodes_[node].pins++ > 0) return;
  ++pinned_;
  Unlink(node);
}

void TieredCache::Enter(uint32_t node, Tier tier) {
  nodes_[node].tier = tier;
  ++counters_[At(tier)].stored;
  ++counters_[At(tier)].held;
}

void TieredCache::LeaveUpwards(uint32_t node) {
  const Tier from = nodes_[node].tier;
  Unlink(node);
  ++counters_[At(from)].moved_up;
  --counters_[At(from)].held;
  changes_.removed[At(from)].push_back(nodes_[node].name);
}

void TieredCache::Arrive(uint32_t node) {
  changes_.stored[At(Tier::kGpu)].push_back(nodes_[node].name);
  nodes_[node].pins = 1;
  ++pinned_;
  Enter(node, Tier::kGpu);
}

uint64_t TieredCache::Used(Tier tier) const {
  return counters_[At(tier)].held + (tier == Tier::kGpu ? room_ : 0);
}

void TieredCache::MakeRoom(Tier tier, uint64_t blocks) {
  while (Used(tier) + blocks > capacity(tier)) {
    const uint32_t oldest = lists_[At(tier)].oldest;
    Unlink(oldest);
    PushDown(oldest);
  }
}

void TieredCache::PushDown(uint32_t node) {
  const Tier from = nodes_[node].tier;
  ++counters_[At(from)].evicted;
  --counters_[At(from)].held;
  changes_.removed[At(from)].push_back(nodes_[node].name);
  for (size_t below = At(from) + 1; below < kTierCount; ++below) {
    const Tier tier = kTiers[below];
    if (capacity(tier) == 0) continue;
    MakeRoom(tier, 1);
    changes_.stored[below].push_back(nodes_[node].name);
    Enter(node, tier);
    Append(node);
    return;
  }
  by_name_.erase(nodes_[node].name);
  free_.push_back(node);
}

}  // namespace conductor::simulate
