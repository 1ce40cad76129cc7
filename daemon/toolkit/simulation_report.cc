#include "daemon/toolkit/simulation_report.h"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <nlohmann/json.hpp>

#include "daemon/toolkit/table.h"
#include "lib/base/number.h"

namespace conductor::toolkit {
namespace {

using Json = nlohmann::ordered_json;
using Align = Table::Align;

double SecondsOf(Duration duration) { return std::chrono::duration<double>(duration).count(); }

// Six decimals: below that a double's text differs between machines for nothing.
double Rounded(double number) { return std::round(number * 1e6) / 1e6; }

std::string Percent(double share) { return fmt::format("{:.1f} %", 100 * share); }

double PerSecond(uint64_t count, const simulate::Summary& summary) {
  return summary.seconds > 0 ? static_cast<double>(count) / summary.seconds : 0;
}

Json ByTier(const auto& values) {
  Json json = Json::object();
  for (const Tier tier : kTiers) {
    json[std::string(TierName(tier))] = values[static_cast<size_t>(tier)];
  }
  return json;
}

Json SpreadJson(const simulate::Spread& spread) {
  return {{"mean", Rounded(spread.mean)},
          {"p50", Rounded(spread.p50)},
          {"p90", Rounded(spread.p90)},
          {"p99", Rounded(spread.p99)},
          {"max", Rounded(spread.max)}};
}

Json BalanceJson(const simulate::Balance& balance) {
  return {{"max_over_mean", Rounded(balance.max_over_mean)},
          {"variation", Rounded(balance.variation)}};
}

Json FleetJson(const SimulateOptions& options) {
  const simulate::FleetModel& fleet = options.fleet;
  return {{"engines", fleet.engines},
          {"ranks", fleet.ranks},
          {"block_size", fleet.block_size},
          {"blocks", ByTier(fleet.blocks)},
          {"prefill_speed", fleet.prefill_speed},
          {"prefill_overhead_seconds", Rounded(SecondsOf(fleet.prefill_overhead))},
          {"decode_speed", fleet.decode_speed},
          {"max_batch", fleet.max_batch},
          {"cpu_load_seconds", Rounded(SecondsOf(fleet.load[1]))},
          {"disk_load_seconds", Rounded(SecondsOf(fleet.load[2]))},
          {"event_delay_seconds", Rounded(SecondsOf(options.event_delay))},
          {"rate_scale", options.rate_scale},
          {"seed", options.seed}};
}

Json RankJson(const simulate::RankRecord& rank, simulate::Target target) {
  Json blocks = Json::object();
  for (size_t tier = 0; tier < kTierCount; ++tier) {
    const auto& counters = rank.tiers[tier];
    blocks[std::string(TierName(kTiers[tier]))] = {{"stored", counters.stored},
                                                   {"evicted", counters.evicted},
                                                   {"moved_up", counters.moved_up},
                                                   {"held", counters.held}};
  }
  return {{"engine", target.engine},
          {"rank", target.rank},
          {"requests", rank.requests},
          {"busy_seconds", Rounded(SecondsOf(rank.busy))},
          {"blocks", std::move(blocks)}};
}

Json WeightsJson(const index::ScoreWeights& weights) {
  return {{"gpu", weights.gpu},
          {"cpu", weights.cpu},
          {"disk", weights.disk},
          {"waiting", weights.waiting},
          {"kv", weights.kv}};
}

Json RunJson(const SimulationReport& report, const SimulationReport::Run& run) {
  const simulate::Summary& summary = run.summary;
  std::array<double, kTierCount> rates{};
  for (const Tier tier : kTiers) {
    rates[static_cast<size_t>(tier)] = Rounded(summary.HitRate(tier));
  }
  Json json = {{"policy", PolicyName(run.outcome.policy)}};
  if (run.outcome.policy == simulate::Policy::kScore) {
    json["weights"] = WeightsJson(report.options.weights);
  }
  json.update({{"requests", summary.requests},
               {"wall_seconds", Rounded(summary.seconds)},
               {"prompt_tokens", summary.prompt_tokens},
               {"hit_tokens", ByTier(summary.hit_tokens)},
               {"computed_tokens", summary.computed_tokens},
               {"answer_tokens", summary.answer_tokens},
               {"hit_rate", Rounded(summary.HitRate())},
               {"hit_rate_by_tier", ByTier(rates)},
               {"ttft_seconds", SpreadJson(summary.ttft)},
               {"queueing_seconds", SpreadJson(summary.queueing)},
               {"busy_share", Rounded(summary.busy_share)},
               {"busy_balance", BalanceJson(summary.busy)},
               {"request_balance", BalanceJson(summary.sent)},
               {"evicted_blocks", ByTier(summary.evicted_blocks)},
               {"requests_per_second", Rounded(PerSecond(summary.requests, summary))},
               {"prompt_tokens_per_second", Rounded(PerSecond(summary.prompt_tokens, summary))},
               {"answer_tokens_per_second", Rounded(PerSecond(summary.answer_tokens, summary))}});
  Json ranks = Json::array();
  for (size_t target = 0; target < run.outcome.ranks.size(); ++target) {
    ranks.push_back(
        RankJson(run.outcome.ranks[target], simulate::TargetOf(report.options.fleet, target)));
  }
  json["ranks"] = std::move(ranks);
  return json;
}

std::string HitsTable(const SimulationReport& report, const Terminal& terminal) {
  Table table({{"POLICY"},
               {"HITS", Align::kRight},
               {"GPU", Align::kRight},
               {"CPU", Align::kRight},
               {"DISK", Align::kRight},
               {"COMPUTED", Align::kRight},
               {"EVICTED", Align::kRight},
               {"TOKENS/S", Align::kRight}});
  for (const auto& [outcome, summary] : report.runs) {
    table.Add({std::string(PolicyName(outcome.policy)), Percent(summary.HitRate()),
               Percent(summary.HitRate(Tier::kGpu)), Percent(summary.HitRate(Tier::kCpu)),
               Percent(summary.HitRate(Tier::kDisk)), Grouped(summary.computed_tokens),
               Grouped(summary.evicted_blocks[0]),
               Grouped(static_cast<uint64_t>(std::llround(
                   PerSecond(summary.prompt_tokens + summary.answer_tokens, summary))))});
  }
  return table.Render(terminal);
}

std::string TimesTable(const SimulationReport& report, const Terminal& terminal) {
  Table table({{"POLICY"},
               {"TTFT P50", Align::kRight},
               {"P90", Align::kRight},
               {"P99", Align::kRight},
               {"QUEUED P50", Align::kRight},
               {"P99", Align::kRight},
               {"MAX/MEAN", Align::kRight},
               {"CV", Align::kRight}});
  for (const auto& [outcome, summary] : report.runs) {
    table.Add({std::string(PolicyName(outcome.policy)), ShowSeconds(summary.ttft.p50),
               ShowSeconds(summary.ttft.p90), ShowSeconds(summary.ttft.p99),
               ShowSeconds(summary.queueing.p50), ShowSeconds(summary.queueing.p99),
               fmt::format("{:.2f}", summary.busy.max_over_mean),
               fmt::format("{:.2f}", summary.busy.variation)});
  }
  return table.Render(terminal);
}

}  // namespace

std::string ShowSeconds(double seconds) {
  if (seconds >= 999.5) return Grouped(static_cast<uint64_t>(std::llround(seconds))) + " s";
  if (seconds >= 99.95) return fmt::format("{:.0f} s", seconds);
  if (seconds >= 9.995) return fmt::format("{:.1f} s", seconds);
  return fmt::format("{:.2f} s", seconds);
}

std::string SimulationTables(const SimulationReport& report, const Terminal& terminal) {
  const simulate::FleetModel& fleet = report.options.fleet;
  const simulate::Summary& first = report.runs.front().summary;
  std::string text =
      fmt::format("{}, {}, {} of answers; {} of {}\n", Counted(first.requests, "request"),
                  Counted(first.prompt_tokens, "prompt token"), Grouped(first.answer_tokens),
                  Counted(fleet.engines, "engine"), Counted(fleet.ranks, "rank"));
  text += fmt::format("each with {} of {} tokens on gpu, {} on cpu, {} on disk\n\n",
                      Counted(fleet.blocks[0], "block"), fleet.block_size, Grouped(fleet.blocks[1]),
                      Grouped(fleet.blocks[2]));
  text += HitsTable(report, terminal);
  text += '\n';
  text += TimesTable(report, terminal);
  return text;
}

std::string SimulationDocument(const SimulationReport& report) {
  Json policies = Json::array();
  for (const SimulationReport::Run& run : report.runs) policies.push_back(RunJson(report, run));
  const Json json = {{"trace",
                      {{"files", report.traces},
                       {"form", TraceFormName(report.form)},
                       {"requests", report.lines.requests},
                       {"skipped_lines", report.lines.skipped},
                       {"refused_requests", report.refused}}},
                     {"fleet", FleetJson(report.options)},
                     {"policies", std::move(policies)}};
  // File names need not be UTF-8.
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace conductor::toolkit
