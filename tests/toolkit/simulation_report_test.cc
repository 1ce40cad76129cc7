#include "daemon/toolkit/simulation_report.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "daemon/toolkit/svg.h"
#include "lib/simulate/simulation.h"
#include "made_trace.h"

namespace conductor::toolkit {
namespace {

SimulationReport Report() {
  SimulationReport report;
  report.options.fleet.engines = 3;
  report.options.fleet.blocks = {200, 100, 0};
  report.traces = {"a<b>.jsonl"};
  report.lines.requests = 60;
  const auto trace = simulate::Prepare(trace::MakeTrace({.requests = 60, .id_block = 16}),
                                       report.options.fleet, 1);
  for (const simulate::Policy policy : {simulate::Policy::kRoundRobin, simulate::Policy::kScore}) {
    auto outcome = simulate::Simulate(*trace, report.options.fleet, {.policy = policy});
    EXPECT_TRUE(outcome);
    report.runs.push_back({*outcome, Summarize(report.options.fleet, *outcome)});
  }
  return report;
}

TEST(SimulationTables, FitAScreen) {
  const std::string text = SimulationTables(Report(), Terminal{.width = 80});
  EXPECT_EQ(text.find("…"), std::string::npos) << text;
  EXPECT_NE(text.find("60 requests, "), std::string::npos);
  EXPECT_NE(text.find("3 engines of 1 rank\n"), std::string::npos);
  EXPECT_NE(text.find("\nround-robin  "), std::string::npos);
  EXPECT_NE(text.find("TTFT P50"), std::string::npos);
}

TEST(SimulationDocument, HasWhatTheTablesAreMadeOf) {
  const auto json = nlohmann::json::parse(SimulationDocument(Report()));
  EXPECT_EQ(json["fleet"]["blocks"]["cpu"], 100);
  const auto& score = json["policies"][1];
  EXPECT_EQ(score["policy"], "score");
  EXPECT_EQ(score["weights"]["gpu"], 1.0);
  EXPECT_FALSE(json["policies"][0].contains("weights"));
  EXPECT_EQ(score["ranks"].size(), 3u);
  EXPECT_EQ(score["hit_tokens"]["gpu"].get<uint64_t>() +
                score["hit_tokens"]["cpu"].get<uint64_t>() +
                score["computed_tokens"].get<uint64_t>(),
            score["prompt_tokens"].get<uint64_t>());
}

TEST(SimulationPlots, DrawEveryPolicyAndTier) {
  const std::string svg = SimulationPlots(Report());
  EXPECT_TRUE(svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\""));
  EXPECT_TRUE(svg.ends_with("</svg>\n"));
  for (const char* said : {">round-robin<", ">score<", ">gpu<", ">disk<", ">computed<",
                           "time to first token (logarithmic)", "share of prompt tokens",
                           "since the first request", ">3 engines<"}) {
    EXPECT_NE(svg.find(said), std::string::npos) << said;
  }
  for (const char* never : {"nan", "inf<", "inf\""}) {
    EXPECT_EQ(svg.find(never), std::string::npos) << never;
  }
}

// One request, which has everything in one moment.
TEST(SimulationPlots, StandASingleRequest) {
  SimulationReport report = Report();
  for (auto& run : report.runs) {
    run.outcome.requests.resize(1);
    run.outcome.load.clear();
    run.outcome.wall = {};
  }
  const std::string svg = SimulationPlots(report);
  EXPECT_EQ(svg.find("nan"), std::string::npos);
}

TEST(Svg, TextIsEscaped) {
  Svg svg(10, 10, "a<b", "\"c\" & d");
  const std::string text = std::move(svg).Finish();
  EXPECT_NE(text.find("<title>a&lt;b</title>"), std::string::npos);
  EXPECT_NE(text.find("<desc>&quot;c&quot; &amp; d</desc>"), std::string::npos);
}

TEST(RoundTicks, AreRoundAndWithinTheirRange) {
  EXPECT_EQ(RoundTicks(11.6, 5), (std::vector<double>{0, 5, 10}));
  EXPECT_EQ(RoundTicks(1, 5), (std::vector<double>{0, 0.2, 0.4, 0.6000000000000001, 0.8, 1}));
  EXPECT_EQ(RoundTicks(0, 5), std::vector<double>{0});
  EXPECT_GE(RoundTicks(3, 1).size(), 2u);
}

TEST(ShowSeconds, KeepsThreeDigits) {
  EXPECT_EQ(ShowSeconds(0.4213), "0.42 s");
  EXPECT_EQ(ShowSeconds(9.999), "10.0 s");
  EXPECT_EQ(ShowSeconds(99.96), "100 s");
  EXPECT_EQ(ShowSeconds(1234.4), "1,234 s");
}

}  // namespace
}  // namespace conductor::toolkit
