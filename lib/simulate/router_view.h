#ifndef CONDUCTOR_LIB_SIMULATE_ROUTER_VIEW_H_
#define CONDUCTOR_LIB_SIMULATE_ROUTER_VIEW_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "lib/base/clock.h"
#include "lib/hash/block_hash.h"
#include "lib/index/prefix_index.h"
#include "lib/ingest/publisher_ingest.h"
#include "lib/simulate/fleet_model.h"
#include "lib/wire/kv_event.h"

namespace conductor::simulate {

// What a router that asks Conductor knows of the fleet: the ranks' KV events, applied to a real
// index the way a daemon does, `delay` after they were sent. Not thread-safe.
class RouterView {
 public:
  RouterView(const FleetModel& fleet, Duration delay);

  // Events of a rank, in the order of time.
  void Publish(size_t target, Duration now, std::vector<wire::KvEvent> events);

  // How far each rank holds a prompt at `now`, in blocks, by target. Valid until the next call.
  [[nodiscard]] std::span<const index::RankMatch> Look(Duration now,
                                                       std::span<const PrefixHash> chain);

  // Applies what is still under way.
  void Drain();
  // Blocks that the index says a rank holds.
  [[nodiscard]] std::vector<std::array<uint64_t, kTierCount>> HeldBlocks() const;
  // Events that the index could not place, or removals of what it did not know: none, in a model.
  [[nodiscard]] uint64_t Unplaced() const;

 private:
  struct UnderWay {
    Duration due;
    size_t target;
    wire::EventBatch batch;
  };
  void Apply(const UnderWay& message);
  [[nodiscard]] size_t TargetNamed(const index::RankKey& rank) const;

  const FleetModel fleet_;
  const Duration delay_;
  index::PrefixIndex index_;
  std::vector<std::unique_ptr<ingest::PublisherIngest>> publishers_;  // by target
  std::deque<UnderWay> under_way_;
  index::Matches matches_;
  std::vector<index::RankMatch> by_target_;
};

}  // namespace conductor::simulate

#endif  // CONDUCTOR_LIB_SIMULATE_ROUTER_VIEW_H_
