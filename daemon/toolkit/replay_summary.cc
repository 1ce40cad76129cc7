#include "daemon/toolkit/replay_summary.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "daemon/toolkit/table.h"
#include "lib/base/number.h"
#include "lib/base/tier.h"

namespace conductor::toolkit {
namespace {

using Json = nlohmann::ordered_json;
using Align = Table::Align;

uint64_t Restarts(const stream::StreamCounters& counters) {
  return counters.lives > 0 ? counters.lives - 1 : 0;
}

RebuildCounts TotalOf(const ReplaySummary& summary) {
  RebuildCounts total;
  for (const auto& result : summary.publishers) total.Add(result.counts);
  return total;
}

double SecondsOf(const RebuildCounts& counts) {
  return counts.first_at ? std::max(0.0, *counts.last_at - *counts.first_at) : 0;
}

std::string SizeText(uint64_t bytes) {
  constexpr std::array<std::string_view, 4> kUnits = {"KiB", "MiB", "GiB", "TiB"};
  double size = static_cast<double>(bytes) / 1024;
  size_t unit = 0;
  for (; size >= 1024 && unit + 1 < kUnits.size(); ++unit) size /= 1024;
  return fmt::format("{:.1f} {}", size, kUnits[unit]);
}

std::string RankText(const std::optional<int64_t>& rank) {
  return rank ? std::to_string(*rank) : "none";
}

std::string StateText(const stream::Trust& trust) {
  if (trust.reason.empty()) return std::string(stream::TrustStateName(trust.state));
  return fmt::format("{} ({})", stream::TrustStateName(trust.state), trust.reason);
}

std::string Titled(const Terminal& terminal, std::string_view title, const Table& table) {
  return fmt::format("\n{}\n{}", terminal.Paint(Colour::kCyan, title), table.Render(terminal));
}

std::string Publishers(const ReplaySummary& summary, const Terminal& terminal) {
  Table table({{"PUBLISHER", Align::kName},
               {"TYPE"},
               {"STATE"},
               {"BATCHES", Align::kRight},
               {"GAPS", Align::kRight},
               {"RESTARTS", Align::kRight},
               {"DUPLICATES", Align::kRight},
               {"MALFORMED", Align::kRight}});
  for (const auto& result : summary.publishers) {
    const auto number = [&](uint64_t count, bool bad) {
      return bad && count > 0 ? terminal.Paint(Colour::kRed, Grouped(count)) : Grouped(count);
    };
    const uint64_t malformed = result.stream.malformed_frames + result.counts.not_batches;
    table.Add({Printable(result.publisher.name),
               std::string(serve::PublisherTypeName(result.publisher.read_as.type)),
               StateText(result.trust), Grouped(result.counts.batches),
               number(result.stream.gaps, true), number(Restarts(result.stream), true),
               Grouped(result.stream.duplicates + result.stream.late), number(malformed, true)});
  }
  return Titled(terminal, "Publishers", table);
}

std::string Events(const RebuildCounts& total, const Terminal& terminal) {
  Table by_type({{"EVENT"}, {"TIER"}, {"EVENTS", Align::kRight}, {"BLOCKS", Align::kRight}});
  for (const auto& [key, tally] : total.by_type) {
    by_type.Add({key.first, Printable(key.second), Grouped(tally.events), Grouped(tally.blocks)});
  }
  std::string text = Titled(terminal, "Events by tier", by_type);
  Table by_rank({{"RANK"}, {"EVENT"}, {"EVENTS", Align::kRight}, {"BLOCKS", Align::kRight}});
  for (const auto& [key, tally] : total.by_rank) {
    by_rank.Add({RankText(key.first), key.second, Grouped(tally.events), Grouped(tally.blocks)});
  }
  return text + Titled(terminal, "Events by rank", by_rank);
}

std::string Index(const ReplaySummary& summary, const Terminal& terminal) {
  Table table({{"INSTANCE", Align::kName},
               {"RANK", Align::kRight},
               {"MODEL"},
               {"LORA"},
               {"BLOCK SIZE", Align::kRight},
               {"GPU", Align::kRight},
               {"CPU", Align::kRight},
               {"DISK", Align::kRight}});
  for (const index::RankStats& rank : summary.ranks) {
    const index::NamespaceKey& key = rank.rank.name_space;
    table.Add({Printable(rank.rank.instance_id), std::to_string(rank.rank.dp_rank),
               Printable(key.model), Printable(key.lora_name), Grouped(key.block_size),
               Grouped(rank.blocks[0]), Grouped(rank.blocks[1]), Grouped(rank.blocks[2])});
  }
  return Titled(terminal, "The index it ends with", table) +
         fmt::format("\n{} in {}, {}, {}, {} in memory\n", Counted(summary.index.blocks, "block"),
                     Counted(summary.name_spaces.size(), "namespace"),
                     Counted(summary.index.holdings, "holding"),
                     Counted(summary.index.aliases, "name"), SizeText(summary.index.bytes));
}

// What needs somebody to look.
std::string Problems(const ReplaySummary& summary, const Terminal& terminal) {
  std::string text;
  const auto say = [&](std::string_view whose, std::string_view what) {
    text += fmt::format("{} {}: {}\n", terminal.Paint(Colour::kYellow, "!"), Printable(whose),
                        Printable(what));
  };
  if (const auto& lost = summary.lost; lost.damages > 0) {
    std::string what = Counted(lost.damages, "damage");
    if (lost.missing_parts > 0)
      what += fmt::format(" ({} missing)", Counted(lost.missing_parts, "part"));
    say(summary.source, what + "; what is lost with that is in no figure");
  }
  for (const auto& result : summary.publishers) {
    if (!result.trust.detail.empty()) say(result.publisher.name, result.trust.detail);
    if (!result.counts.first_problem.empty()) {
      say(result.publisher.name, result.counts.first_problem);
    }
    const ingest::IngestCounters& ingest = result.ingest;
    if (ingest.waiting_events > 0) {
      say(result.publisher.name, fmt::format("waiting for blocks that nobody announced: {}",
                                             Counted(ingest.waiting_events, "event")));
    }
    if (ingest.refused_block_size > 0) {
      say(result.publisher.name,
          fmt::format("{} refused: blocks of {} tokens do not fit blocks of {}",
                      Counted(ingest.refused_block_size, "event"), ingest.last_refused_block_size,
                      ingest.block_size));
    }
    if (ingest.refused_shape > 0) {
      say(result.publisher.name,
          fmt::format("{} refused: hashes, tokens and block size do not fit one another",
                      Counted(ingest.refused_shape, "event")));
    }
    if (ingest.objects_unread > 0) {
      say(result.publisher.name,
          fmt::format("{} with keys of no known family", Counted(ingest.objects_unread, "object")));
    }
    if (ingest.objects_foreign > 0) {
      say(result.publisher.name,
          fmt::format("{} objects are of another model: --model names it", ingest.objects_foreign));
    }
  }
  return text.empty() ? text : "\n" + text;
}

Json OfStream(const stream::StreamCounters& counters) {
  return {{"frames", counters.frames},
          {"malformed", counters.malformed_frames},
          {"duplicates", counters.duplicates},
          {"late", counters.late},
          {"gaps", counters.gaps},
          {"restarts", Restarts(counters)},
          {"lossy_batches", counters.lossy_batches},
          {"cursor", counters.cursor ? Json(*counters.cursor) : Json(nullptr)}};
}

Json OfTypes(const RebuildCounts& counts) {
  Json types = Json::array();
  for (const auto& [key, tally] : counts.by_type) {
    types.push_back({{"event", key.first},
                     {"tier", key.second},
                     {"events", tally.events},
                     {"blocks", tally.blocks}});
  }
  return types;
}

Json OfRanks(const RebuildCounts& counts) {
  Json ranks = Json::array();
  for (const auto& [key, tally] : counts.by_rank) {
    ranks.push_back({{"dp_rank", key.first ? Json(*key.first) : Json(nullptr)},
                     {"event", key.second},
                     {"events", tally.events},
                     {"blocks", tally.blocks}});
  }
  return ranks;
}

Json Time(const std::optional<double>& at) { return at ? Json(*at) : Json(nullptr); }

Json OfCounts(const RebuildCounts& counts) {
  const Tally total = counts.Total();
  Json skips = Json::object();
  for (const auto& [reason, count] : counts.skips) skips[reason] = count;
  return {{"batches", counts.batches},
          {"not_batches", counts.not_batches},
          {"events", total.events},
          {"blocks", total.blocks},
          {"first_at", Time(counts.first_at)},
          {"last_at", Time(counts.last_at)},
          {"seconds", SecondsOf(counts)},
          {"by_tier", OfTypes(counts)},
          {"by_rank", OfRanks(counts)},
          {"skips", std::move(skips)}};
}

Json OfIngest(const ingest::IngestCounters& counters) {
  return {{"waiting_events", counters.waiting_events},
          {"orphaned", counters.orphaned},
          {"joined", counters.joined},
          {"removed_unknown", counters.removed_unknown},
          {"refused_block_size", counters.refused_block_size},
          {"refused_shape", counters.refused_shape},
          {"ignored_group", counters.ignored_group},
          {"ignored_medium", counters.ignored_medium},
          {"objects", counters.objects},
          {"pool_blocks", counters.pool_blocks},
          {"partial_blocks", counters.partial_blocks}};
}

Json OfPublisher(const Rebuild::PublisherResult& result) {
  const serve::Registration& as = result.publisher.read_as;
  return {{"publisher", result.publisher.name},
          {"type", serve::PublisherTypeName(as.type)},
          {"instance_id", as.instance_id},
          {"tenant_id", as.tenant},
          {"model", as.model},
          {"block_size", result.ingest.block_size},
          {"state", stream::TrustStateName(result.trust.state)},
          {"reason", result.trust.reason},
          {"detail", result.trust.detail},
          {"problem", result.counts.first_problem},
          {"counts", OfCounts(result.counts)},
          {"stream", OfStream(result.stream)},
          {"ingest", OfIngest(result.ingest)}};
}

Json OfRank(const index::RankStats& rank) {
  const index::NamespaceKey& key = rank.rank.name_space;
  Json blocks;
  for (const Tier tier : kTiers) {
    blocks[std::string(TierName(tier))] = rank.blocks[static_cast<size_t>(tier)];
  }
  return {{"instance_id", rank.rank.instance_id},
          {"dp_rank", rank.rank.dp_rank},
          {"tenant_id", key.tenant},
          {"model", key.model},
          {"lora_name", key.lora_name},
          {"block_size", key.block_size},
          {"additional_salt", key.additional_salt},
          {"blocks", std::move(blocks)}};
}

std::string CheckText(const ReplaySummary::Check& check, const Terminal& terminal) {
  const std::string bad = terminal.Paint(Colour::kRed, "!");
  const std::optional<bool> same = check.Same();
  if (!same) return fmt::format("{} nothing could be compared with the reference model\n", bad);
  if (!*same) {
    return fmt::format("{} the index and the reference model differ\n{}", bad, check.difference);
  }
  std::string text = fmt::format(
      "{} the index and the reference model agree: {}, {}\n", terminal.Paint(Colour::kGreen, "="),
      Counted(check.batches, "batch"), Counted(check.comparisons, "comparison"));
  if (!check.sound) {
    text +=
        fmt::format("{} the source is damaged: of what is lost nothing could be compared\n", bad);
  }
  return text;
}

}  // namespace

std::optional<bool> ReplaySummary::Check::Same() const {
  if (!difference.empty()) return false;
  if (batches == 0 || comparisons == 0) return std::nullopt;
  return true;
}

ReplaySummary Summarize(const Rebuild& rebuild) {
  ReplaySummary summary;
  summary.publishers = rebuild.Results();
  summary.index = rebuild.index().Stats();
  summary.ranks = rebuild.index().Ranks();
  summary.name_spaces = rebuild.index().Namespaces();
  const auto by_rank = [](const index::RankStats& a, const index::RankStats& b) {
    return std::tie(a.rank.instance_id, a.rank.dp_rank, a.rank.name_space) <
           std::tie(b.rank.instance_id, b.rank.dp_rank, b.rank.name_space);
  };
  std::ranges::sort(summary.ranks, by_rank);
  std::ranges::sort(summary.name_spaces, {}, &index::NamespaceStats::key);
  return summary;
}

std::string RenderSummary(const ReplaySummary& summary, const Terminal& terminal) {
  const RebuildCounts total = TotalOf(summary);
  const Tally events = total.Total();
  std::string text = fmt::format(
      "{}{}: {}, {}, {} named, over {:.1f} s\n", Printable(summary.source),
      summary.whole ? "" : " (not to its end)", Counted(total.batches, "batch"),
      Counted(events.events, "event"), Counted(events.blocks, "block"), SecondsOf(total));
  text += Publishers(summary, terminal);
  if (!total.by_type.empty()) text += Events(total, terminal);
  text += Index(summary, terminal);
  text += Problems(summary, terminal);
  if (summary.check) text += "\n" + CheckText(*summary.check, terminal);
  return text;
}

std::string RenderSummaryJson(const ReplaySummary& summary) {
  Json publishers = Json::array();
  for (const auto& result : summary.publishers) publishers.push_back(OfPublisher(result));
  Json ranks = Json::array();
  for (const index::RankStats& rank : summary.ranks) ranks.push_back(OfRank(rank));
  Json name_spaces = Json::array();
  for (const index::NamespaceStats& name_space : summary.name_spaces) {
    const index::NamespaceKey& key = name_space.key;
    name_spaces.push_back({{"tenant_id", key.tenant},
                           {"model", key.model},
                           {"lora_name", key.lora_name},
                           {"block_size", key.block_size},
                           {"additional_salt", key.additional_salt},
                           {"blocks", name_space.blocks}});
  }
  Json document{{"source", summary.source},
                {"whole", summary.whole},
                {"damages", summary.lost.damages},
                {"missing_parts", summary.lost.missing_parts},
                {"counts", OfCounts(TotalOf(summary))},
                {"publishers", std::move(publishers)},
                {"index",
                 {{"blocks", summary.index.blocks},
                  {"released", summary.index.released},
                  {"holdings", summary.index.holdings},
                  {"names", summary.index.aliases},
                  {"bytes", summary.index.bytes},
                  {"ranks", std::move(ranks)},
                  {"namespaces", std::move(name_spaces)}}},
                {"check", nullptr},
                {"notes", summary.notes}};
  if (summary.check) {
    const ReplaySummary::Check& check = *summary.check;
    const std::optional<bool> same = check.Same();
    document["check"] = {{"same", same ? Json(*same) : Json()},
                         {"batches", check.batches},
                         {"comparisons", check.comparisons},
                         {"difference", check.difference},
                         {"sound", check.sound}};
  }
  return document.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace conductor::toolkit
