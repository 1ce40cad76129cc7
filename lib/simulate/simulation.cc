#include "lib/simulate/simulation.h"

#include <fmt/format.h>

#include <algorithm>
#include <queue>
#include <tuple>
#include <utility>

#include "lib/simulate/engine_rank.h"
#include "lib/simulate/router_view.h"

namespace conductor::simulate {
namespace {

class Run {
 public:
  Run(const PreparedTrace& trace, const FleetModel& fleet, const RoutingOptions& routing)
      : trace_(trace),
        fleet_(fleet),
        uses_view_(routing.policy == Policy::kLongestPrefix || routing.policy == Policy::kScore),
        view_(fleet, routing.event_delay),
        router_(routing.policy, routing.weights, fleet, routing.seed, view_),
        ranks_(fleet.targets(), EngineRank(fleet, trace)),
        loads_(fleet.targets()) {
    outcome_.policy = routing.policy;
    outcome_.requests.resize(trace.requests.size());
    outcome_.ranks.resize(fleet.targets());
  }

  Outcome Go() {
    size_t next = 0;
    while (next < trace_.requests.size() || !steps_.empty()) {
      // What ends at the moment of an arrival has ended when it is routed.
      if (steps_.empty() ||
          (next < trace_.requests.size() && trace_.requests[next].arrival < steps_.top().time)) {
        Arrive(next++);
        continue;
      }
      const Step step = steps_.top();
      steps_.pop();
      if (step.kind == Kind::kFirstToken) {
        FinishPrefill(step);
      } else {
        Finish(step);
      }
    }
    Conclude();
    return std::move(outcome_);
  }

 private:
  enum class Kind : uint8_t { kEnd, kFirstToken };
  // Something that a rank waits for. Those of one moment come in the order they were found.
  struct Step {
    Duration time;
    uint64_t number;
    Kind kind;
    size_t target;
    size_t request;

    bool operator>(const Step& other) const {
      return std::tie(time, number) > std::tie(other.time, other.number);
    }
  };

  void Push(Duration time, Kind kind, size_t target, size_t request) {
    steps_.push(Step{time, number_++, kind, target, request});
  }

  void Arrive(size_t number) {
    const PreparedRequest& prepared = trace_.requests[number];
    const size_t target = router_.Choose(prepared, prepared.arrival, loads_);
    RequestRecord& record = outcome_.requests[number];
    record.line = prepared.request.line;
    record.target = target;
    record.arrival = prepared.arrival;
    record.prompt = prepared.request.input;
    record.answer = prepared.request.output;
    ++outcome_.ranks[target].requests;
    ranks_[target].Enqueue(number);
    Moved(target, prepared.arrival, 1);
    TryStart(target, prepared.arrival);
  }

  void TryStart(size_t target, Duration now) {
    const auto start = ranks_[target].TryStart(now);
    if (start) {
      RequestRecord& record = outcome_.requests[start->request];
      record.start = now;
      ++record.starts;
      record.hits = {uint64_t{start->hits.gpu} * fleet_.block_size,
                     uint64_t{start->hits.cpu - start->hits.gpu} * fleet_.block_size,
                     uint64_t{start->hits.disk - start->hits.cpu} * fleet_.block_size};
      Push(start->prefill_end, Kind::kFirstToken, target, start->request);
    }
    Look(target, now);
  }

  void FinishPrefill(const Step& step) {
    const EngineRank::FirstToken first = ranks_[step.target].FinishPrefill(step.time);
    RequestRecord& record = outcome_.requests[first.request];
    record.first_token = step.time;
    record.computed = first.computed;
    Push(first.end, Kind::kEnd, step.target, first.request);
    TryStart(step.target, step.time);
  }

  void Finish(const Step& step) {
    ranks_[step.target].Finish(step.request);
    RequestRecord& record = outcome_.requests[step.request];
    record.end = step.time;
    ++record.ends;
    outcome_.wall = std::max(outcome_.wall, step.time);
    Moved(step.target, step.time, -1);
    TryStart(step.target, step.time);
  }

  void Moved(size_t target, Duration now, int32_t by) {
    outcome_.load.push_back({now, TargetOf(fleet_, target).engine, by});
  }

  // What a router sees of the rank after it did something.
  void Look(size_t target, Duration now) {
    loads_[target] = {ranks_[target].load(), ranks_[target].kv_use()};
    std::vector<wire::KvEvent> events = ranks_[target].TakeEvents();
    if (uses_view_ && !events.empty()) view_.Publish(target, now, std::move(events));
  }

  void Conclude() {
    view_.Drain();
    const auto indexed = view_.HeldBlocks();
    outcome_.unplaced = view_.Unplaced();
    for (size_t target = 0; target < ranks_.size(); ++target) {
      RankRecord& record = outcome_.ranks[target];
      record.busy = ranks_[target].busy();
      record.recounted = ranks_[target].cache().Recount();
      for (size_t tier = 0; tier < kTierCount; ++tier) {
        record.tiers[tier] = ranks_[target].cache().counters(kTiers[tier]);
      }
      if (uses_view_) record.indexed = indexed[target];
    }
  }

  const PreparedTrace& trace_;
  const FleetModel& fleet_;
  const bool uses_view_;
  RouterView view_;
  Router router_;
  std::vector<EngineRank> ranks_;
  std::vector<RankLoad> loads_;
  std::priority_queue<Step, std::vector<Step>, std::greater<>> steps_;
  uint64_t number_ = 0;
  Outcome outcome_;
};

}  // namespace

Result<Outcome> Simulate(const PreparedTrace& trace, const FleetModel& fleet,
                         const RoutingOptions& routing) {
  Outcome outcome = Run(trace, fleet, routing).Go();
  if (auto kept = CheckConservation(fleet, outcome); !kept) {
    return tl::unexpected(std::move(kept).error());
  }
  return outcome;
}

}  // namespace conductor::simulate
