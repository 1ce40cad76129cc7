#include "daemon/toolkit/tap_stats.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>
#include <string_view>
#include <utility>

#include "daemon/toolkit/table.h"
#include "lib/base/number.h"

namespace conductor::toolkit {
namespace {

constexpr std::array<std::string_view, TapStats::kPlaces> kPlaceNames = {"gpu", "cpu", "disk",
                                                                         "other"};

size_t PlaceOf(const TapEvent& event) {
  return event.tier ? static_cast<size_t>(*event.tier) : kTierCount;
}

std::string Rate(uint64_t now, uint64_t before, double seconds) {
  const double rate = static_cast<double>(now - before) / seconds;
  return rate == 0 ? "0" : rate < 10 ? fmt::format("{:.1f}", rate) : fmt::format("{:.0f}", rate);
}

// Blocks removed for each that was stored: near 1 where a cache is full and turns over.
std::string Churn(const TapStats::Counts& now, const TapStats::Counts& before) {
  const uint64_t stored = now.stored_blocks() - before.stored_blocks();
  const uint64_t removed = now.removed_blocks() - before.removed_blocks();
  if (stored == 0) return removed == 0 ? "-" : "∞";
  return fmt::format("{:.2f}", static_cast<double>(removed) / static_cast<double>(stored));
}

}  // namespace

uint64_t TapStats::Counts::stored_blocks() const {
  return std::accumulate(stored.begin(), stored.end(), uint64_t{0});
}

uint64_t TapStats::Counts::removed_blocks() const {
  return std::accumulate(removed.begin(), removed.end(), uint64_t{0});
}

void TapStats::Count(const TapEvent& event) {
  // Of no publisher: the end of a recording. But a daemon's loss is of all of them.
  if (event.publisher.empty() && event.type != TapType::kLost) return;
  Counts& counts = rows_[event.publisher].now;
  if (IsBlockEvent(event.type)) ++counts.events;
  switch (event.type) {
    case TapType::kStored:
      counts.stored[PlaceOf(event)] += event.blocks;
      break;
    case TapType::kRemoved:
      counts.removed[PlaceOf(event)] += event.blocks;
      break;
    case TapType::kCleared:
      ++counts.cleared;
      break;
    case TapType::kGap:
      ++counts.gaps;
      counts.missing += event.count;
      break;
    case TapType::kRestart:
      ++counts.restarts;
      break;
    case TapType::kDuplicate:
      ++counts.duplicates;
      break;
    case TapType::kMalformed:
    case TapType::kSkipped:
      counts.malformed += std::max<uint64_t>(event.count, 1);
      break;
    case TapType::kLost:
      counts.lost += event.count;
      break;
    default:
      break;
  }
}

double TapStats::Turn(int64_t start_ns, int64_t now_ns) {
  const int64_t since = last_view_ns_ == 0 ? start_ns : last_view_ns_;
  last_view_ns_ = now_ns;
  return std::max(SecondsBetween(since, now_ns), 1e-3);
}

std::vector<TapStats::Columns> TapStats::Choices() const {
  std::vector<size_t> used;
  for (size_t i = 0; i < kPlaces; ++i) {
    const bool any = std::ranges::any_of(rows_, [i](const auto& row) {
      return row.second.now.stored[i] + row.second.now.removed[i] > 0;
    });
    if (any) used.push_back(i);
  }
  std::vector<size_t> all = {0, 1, 2};
  static_assert(kTierCount == 3);
  if (!used.empty() && used.back() == kTierCount) all.push_back(kTierCount);
  return {{.places = all},
          {.places = used},
          {.places = used, .churn = false},
          {.all_places = true},
          {.all_places = true, .churn = false},
          {.churn = false},
          {.rates = false, .churn = false}};
}

toolkit::Table TapStats::Made(const Columns& chosen, const Terminal& terminal,
                              double seconds) const {
  using Align = toolkit::Table::Align;
  std::vector<toolkit::Table::Column> columns = {{"PUBLISHER", Align::kName}};
  const auto right = [&](std::string title) {
    columns.push_back({std::move(title), Align::kRight});
  };
  right("EVENTS");
  if (chosen.rates) right("EV/S");
  for (const char sign : {'+', '-'}) {
    for (const size_t i : chosen.places) right(fmt::format("{}{}/S", sign, kPlaceNames[i]));
    if (chosen.all_places) right(fmt::format("{}BLK/S", sign));
  }
  if (chosen.churn) right("CHURN");
  for (const char* title : {"GAPS", "RESTARTS", "DUPS", "BAD"}) right(title);
  toolkit::Table table(std::move(columns));
  for (const auto& [publisher, row] : rows_) {
    const Counts& now = row.now;
    const Counts& before = row.before;
    std::vector<std::string> cells = {Printable(ShortName(publisher)), Grouped(now.events)};
    if (chosen.rates) cells.push_back(Rate(now.events, before.events, seconds));
    for (const size_t i : chosen.places) {
      cells.push_back(Rate(now.stored[i], before.stored[i], seconds));
    }
    if (chosen.all_places) {
      cells.push_back(Rate(now.stored_blocks(), before.stored_blocks(), seconds));
    }
    for (const size_t i : chosen.places) {
      cells.push_back(Rate(now.removed[i], before.removed[i], seconds));
    }
    if (chosen.all_places) {
      cells.push_back(Rate(now.removed_blocks(), before.removed_blocks(), seconds));
    }
    if (chosen.churn) cells.push_back(Churn(now, before));
    const auto fault = [&](uint64_t count) {
      cells.push_back(terminal.Paint(count > 0 ? Colour::kRed : Colour::kPlain, Grouped(count)));
    };
    fault(now.gaps);
    fault(now.restarts);
    cells.push_back(Grouped(now.duplicates));
    fault(now.malformed);
    table.Add(std::move(cells));
  }
  return table;
}

std::string TapStats::Table(const Terminal& terminal, int64_t start_ns, int64_t now_ns) {
  const double seconds = Turn(start_ns, now_ns);
  std::string text;
  for (const Columns& columns : Choices()) {
    const toolkit::Table table = Made(columns, terminal, seconds);
    text = table.Render(terminal);
    if (terminal.width == 0 || table.LeastWidth() <= terminal.width) break;
  }
  for (auto& [publisher, row] : rows_) row.before = row.now;
  return text;
}

std::string TapStats::JsonLines(int64_t start_ns, int64_t now_ns) {
  const double seconds = Turn(start_ns, now_ns);
  std::string lines;
  for (auto& [publisher, row] : rows_) {
    const Counts& now = row.now;
    nlohmann::ordered_json line;
    line["time"] = IsoTime(now_ns);
    line["type"] = "stats";
    line["publisher"] = publisher;
    line["seconds"] = seconds;
    line["messages"] = now.messages;
    line["events"] = now.events;
    line["events_per_second"] = static_cast<double>(now.events - row.before.events) / seconds;
    for (const bool stored : {true, false}) {
      const auto& counts = stored ? now.stored : now.removed;
      const auto& before = stored ? row.before.stored : row.before.removed;
      nlohmann::ordered_json blocks;
      nlohmann::ordered_json rates;
      for (size_t i = 0; i < kPlaces; ++i) {
        const std::string place(kPlaceNames[i]);
        blocks[place] = counts[i];
        rates[place] = static_cast<double>(counts[i] - before[i]) / seconds;
      }
      const std::string name = stored ? "stored_blocks" : "removed_blocks";
      line[name] = std::move(blocks);
      line[name + "_per_second"] = std::move(rates);
    }
    line["cleared"] = now.cleared;
    line["gaps"] = now.gaps;
    line["missing"] = now.missing;
    line["restarts"] = now.restarts;
    line["duplicates"] = now.duplicates;
    line["malformed"] = now.malformed;
    line["lost"] = now.lost;
    lines += line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
    row.before = now;
  }
  return lines;
}

bool TapStats::changed() const {
  return std::ranges::any_of(rows_,
                             [](const auto& row) { return row.second.now != row.second.before; });
}

TapStats::Counts TapStats::total() const {
  Counts total;
  for (const auto& [publisher, row] : rows_) {
    const Counts& now = row.now;
    total.messages += now.messages;
    total.events += now.events;
    for (size_t i = 0; i < kPlaces; ++i) {
      total.stored[i] += now.stored[i];
      total.removed[i] += now.removed[i];
    }
    total.cleared += now.cleared;
    total.gaps += now.gaps;
    total.missing += now.missing;
    total.restarts += now.restarts;
    total.duplicates += now.duplicates;
    total.malformed += now.malformed;
    total.lost += now.lost;
  }
  return total;
}

}  // namespace conductor::toolkit
