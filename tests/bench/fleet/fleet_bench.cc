// Replays a workload of prompts over simulated engines against an index, in this process or in a
// running daemon, at an offered rate and whatever the answers take: open loop. docs/performance.md
// says how to use it.

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "load.h"
#include "run.h"
#include "schedule.h"
#include "target.h"

namespace conductor::bench {
namespace {

using Json = nlohmann::ordered_json;

struct Options {
  std::string trace;      // a file; empty: a made-up workload
  uint32_t requests = 0;  // of it; 0: all of a file, 2,000 made-up ones
  FleetOptions fleet;
  Pace pace;
  uint32_t clients = 1;
  std::string placement = "cache-aware";
  std::string daemon;  // URL; empty: an index in this process
  uint64_t memory_limit = 0;
  bool json = false;
};

double Percentile(const std::vector<double>& sorted, double part) {
  return sorted[static_cast<size_t>(part * static_cast<double>(sorted.size() - 1))];
}

Json LatenciesToJson(const Results& results) {
  Json classes = Json::array();
  for (size_t i = 0; i < kHolderClasses.size(); ++i) {
    const std::vector<double>& latencies = results.latencies[i];
    if (latencies.empty()) continue;
    classes.push_back({{"holders", kHolderClasses[i].name},
                       {"lookups", latencies.size()},
                       {"p50_us", Percentile(latencies, 0.5) * 1e6},
                       {"p90_us", Percentile(latencies, 0.9) * 1e6},
                       {"p99_us", Percentile(latencies, 0.99) * 1e6},
                       {"p99.9_us", Percentile(latencies, 0.999) * 1e6},
                       {"max_us", latencies.back() * 1e6}});
  }
  return classes;
}

double Ratio(uint64_t part, uint64_t whole) {
  return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole);
}

double PerSecond(uint64_t operations, double seconds) {
  return static_cast<double>(operations) / std::max(seconds, 1e-9);
}

// How the run was asked for.
Json ToJson(const Options& options, size_t requests) {
  const bool even = options.pace.rate > 0;
  return {{"target", options.daemon.empty() ? "index" : options.daemon},
          {"engines", options.fleet.engines},
          {"placement", options.placement},
          {"own_names", options.fleet.own_names},
          {"clients", options.clients},
          {"requests", requests},
          {"rate", even ? Json(options.pace.rate) : Json()},
          {"speedup", even ? Json() : Json(options.pace.speedup)},
          {"prefill_tokens_per_second", options.pace.prefill_tokens_per_second}};
}

// What came of it. The same operations count as offered and as achieved, in another time.
void AddResults(const Results& results, const Totals& planned, double offered_seconds, Json& json) {
  const double taken_seconds = results.taken_seconds;
  const uint64_t operations = planned.events + results.walked_blocks;
  json["seconds_offered"] = offered_seconds;
  json["seconds_taken"] = taken_seconds;
  json["seconds_drain"] = results.drain_seconds;
  json["event_blocks"] = planned.events;
  json["walked_blocks"] = results.walked_blocks;
  json["prompt_blocks"] = planned.prompts;
  json["matched_share"] = Ratio(results.matched_blocks, planned.prompts);
  json["planned_matched_share"] = Ratio(planned.held, planned.prompts);
  json["block_ops_per_second_offered"] = PerSecond(operations, offered_seconds);
  json["block_ops_per_second_achieved"] = PerSecond(operations, taken_seconds);
  json["block_ops_per_second_achieved_whole_prompts"] =
      PerSecond(planned.events + planned.prompts, taken_seconds);
  json["resident_bytes"] = results.resident_bytes;
  json["latency_by_matched_holders"] = LatenciesToJson(results);
}

void PrintLatencies(const Json& classes) {
  fmt::print("{:>10} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10}\n", "holders", "lookups", "p50 us",
             "p90 us", "p99 us", "p99.9 us", "max us");
  for (const Json& row : classes) {
    fmt::print("{:>10} {:>10} {:>10.1f} {:>10.1f} {:>10.1f} {:>10.1f} {:>10.1f}\n",
               row["holders"].get<std::string>(), row["lookups"].get<uint64_t>(),
               row["p50_us"].get<double>(), row["p90_us"].get<double>(),
               row["p99_us"].get<double>(), row["p99.9_us"].get<double>(),
               row["max_us"].get<double>());
  }
}

void Print(const Json& json) {
  fmt::print("{} requests of {} clients over {} engines, placed {}, against {}\n",
             json["requests"].dump(), json["clients"].dump(), json["engines"].dump(),
             json["placement"].get<std::string>(), json["target"].get<std::string>());
  fmt::print("offered in {:.2f} s, done in {:.2f} s, of which {:.3f} s drain\n",
             json["seconds_offered"].get<double>(), json["seconds_taken"].get<double>(),
             json["seconds_drain"].get<double>());
  fmt::print(
      "block operations a second: {:.0f} offered, {:.0f} achieved "
      "({:.0f} with whole prompts)\n",
      json["block_ops_per_second_offered"].get<double>(),
      json["block_ops_per_second_achieved"].get<double>(),
      json["block_ops_per_second_achieved_whole_prompts"].get<double>());
  fmt::print(
      "{:.1f} % of the prompts' blocks were held by the best engine ({:.1f} % planned); "
      "RSS {:.1f} MiB\n\n",
      json["matched_share"].get<double>() * 100, json["planned_matched_share"].get<double>() * 100,
      json["resident_bytes"].get<double>() / (1 << 20));
  PrintLatencies(json["latency_by_matched_holders"]);
}

Result<Trace> TraceOf(const Options& options) {
  if (options.trace.empty()) {
    constexpr uint32_t kRequests = 2000;
    return MakeTrace(options.requests == 0 ? kRequests : options.requests, 1);
  }
  Result<Trace> trace = ReadTrace(options.trace);
  if (trace && options.requests > 0 && options.requests < trace->requests.size()) {
    trace->requests.resize(options.requests);
  }
  return trace;
}

Result<std::unique_ptr<Target>> TargetOf(const Options& options) {
  if (!options.daemon.empty()) {
    return MakeDaemonTarget(options.fleet, options.clients, options.daemon);
  }
  return MakeIndexTarget(options.fleet, options.clients, options.memory_limit);
}

Result<Json> Measure(const Options& options) {
  const Result<Trace> trace = TraceOf(options);
  if (!trace) return tl::unexpected(trace.error());
  const std::vector<Step> steps = Plan(*trace, options.fleet);
  const Schedule schedule = MakeSchedule(steps, options.pace);
  const auto target = TargetOf(options);
  if (!target) return tl::unexpected(target.error());
  if (const auto ready = (*target)->Prepare(steps); !ready) return tl::unexpected(ready.error());
  const Result<Results> results = Run(**target, schedule, options.clients);
  if (!results) return tl::unexpected(results.error());
  Json json = ToJson(options, steps.size());
  AddResults(*results, Sum(steps), schedule.seconds, json);
  return json;
}

int Main(const Options& options) {
  const Result<Json> json = Measure(options);
  if (!json) {
    fmt::print(stderr, "fleet_bench: {}\n", json.error().Message());
    return 1;
  }
  if (options.json) {
    fmt::print("{}\n", json->dump(2));
  } else {
    Print(*json);
  }
  return 0;
}

void AddLoadFlags(CLI::App& app, Options& options) {
  app.add_option("--trace", options.trace,
                 "JSON lines with timestamp (ms), input_length and hash_ids of 512 tokens; without "
                 "it, made-up chats");
  app.add_option("--requests", options.requests, "the first so many; 0: all, or 2000 made-up ones")
      ->capture_default_str();
  auto* rate = app.add_option("--rate", options.pace.rate,
                              "block operations a second to offer, evenly: a prompt is asked for "
                              "at (operations before it) / RATE, whatever its own time");
  rate->check(CLI::PositiveNumber);
  app.add_option("--speedup", options.pace.speedup,
                 "ask for prompts at their own times in the trace, so many times as fast")
      ->capture_default_str()
      ->check(CLI::PositiveNumber)
      ->excludes(rate);
  app.add_option("--prefill-tokens-per-second", options.pace.prefill_tokens_per_second,
                 "an engine announces (tokens not cached) / this after its prompt was to be asked "
                 "for, in the run's time, and in the order of its prompts")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
}

void AddFleetFlags(CLI::App& app, Options& options) {
  app.add_option("--engines", options.fleet.engines)
      ->capture_default_str()
      ->check(CLI::Range(1, 4096));
  app.add_option("--capacity", options.fleet.capacity_blocks, "blocks of each engine's cache")
      ->capture_default_str();
  app.add_option("--block-size", options.fleet.block_size, "tokens")
      ->capture_default_str()
      ->check(CLI::Range(1, 65536));
  app.add_flag("--own-names", options.fleet.own_names,
               "engines name the same block differently; without it, alike");
  app.add_option("--placement", options.placement,
                 "where prompts run: anywhere, or where their beginnings did while that engine has "
                 "at most 1.25 times the mean load")
      ->capture_default_str()
      ->check(CLI::IsMember({"random", "cache-aware"}));
  app.add_option("--seed", options.fleet.seed, "of the placement")->capture_default_str();
}

void AddTargetFlags(CLI::App& app, Options& options) {
  app.add_option("--daemon", options.daemon, "http://host:port of a running `conductor serve`");
  app.add_option("--clients", options.clients,
                 "that ask at the same time; each prompt is taken by the next free one")
      ->capture_default_str()
      ->check(CLI::Range(1, 1024));
  app.add_option("--memory-limit", options.memory_limit, "bytes, of the index in this process");
  app.add_flag("--json", options.json, "for scripts");
}

}  // namespace
}  // namespace conductor::bench

int main(int argc, char** argv) {
  using namespace conductor::bench;
  Options options;
  CLI::App app{
      "Replays prompts over simulated engines against an index: this process's own, or a running "
      "daemon's"};
  AddLoadFlags(app, options);
  AddFleetFlags(app, options);
  AddTargetFlags(app, options);
  CLI11_PARSE(app, argc, argv);
  options.fleet.placement =
      options.placement == "random" ? Placement::kRandom : Placement::kCacheAware;
  return Main(options);
}
