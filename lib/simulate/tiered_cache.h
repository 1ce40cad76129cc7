#ifndef CONDUCTOR_LIB_SIMULATE_TIERED_CACHE_H_
#define CONDUCTOR_LIB_SIMULATE_TIERED_CACHE_H_

#include <absl/container/flat_hash_map.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "lib/base/tier.h"
#include "lib/hash/block_hash.h"

namespace conductor::simulate {

// How far a prompt is cached, in blocks: gpu <= cpu <= disk, as index::RankMatch has them.
struct CacheHits {
  uint32_t gpu = 0;
  uint32_t cpu = 0;
  uint32_t disk = 0;
};

// What happened to blocks since the last look, for the rank's KV events. A block is at most once
// in one list, and in the order stored, computed, removed they lead from one state to the next.
struct CacheChanges {
  std::array<std::vector<EngineHash>, kTierCount> stored;   // moved there from another tier
  std::array<std::vector<EngineHash>, kTierCount> removed;  // moved from there, or gone
  // Positions in the chain of names that Fill or Finish was called with: new on the device.
  std::vector<uint32_t> computed;
};

// The blocks of one rank on its three tiers (FleetModel says by which rules). Names of blocks are
// chains: a name stands for all tokens up to its block. Not thread-safe.
//
// A request goes through Take, Fill and Finish; in between it owns blocks, which are pinned, and
// room for those that do not exist yet.
class TieredCache {
 public:
  struct TierCounters {
    uint64_t stored = 0;    // blocks that came to the tier
    uint64_t evicted = 0;   // that left it for want of room
    uint64_t moved_up = 0;  // that left it for the device
    uint64_t held = 0;      // that are there, counted as they came and went
  };
  // What a request owns.
  struct Lease {
    std::vector<uint32_t> nodes;  // pinned, in the order of the chain; ours alone to read
    uint32_t room = 0;            // blocks that do not exist yet
  };

  explicit TieredCache(std::array<uint32_t, kTierCount> capacity);

  // At most `limit` blocks.
  [[nodiscard]] CacheHits Find(std::span<const EngineHash> names, uint32_t limit) const;

  // Makes the first `hits.disk` blocks of the chain the lease's own and brings them to the device,
  // with room for `room` blocks more, for which others are evicted. False, and nothing is changed,
  // when so much is not free of others' leases.
  [[nodiscard]] bool Take(std::span<const EngineHash> names, const CacheHits& hits, uint32_t room,
                          Lease& lease);
  // The blocks of the chain from lease.nodes.size() on were computed, each for a block of its room.
  void Fill(std::span<const EngineHash> names, Lease& lease);
  // Ends a lease: its blocks are the most recently used ones now, the chain's first most of all.
  void Finish(Lease& lease);

  [[nodiscard]] CacheChanges TakeChanges();

  [[nodiscard]] const TierCounters& counters(Tier tier) const {
    return counters_[static_cast<size_t>(tier)];
  }
  // Counted by a walk over all blocks.
  [[nodiscard]] std::array<uint64_t, kTierCount> Recount() const;
  // Blocks of the device that leases own, room included.
  [[nodiscard]] uint64_t owned() const { return pinned_ + room_; }
  [[nodiscard]] uint32_t capacity(Tier tier) const { return capacity_[static_cast<size_t>(tier)]; }

 private:
  static constexpr uint32_t kNone = UINT32_MAX;
  // A block, in the list of its tier unless it is pinned.
  struct Node {
    EngineHash name{};
    uint32_t previous = kNone;
    uint32_t next = kNone;
    uint32_t pins = 0;
    Tier tier = Tier::kGpu;
  };
  struct List {
    uint32_t oldest = kNone;
    uint32_t newest = kNone;
  };

  void Append(uint32_t node);  // as the newest of its tier
  void Unlink(uint32_t node);
  void Pin(uint32_t node);
  void Enter(uint32_t node, Tier tier);       // is there from now on, not yet in the list
  void LeaveUpwards(uint32_t node);           // from a lower tier, on its way to the device
  void Arrive(uint32_t node);                 // on the device, pinned
  void MakeRoom(Tier tier, uint64_t blocks);  // for so many more
  void PushDown(uint32_t node);               // evicts it from its tier
  [[nodiscard]] uint64_t Used(Tier tier) const;

  std::array<uint32_t, kTierCount> capacity_;
  std::array<TierCounters, kTierCount> counters_;
  std::array<List, kTierCount> lists_;
  std::vector<Node> nodes_;
  std::vector<uint32_t> free_;
  absl::flat_hash_map<EngineHash, uint32_t> by_name_;
  uint64_t pinned_ = 0;
  uint64_t room_ = 0;
  CacheChanges changes_;
};

}  // namespace conductor::simulate

#endif  // CONDUCTOR_LIB_SIMULATE_TIERED_CACHE_H_
