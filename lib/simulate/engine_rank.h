#ifndef CONDUCTOR_LIB_SIMULATE_ENGINE_RANK_H_
#define CONDUCTOR_LIB_SIMULATE_ENGINE_RANK_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <unordered_map>
#include <vector>

#include "lib/base/clock.h"
#include "lib/simulate/fleet_model.h"
#include "lib/simulate/prepared_trace.h"
#include "lib/simulate/tiered_cache.h"
#include "lib/wire/kv_event.h"

namespace conductor::simulate {

// One rank at work: its queue, its batch and its cache, by the rules of FleetModel. It is told the
// time and says when it wants to be told again. Not thread-safe; `trace` must outlive it.
class EngineRank {
 public:
  // A prefill that began.
  struct Start {
    size_t request;  // position in the trace
    CacheHits hits;  // blocks
    Duration prefill_end;
  };
  // A prefill that ended.
  struct FirstToken {
    size_t request;
    uint64_t computed;  // tokens of the prompt
    Duration end;       // of the request, at the earliest now
  };

  EngineRank(const FleetModel& fleet, const PreparedTrace& trace);

  void Enqueue(size_t request) { queue_.push_back(request); }

  // Starts the first of the queue, if it can. To be called whenever something came or ended.
  [[nodiscard]] std::optional<Start> TryStart(Duration now);
  // To be called at Start::prefill_end, then Finish() at FirstToken::end.
  [[nodiscard]] FirstToken FinishPrefill(Duration now);
  void Finish(size_t request);

  // What the rank says of its blocks since the last call.
  [[nodiscard]] std::vector<wire::KvEvent> TakeEvents();

  // Requests that wait or run.
  [[nodiscard]] size_t load() const { return queue_.size() + running_.size(); }
  // The part of the device's blocks that running requests own, 0 to 1.
  [[nodiscard]] double kv_use() const;
  [[nodiscard]] Duration busy() const { return busy_; }  // in prefill, loads included
  [[nodiscard]] const TieredCache& cache() const { return cache_; }

 private:
  // Events of what changed while `chain` with its tokens was computed.
  void Tell(const std::vector<EngineHash>& names, const std::vector<TokenId>& tokens);
  // Events of what moved; nothing was computed.
  void TellMoves(CacheChanges changes);

  const FleetModel fleet_;
  const PreparedTrace& trace_;
  TieredCache cache_;
  std::deque<size_t> queue_;
  std::unordered_map<size_t, TieredCache::Lease> running_;
  std::optional<size_t> in_prefill_;
  Duration busy_{};
  std::vector<wire::KvEvent> events_;
};

}  // namespace conductor::simulate

#endif  // CONDUCTOR_LIB_SIMULATE_ENGINE_RANK_H_
