#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>
#include <map>
#include <numeric>

#include "daemon/toolkit/simulation_report.h"
#include "daemon/toolkit/svg.h"
#include "daemon/toolkit/table.h"
#include "lib/base/number.h"

namespace conductor::toolkit {
namespace {

using simulate::Outcome;
using simulate::Policy;
using Anchor = Svg::Anchor;

constexpr double kWidth = 1000;
constexpr double kMargin = 24;
constexpr std::string_view kAxis = "#888";
constexpr std::string_view kGrid = "#e4e4e4";
constexpr std::string_view kQuiet = "#666";

// A part of the drawing within its axes.
struct Frame {
  double x = 0;
  double y = 0;
  double width = 0;
  double height = 0;

  [[nodiscard]] double right() const { return x + width; }
  [[nodiscard]] double bottom() const { return y + height; }
};

// Told apart by all kinds of eyes (Okabe and Ito's palette).
std::string_view ColourOf(Policy policy) {
  switch (policy) {
    case Policy::kRoundRobin:
      return "#7f7f7f";
    case Policy::kLeastLoaded:
      return "#e69f00";
    case Policy::kLongestPrefix:
      return "#cc79a7";
    case Policy::kScore:
      return "#0072b2";
  }
  return "#000";
}

constexpr std::array<std::string_view, kTierCount> kTierColours = {"#00663e", "#33a06f", "#a8d8bf"};
constexpr std::string_view kComputedColour = "#ececec";

void Title(Svg& svg, const Frame& frame, std::string_view title, std::string_view note) {
  svg.Text(frame.x, frame.y - 26, title, {.size = 15, .bold = true});
  svg.Text(frame.x, frame.y - 10, note, {.size = 11, .colour = kQuiet});
}

// ---- Time to first token: cumulative, over a logarithmic axis.

struct LogAxis {
  double low = 0;  // powers of ten
  double high = 1;

  [[nodiscard]] double At(double value, const Frame& frame) const {
    const double share = (std::log10(value) - low) / (high - low);
    return frame.x + std::clamp(share, 0.0, 1.0) * frame.width;
  }
};

std::vector<double> TtftOf(const Outcome& outcome) {
  std::vector<double> seconds;
  for (const simulate::RequestRecord& request : outcome.requests) {
    const Duration ttft = request.first_token - request.arrival;
    // A logarithm has no zero: a millisecond is as good as none.
    seconds.push_back(std::max(std::chrono::duration<double>(ttft).count(), 1e-3));
  }
  std::ranges::sort(seconds);
  return seconds;
}

std::string PowerLabel(int power) {
  if (power < 0) return fmt::format("{} ms", static_cast<int>(std::pow(10, power + 3)));
  return Grouped(static_cast<uint64_t>(std::pow(10, power))) + " s";
}

void DrawTtftAxes(Svg& svg, const Frame& frame, const LogAxis& axis) {
  for (int percent = 0; percent <= 100; percent += 25) {
    const double y = frame.bottom() - frame.height * percent / 100;
    svg.Line(frame.x, y, frame.right(), y, kGrid);
    svg.Text(frame.x - 8, y + 4, fmt::format("{}%", percent),
             {.size = 11, .anchor = Anchor::kEnd, .colour = kQuiet});
  }
  for (int power = static_cast<int>(axis.low); power <= static_cast<int>(axis.high); ++power) {
    const double x = axis.At(std::pow(10, power), frame);
    svg.Line(x, frame.y, x, frame.bottom(), kGrid);
    svg.Text(x, frame.bottom() + 16, PowerLabel(power),
             {.size = 11, .anchor = Anchor::kMiddle, .colour = kQuiet});
  }
  svg.Line(frame.x, frame.bottom(), frame.right(), frame.bottom(), kAxis);
  svg.Line(frame.x, frame.y, frame.x, frame.bottom(), kAxis);
  svg.Text(frame.x + frame.width / 2, frame.bottom() + 34, "time to first token (logarithmic)",
           {.size = 12, .anchor = Anchor::kMiddle});
  svg.Text(frame.x - 46, frame.y + frame.height / 2, "requests served within it",
           {.size = 12, .anchor = Anchor::kMiddle, .upwards = true});
}

// The policies, with their colours and what the curve is read for.
void DrawTtftLegend(Svg& svg, const SimulationReport& report, const Frame& frame) {
  double y = frame.bottom() + 58;
  for (const SimulationReport::Run& run : report.runs) {
    const Policy policy = run.outcome.policy;
    svg.Line(frame.x, y - 4, frame.x + 24, y - 4, ColourOf(policy), 3);
    svg.Text(frame.x + 32, y, PolicyName(policy), {.size = 12});
    svg.Text(frame.x + 140, y,
             fmt::format("p50 {}, p90 {}, p99 {}", ShowSeconds(run.summary.ttft.p50),
                         ShowSeconds(run.summary.ttft.p90), ShowSeconds(run.summary.ttft.p99)),
             {.size = 12, .colour = kQuiet});
    y += 18;
  }
}

void DrawTtft(Svg& svg, const SimulationReport& report, const Frame& frame) {
  Title(svg, frame, "Time to first token", "cumulative; further left is better");
  std::vector<std::vector<double>> all;
  LogAxis axis{.low = 9, .high = -9};
  for (const SimulationReport::Run& run : report.runs) {
    all.push_back(TtftOf(run.outcome));
    axis.low = std::min(axis.low, std::floor(std::log10(all.back().front())));
    axis.high = std::max(axis.high, std::ceil(std::log10(all.back().back())));
  }
  if (axis.high <= axis.low) axis.high = axis.low + 1;
  DrawTtftAxes(svg, frame, axis);
  for (size_t i = 0; i < all.size(); ++i) {
    const std::vector<double>& seconds = all[i];
    // As many points as pixels that tell them apart.
    const size_t steps = std::min<size_t>(seconds.size(), 240);
    std::vector<std::pair<double, double>> points;
    points.emplace_back(axis.At(seconds.front(), frame), frame.bottom());
    for (size_t step = 1; step <= steps; ++step) {
      const size_t count = seconds.size() * step / steps;
      const double share = static_cast<double>(count) / static_cast<double>(seconds.size());
      points.emplace_back(axis.At(seconds[count - 1], frame),
                          frame.bottom() - share * frame.height);
    }
    svg.Curve(points, ColourOf(report.runs[i].outcome.policy));
  }
  DrawTtftLegend(svg, report, frame);
}

// ---- Hits by tier: a bar for each policy.

void DrawHitLegend(Svg& svg, const Frame& frame) {
  double x = frame.x;
  const double y = frame.bottom() + 58;
  const auto entry = [&](std::string_view colour, std::string_view name, double width) {
    svg.Rectangle(x, y - 10, 12, 12, colour);
    svg.Text(x + 18, y, name, {.size = 12});
    x += width;
  };
  for (const Tier tier : kTiers) {
    entry(kTierColours[static_cast<size_t>(tier)], TierName(tier), tier == Tier::kDisk ? 68 : 60);
  }
  entry(kComputedColour, "computed", 80);
}

void DrawHits(Svg& svg, const SimulationReport& report, const Frame& frame) {
  Title(svg, frame, "Where prompts' tokens came from", "cached on a tier, or computed");
  for (int percent = 0; percent <= 100; percent += 25) {
    const double x = frame.x + frame.width * percent / 100;
    svg.Line(x, frame.bottom(), x, frame.bottom() + 4, kAxis);
    svg.Text(x, frame.bottom() + 16, fmt::format("{}%", percent),
             {.size = 11, .anchor = Anchor::kMiddle, .colour = kQuiet});
  }
  const double row = frame.height / static_cast<double>(report.runs.size());
  const double bar = std::min(row * 0.5, 30.0);
  for (size_t i = 0; i < report.runs.size(); ++i) {
    const auto& [outcome, summary] = report.runs[i];
    const double y = frame.y + row * static_cast<double>(i) + (row - bar) / 2 + 6;
    svg.Rectangle(frame.x, y, frame.width, bar, kComputedColour);
    for (int percent = 25; percent < 100; percent += 25) {
      const double at = frame.x + frame.width * percent / 100;
      svg.Line(at, y, at, y + bar, "#fff");
    }
    double x = frame.x;
    for (const Tier tier : kTiers) {
      const double width = summary.HitRate(tier) * frame.width;
      if (width > 0) svg.Rectangle(x, y, width, bar, kTierColours[static_cast<size_t>(tier)]);
      x += width;
    }
    svg.Text(frame.x, y - 5, PolicyName(outcome.policy), {.size = 12});
    svg.Text(frame.right(), y - 5, fmt::format("{:.1f}% cached", 100 * summary.HitRate()),
             {.size = 12, .anchor = Anchor::kEnd, .colour = kQuiet});
  }
  svg.Line(frame.x, frame.bottom(), frame.right(), frame.bottom(), kAxis);
  svg.Text(frame.x + frame.width / 2, frame.bottom() + 34, "share of prompt tokens",
           {.size = 12, .anchor = Anchor::kMiddle});
  DrawHitLegend(svg, frame);
}

// ---- Load: time along, an engine a row.

constexpr size_t kBins = 96;
// From none to many: each step is twice the one before.
constexpr std::array<std::string_view, 9> kLoadColours = {"#f4f7fb", "#deebf7", "#c6dbef",
                                                          "#9ecae1", "#6baed6", "#4292c6",
                                                          "#2171b5", "#08519c", "#08306b"};

// Requests that wait or run, by engine and then bin, on average over the bin's time.
std::vector<std::vector<double>> LoadOf(const Outcome& outcome, uint32_t engines, Duration wall) {
  std::vector<std::vector<double>> load(engines, std::vector<double>(kBins));
  std::vector<double> now(engines);
  std::vector<double> since(engines);  // in bins
  const double bin = static_cast<double>(wall.count()) / static_cast<double>(kBins);
  const auto spend = [&](uint32_t engine, double until) {
    double from = since[engine];
    while (from < until) {
      const auto at = std::min(static_cast<size_t>(from), kBins - 1);
      const double to = std::min(until, static_cast<double>(at + 1));
      load[engine][at] += now[engine] * (to - from);
      if (to <= from) break;
      from = to;
    }
    since[engine] = until;
  };
  for (const simulate::LoadChange& change : outcome.load) {
    spend(change.engine, static_cast<double>(change.time.count()) / bin);
    now[change.engine] += change.by;
  }
  return load;
}

struct LoadScale {
  double unit = 1;  // where the third step begins; the second at half of it
  size_t most = 1;  // the last step that occurs

  [[nodiscard]] size_t StepOf(double load) const {
    if (load < unit / 2) return 0;
    const double step = std::floor(std::log2(load / unit)) + 2;
    return static_cast<size_t>(std::clamp(step, 1.0, double{kLoadColours.size() - 1}));
  }
  // The steps that occur take the whole way from light to dark.
  [[nodiscard]] std::string_view ColourOf(size_t step) const {
    return kLoadColours[step * (kLoadColours.size() - 1) / most];
  }
};

struct TimeAxis {
  double seconds = 0;
  double unit = 1;
  std::string_view name = "seconds";
};

TimeAxis TimeAxisOf(Duration wall) {
  const double seconds = std::chrono::duration<double>(wall).count();
  if (seconds > 3 * 3600) return {seconds, 3600, "hours"};
  if (seconds > 3 * 60) return {seconds, 60, "minutes"};
  return {seconds, 1, "seconds"};
}

void DrawLoadOf(Svg& svg, const SimulationReport::Run& run,
                const std::vector<std::vector<double>>& load, const LoadScale& scale,
                const TimeAxis& time, const Frame& frame) {
  const double row = frame.height / static_cast<double>(load.size());
  const double bin = frame.width / static_cast<double>(kBins);
  svg.Rectangle(frame.x, frame.y, frame.width, frame.height, kLoadColours[0]);
  // One outline for each colour; neighbours of one colour are one piece.
  std::map<size_t, std::string> paths;
  const double gap = row > 6 ? 1 : 0;
  for (size_t engine = 0; engine < load.size(); ++engine) {
    for (size_t at = 0; at < kBins;) {
      const size_t step = scale.StepOf(load[engine][at]);
      size_t end = at + 1;
      while (end < kBins && scale.StepOf(load[engine][end]) == step) ++end;
      if (step > 0) {
        fmt::format_to(
            std::back_inserter(paths[step]), "M{:.1f} {:.1f}h{:.1f}v{:.1f}h-{:.1f}z",
            frame.x + bin * static_cast<double>(at), frame.y + row * static_cast<double>(engine),
            bin * static_cast<double>(end - at), row - gap, bin * static_cast<double>(end - at));
      }
      at = end;
    }
  }
  for (const auto& [step, path] : paths) svg.Filled(path, scale.ColourOf(step));

  svg.Text(frame.x, frame.y - 8, PolicyName(run.outcome.policy), {.size = 13, .bold = true});
  svg.Text(
      frame.right(), frame.y - 8,
      fmt::format("busiest engine: {:.2f} x the mean prefill time", run.summary.busy.max_over_mean),
      {.size = 11, .anchor = Anchor::kEnd, .colour = kQuiet});
  svg.Text(frame.x - 10, frame.y + frame.height / 2, Counted(load.size(), "engine"),
           {.size = 11, .anchor = Anchor::kMiddle, .colour = kQuiet, .upwards = true});
  svg.Line(frame.x, frame.bottom(), frame.right(), frame.bottom(), kAxis);
  for (const double tick : RoundTicks(time.seconds / time.unit, 5)) {
    const double x = frame.x + tick * time.unit / time.seconds * frame.width;
    svg.Line(x, frame.bottom(), x, frame.bottom() + 4, kAxis);
    svg.Text(x, frame.bottom() + 16, fmt::format("{:g}", tick),
             {.size = 11, .anchor = Anchor::kMiddle, .colour = kQuiet});
  }
}

void DrawLoadLegend(Svg& svg, const LoadScale& scale, double right, double y) {
  constexpr double kStep = 40;
  double x = right - kStep * static_cast<double>(scale.most + 1);
  svg.Text(x - 10, y,
           "requests that wait or run:", {.size = 12, .anchor = Anchor::kEnd, .colour = kQuiet});
  for (size_t step = 0; step <= scale.most; ++step) {
    svg.Rectangle(x, y - 11, kStep - 2, 14, scale.ColourOf(step));
    const double from = step == 0 ? 0 : scale.unit * std::pow(2, static_cast<double>(step) - 2);
    svg.Text(x, y + 16, fmt::format("{:g}{}", from, step == scale.most ? "+" : ""),
             {.size = 11, .colour = kQuiet});
    x += kStep;
  }
}

struct LoadLayout {
  size_t columns = 1;
  double panel = 0;   // height
  double height = 0;  // of all, with titles and axes
};

constexpr double kPanelTop = 26;
constexpr double kPanelBottom = 44;
constexpr double kLoadTop = 48;

LoadLayout LayoutOf(const SimulationReport& report) {
  LoadLayout layout;
  layout.columns = report.runs.size() > 1 ? 2 : 1;
  layout.panel = std::clamp(report.options.fleet.engines * 14.0, 60.0, 320.0);
  const size_t rows = (report.runs.size() + layout.columns - 1) / layout.columns;
  layout.height = kLoadTop + static_cast<double>(rows) * (layout.panel + kPanelTop + kPanelBottom);
  return layout;
}

void DrawLoads(Svg& svg, const SimulationReport& report, const LoadLayout& layout, double top) {
  // One time and one scale for all, so that they compare.
  Duration wall{1};
  for (const SimulationReport::Run& run : report.runs) wall = std::max(wall, run.outcome.wall);
  std::vector<std::vector<std::vector<double>>> loads;
  double most = 0;
  for (const SimulationReport::Run& run : report.runs) {
    loads.push_back(LoadOf(run.outcome, report.options.fleet.engines, wall));
    for (const auto& engine : loads.back()) most = std::max(most, std::ranges::max(engine));
  }
  LoadScale scale;
  while (scale.StepOf(most) == kLoadColours.size() - 1 &&
         most >= scale.unit * std::pow(2, kLoadColours.size() - 2)) {
    scale.unit *= 2;
  }
  svg.Text(kMargin, top + 18, "Load of each engine over time", {.size = 15, .bold = true});
  svg.Text(kMargin, top + 34, "a row an engine; the darker, the longer its queue and batch",
           {.size = 11, .colour = kQuiet});
  scale.most = std::max<size_t>(scale.StepOf(most), 1);
  DrawLoadLegend(svg, scale, kWidth - kMargin, top + 18);

  const TimeAxis time = TimeAxisOf(wall);
  constexpr double kLeft = 30;
  constexpr double kBetween = 24;
  const auto columns = static_cast<double>(layout.columns);
  const double width =
      (kWidth - 2 * kMargin - columns * kLeft - (columns - 1) * kBetween) / columns;
  for (size_t i = 0; i < report.runs.size(); ++i) {
    const auto column = static_cast<double>(i % layout.columns);
    const auto row = static_cast<double>(i / layout.columns);
    const Frame frame{
        .x = kMargin + kLeft + column * (width + kLeft + kBetween),
        .y = top + kLoadTop + kPanelTop + row * (layout.panel + kPanelTop + kPanelBottom),
        .width = width,
        .height = layout.panel};
    DrawLoadOf(svg, report.runs[i], loads[i], scale, time, frame);
    svg.Text(frame.x + frame.width / 2, frame.bottom() + 32,
             fmt::format("{} since the first request", time.name),
             {.size = 11, .anchor = Anchor::kMiddle});
  }
}

}  // namespace

std::string SimulationPlots(const SimulationReport& report) {
  const LoadLayout layout = LayoutOf(report);
  const double legends = 18.0 * static_cast<double>(report.runs.size());
  constexpr double kUpper = 420;
  const double top = kUpper + legends;
  const simulate::FleetModel& fleet = report.options.fleet;
  const simulate::Summary& first = report.runs.front().summary;
  const std::string what = fmt::format(
      "{}, {}; {} of {}, each with {} / {} / {} blocks of {} tokens on gpu / cpu / disk",
      Counted(first.requests, "request"), Counted(first.prompt_tokens, "prompt token"),
      Counted(fleet.engines, "engine"), Counted(fleet.ranks, "rank"), Grouped(fleet.blocks[0]),
      Grouped(fleet.blocks[1]), Grouped(fleet.blocks[2]), fleet.block_size);
  Svg svg(kWidth, top + layout.height + 8, "Routing policies, simulated", what);
  svg.Text(kMargin, 32, "Routing policies, simulated", {.size = 20, .bold = true});
  svg.Text(kMargin, 52, what, {.size = 12, .colour = kQuiet});
  DrawTtft(svg, report, {.x = 84, .y = 112, .width = 480, .height = 250});
  DrawHits(svg, report, {.x = 640, .y = 112, .width = 320, .height = 250});
  DrawLoads(svg, report, layout, top);
  return std::move(svg).Finish();
}

}  // namespace conductor::toolkit
