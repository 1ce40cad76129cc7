#include "lib/simulate/outcome.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace conductor::simulate {
namespace {

double SecondsOf(Duration duration) { return std::chrono::duration<double>(duration).count(); }

tl::unexpected<Error> Broken(std::string what, std::string where, std::string expected) {
  return Fail(std::move(what), "simulation: " + std::move(where), std::move(expected));
}

uint64_t Hits(const RequestRecord& request) {
  return std::accumulate(request.hits.begin(), request.hits.end(), uint64_t{0});
}

Status CheckRequest(const RequestRecord& request) {
  const std::string where = fmt::format("the request of line {}", request.line);
  if (request.starts != 1 || request.ends != 1) {
    return Broken(fmt::format("started {} times and ended {} times", request.starts, request.ends),
                  where, "once each");
  }
  if (request.start < request.arrival || request.first_token < request.start ||
      request.end < request.first_token) {
    return Broken(
        fmt::format("arrived at {}, started at {}, had its first token at {}, ended at {}",
                    FormatDuration(request.arrival), FormatDuration(request.start),
                    FormatDuration(request.first_token), FormatDuration(request.end)),
        where, "times in this order");
  }
  if (Hits(request) + request.computed != request.prompt) {
    return Broken(fmt::format("{} tokens hit and {} computed", Hits(request), request.computed),
                  where, fmt::format("together {}, its prompt", request.prompt));
  }
  return {};
}

Status CheckTier(const RankRecord& rank, size_t tier, uint64_t capacity, const std::string& where) {
  const TieredCache::TierCounters& counted = rank.tiers[tier];
  const uint64_t left = counted.evicted + counted.moved_up;
  if (counted.stored - left != counted.held || rank.recounted[tier] != counted.held) {
    return Broken(
        fmt::format("{} blocks stored, {} evicted, {} moved up, {} held, {} there", counted.stored,
                    counted.evicted, counted.moved_up, counted.held, rank.recounted[tier]),
        where, "stored - evicted - moved up = held = there");
  }
  if (counted.held > capacity) {
    return Broken(fmt::format("{} blocks held", counted.held), where,
                  fmt::format("at most {}", capacity));
  }
  if (rank.indexed && (*rank.indexed)[tier] != counted.held) {
    return Broken(fmt::format("{} blocks in the router's index", (*rank.indexed)[tier]), where,
                  fmt::format("{}, which are held", counted.held));
  }
  return {};
}

Status CheckRank(const FleetModel& fleet, const Outcome& outcome, size_t target, uint64_t sent) {
  const RankRecord& rank = outcome.ranks[target];
  const Target named = TargetOf(fleet, target);
  const std::string where = fmt::format("engine {}, rank {}", named.engine, named.rank);
  if (rank.requests != sent) {
    return Broken(fmt::format("got {} requests", rank.requests), where,
                  fmt::format("{}, which were sent to it", sent));
  }
  if (rank.busy > outcome.wall) {
    return Broken(fmt::format("in prefill for {}", FormatDuration(rank.busy)), where,
                  fmt::format("at most {}, the wall time", FormatDuration(outcome.wall)));
  }
  for (size_t tier = 0; tier < kTierCount; ++tier) {
    const std::string tier_name(TierName(kTiers[tier]));
    if (auto kept = CheckTier(rank, tier, fleet.blocks[tier], where + ", " + tier_name); !kept) {
      return kept;
    }
  }
  return {};
}

}  // namespace

Status CheckConservation(const FleetModel& fleet, const Outcome& outcome) {
  std::vector<uint64_t> sent(fleet.targets());
  for (const RequestRecord& request : outcome.requests) {
    if (auto kept = CheckRequest(request); !kept) return kept;
    ++sent[request.target];
  }
  for (size_t target = 0; target < outcome.ranks.size(); ++target) {
    if (auto kept = CheckRank(fleet, outcome, target, sent[target]); !kept) return kept;
  }
  if (outcome.unplaced > 0) {
    return Broken(fmt::format("{} events without a place in it", outcome.unplaced),
                  "the router's index", "none");
  }
  return {};
}

double Summary::HitRate() const {
  double rate = 0;
  for (const Tier tier : kTiers) rate += HitRate(tier);
  return rate;
}

double Summary::HitRate(Tier tier) const {
  const uint64_t hits = hit_tokens[static_cast<size_t>(tier)];
  return prompt_tokens == 0 ? 0 : static_cast<double>(hits) / static_cast<double>(prompt_tokens);
}

Spread SpreadOf(std::vector<double> seconds) {
  if (seconds.empty()) return {};
  std::ranges::sort(seconds);
  const auto count = static_cast<double>(seconds.size());
  const auto percentile = [&](double share) {
    const auto rank = static_cast<size_t>(std::ceil(share * count));
    return seconds[std::max<size_t>(rank, 1) - 1];
  };
  return {.mean = std::accumulate(seconds.begin(), seconds.end(), 0.0) / count,
          .p50 = percentile(0.5),
          .p90 = percentile(0.9),
          .p99 = percentile(0.99),
          .max = seconds.back()};
}

Balance BalanceOf(std::span<const double> work) {
  const auto count = static_cast<double>(work.size());
  const double mean = std::accumulate(work.begin(), work.end(), 0.0) / count;
  if (work.empty() || mean == 0) return {};
  double squares = 0;
  for (const double amount : work) squares += (amount - mean) * (amount - mean);
  return {.max_over_mean = *std::ranges::max_element(work) / mean,
          .variation = std::sqrt(squares / count) / mean};
}

Summary Summarize(const FleetModel& fleet, const Outcome& outcome) {
  Summary summary;
  summary.requests = outcome.requests.size();
  summary.seconds = SecondsOf(outcome.wall);
  std::vector<double> queueing;
  std::vector<double> ttft;
  for (const RequestRecord& request : outcome.requests) {
    summary.prompt_tokens += request.prompt;
    summary.answer_tokens += request.answer;
    summary.computed_tokens += request.computed;
    for (size_t tier = 0; tier < kTierCount; ++tier) summary.hit_tokens[tier] += request.hits[tier];
    queueing.push_back(SecondsOf(request.start - request.arrival));
    ttft.push_back(SecondsOf(request.first_token - request.arrival));
  }
  summary.queueing = SpreadOf(std::move(queueing));
  summary.ttft = SpreadOf(std::move(ttft));

  std::vector<double> busy(fleet.engines);
  std::vector<double> sent(fleet.engines);
  double all_busy = 0;
  for (size_t target = 0; target < outcome.ranks.size(); ++target) {
    const RankRecord& rank = outcome.ranks[target];
    const uint32_t engine = TargetOf(fleet, target).engine;
    busy[engine] += SecondsOf(rank.busy);
    all_busy += SecondsOf(rank.busy);
    sent[engine] += static_cast<double>(rank.requests);
    for (size_t tier = 0; tier < kTierCount; ++tier) {
      summary.evicted_blocks[tier] += rank.tiers[tier].evicted;
    }
  }
  summary.busy = BalanceOf(busy);
  summary.sent = BalanceOf(sent);
  const double time = summary.seconds * static_cast<double>(fleet.targets());
  if (time > 0) summary.busy_share = all_busy / time;
  return summary;
}

}  // namespace conductor::simulate
