// Replays a workload of prompts over simulated engines against an index, in this process or in a
// running daemon, at an offered rate and whatever the answers take: open loop. docs/performance.md
// says how to use it.

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>
#include <thread>
#include <vector>

#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "load.h"
#include "target.h"

namespace conductor::bench {
namespace {

using Clock = std::chrono::steady_clock;
using Json = nlohmann::ordered_json;

struct Options {
  std::string trace;      // a file; empty: a made-up workload
  uint32_t requests = 0;  // of it; 0: all of a file, 2,000 made-up ones
  FleetOptions fleet;
  std::string placement = "cache-aware";
  std::string daemon;  // URL; empty: an index in this process
  uint64_t memory_limit = 0;
  double rate = 0;     // block operations a second; 0: as `speedup` says
  double speedup = 1;  // of the trace's own time
  bool json = false;
};

// Latencies by how many holders were matched.
constexpr std::array<uint32_t, 6> kLeastHolders = {0, 1, 2, 8, 64, 512};
constexpr std::array<const char*, 6> kClasses = {"0", "1", "2-7", "8-63", "64-511", "512+"};

struct Results {
  double offered_seconds = 0;
  double taken_seconds = 0;  // drain included
  double drain_seconds = 0;  // after the last was offered
  uint64_t event_blocks = 0;
  uint64_t walked_blocks = 0;
  uint64_t prompt_blocks = 0;
  uint64_t matched_blocks = 0;  // by the best holder of each prompt
  uint64_t resident_bytes = 0;
  std::array<std::vector<double>, kClasses.size()> latencies;  // seconds
  std::string error;
};

double Percentile(std::vector<double>& sorted, double part) {
  return sorted[static_cast<size_t>(part * static_cast<double>(sorted.size() - 1))];
}

// Waits for the moment: sleeps as long as it is far, then looks at the clock.
void WaitUntil(Clock::time_point moment) {
  constexpr auto kSpin = std::chrono::microseconds(200);
  const auto now = Clock::now();
  if (moment - now > kSpin) std::this_thread::sleep_until(moment - kSpin);
  while (Clock::now() < moment) std::this_thread::yield();
}

Results Run(Target& target, const std::vector<Step>& steps, double speedup) {
  Results results;
  const auto start = Clock::now() + std::chrono::milliseconds(100);
  const double first = steps.front().seconds;
  const auto moment = [&](size_t step) {
    return start + std::chrono::duration_cast<Clock::duration>(
                       std::chrono::duration<double>((steps[step].seconds - first) / speedup));
  };
  std::atomic<bool> failed = false;  // whoever sees it stops; the error is read after the joins
  std::string announce_error;
  std::thread announcer([&] {
    for (size_t i = 0; i < steps.size() && !failed; ++i) {
      WaitUntil(moment(i));
      if (const auto status = target.Announce(i); !status) {
        announce_error = status.error().Message();
        failed = true;
      }
    }
  });
  for (size_t i = 0; i < steps.size() && !failed; ++i) {
    const auto intended = moment(i);
    WaitUntil(intended);
    const auto found = target.Ask(i);
    if (!found) {
      results.error = found.error().Message();
      failed = true;
      break;
    }
    // From when it was to be asked: what waits behind a slow answer counts its waiting.
    const double latency = std::chrono::duration<double>(Clock::now() - intended).count();
    size_t of = kLeastHolders.size() - 1;
    while (found->holders < kLeastHolders[of]) --of;
    results.latencies[of].push_back(latency);
    results.walked_blocks += found->walked;
    results.matched_blocks += found->longest;
  }
  announcer.join();
  if (results.error.empty()) results.error = announce_error;
  if (!results.error.empty()) return results;
  if (const auto drained = target.Drain(); !drained) {
    results.error = drained.error().Message();
    return results;
  }
  const auto end = Clock::now();
  results.offered_seconds = std::chrono::duration<double>(moment(steps.size() - 1) - start).count();
  results.taken_seconds = std::chrono::duration<double>(end - start).count();
  results.drain_seconds = std::max(0.0, results.taken_seconds - results.offered_seconds);
  results.resident_bytes = target.ResidentBytes();
  return results;
}

Json ToJson(Results& results, const Options& options, size_t requests, double speedup) {
  const double offered = std::max(results.offered_seconds, 1e-9);
  const double taken = std::max(results.taken_seconds, 1e-9);
  const auto walked = static_cast<double>(results.event_blocks + results.walked_blocks);
  const auto whole = static_cast<double>(results.event_blocks + results.prompt_blocks);
  Json json = {{"target", options.daemon.empty() ? "index" : options.daemon},
               {"engines", options.fleet.engines},
               {"placement", options.placement},
               {"requests", requests},
               {"speedup", speedup},
               {"seconds_offered", results.offered_seconds},
               {"seconds_taken", results.taken_seconds},
               {"seconds_drain", results.drain_seconds},
               {"event_blocks", results.event_blocks},
               {"walked_blocks", results.walked_blocks},
               {"prompt_blocks", results.prompt_blocks},
               {"matched_share", results.prompt_blocks == 0
                                     ? 0.0
                                     : static_cast<double>(results.matched_blocks) /
                                           static_cast<double>(results.prompt_blocks)},
               {"block_ops_per_second_offered", walked / offered},
               {"block_ops_per_second_achieved", walked / taken},
               {"block_ops_per_second_achieved_whole_prompts", whole / taken},
               {"resident_bytes", results.resident_bytes}};
  Json classes = Json::array();
  for (size_t i = 0; i < kClasses.size(); ++i) {
    std::vector<double>& latencies = results.latencies[i];
    if (latencies.empty()) continue;
    std::ranges::sort(latencies);
    classes.push_back({{"holders", kClasses[i]},
                       {"lookups", latencies.size()},
                       {"p50_us", Percentile(latencies, 0.5) * 1e6},
                       {"p90_us", Percentile(latencies, 0.9) * 1e6},
                       {"p99_us", Percentile(latencies, 0.99) * 1e6},
                       {"p99.9_us", Percentile(latencies, 0.999) * 1e6},
                       {"max_us", latencies.back() * 1e6}});
  }
  json["latency_by_matched_holders"] = std::move(classes);
  return json;
}

void Print(const Json& json) {
  fmt::print("{} requests over {} engines, placed {}, against {}\n", json["requests"].dump(),
             json["engines"].dump(), json["placement"].get<std::string>(),
             json["target"].get<std::string>());
  fmt::print("offered in {:.2f} s, done in {:.2f} s, of which {:.3f} s drain\n",
             json["seconds_offered"].get<double>(), json["seconds_taken"].get<double>(),
             json["seconds_drain"].get<double>());
  fmt::print(
      "block operations a second: {:.0f} offered, {:.0f} achieved "
      "({:.0f} with whole prompts)\n",
      json["block_ops_per_second_offered"].get<double>(),
      json["block_ops_per_second_achieved"].get<double>(),
      json["block_ops_per_second_achieved_whole_prompts"].get<double>());
  fmt::print("{:.1f} % of the prompts' blocks were held by the best engine; RSS {:.1f} MiB\n\n",
             json["matched_share"].get<double>() * 100,
             json["resident_bytes"].get<double>() / (1 << 20));
  fmt::print("{:>10} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10}\n", "holders", "lookups", "p50 us",
             "p90 us", "p99 us", "p99.9 us", "max us");
  for (const Json& row : json["latency_by_matched_holders"]) {
    fmt::print("{:>10} {:>10} {:>10.1f} {:>10.1f} {:>10.1f} {:>10.1f} {:>10.1f}\n",
               row["holders"].get<std::string>(), row["lookups"].get<uint64_t>(),
               row["p50_us"].get<double>(), row["p90_us"].get<double>(),
               row["p99_us"].get<double>(), row["p99.9_us"].get<double>(),
               row["max_us"].get<double>());
  }
}

int Main(Options options) {
  const auto fail = [](const std::string& message) {
    fmt::print(stderr, "fleet_bench: {}\n", message);
    return 1;
  };
  Result<Trace> trace =
      options.trace.empty()
          ? Result<Trace>(MakeTrace(options.requests == 0 ? 2000 : options.requests, 1))
          : ReadTrace(options.trace);
  if (!trace) return fail(trace.error().Message());
  if (options.requests > 0 && options.requests < trace->requests.size()) {
    trace->requests.resize(options.requests);
  }
  options.fleet.placement =
      options.placement == "random" ? Placement::kRandom : Placement::kCacheAware;
  const std::vector<Step> steps = Plan(*trace, options.fleet);

  std::unique_ptr<Target> target;
  if (options.daemon.empty()) {
    target = MakeIndexTarget(options.fleet, options.memory_limit);
  } else {
    auto made = MakeDaemonTarget(options.fleet, options.daemon);
    if (!made) return fail(made.error().Message());
    target = std::move(*made);
  }
  if (const auto ready = target->Prepare(steps); !ready) return fail(ready.error().Message());

  uint64_t event_blocks = 0;
  uint64_t prompt_blocks = 0;
  uint64_t expected_walk = 0;
  for (const Step& step : steps) {
    const uint64_t blocks = step.prompt.size() / options.fleet.block_size;
    event_blocks += step.event_blocks;
    prompt_blocks += blocks;
    expected_walk += std::min<uint64_t>(blocks, step.cached_blocks + 1);
  }
  double speedup = options.speedup;
  if (options.rate > 0) {
    const double seconds = static_cast<double>(event_blocks + expected_walk) / options.rate;
    speedup = (steps.back().seconds - steps.front().seconds) / std::max(seconds, 1e-9);
  }
  Results results = Run(*target, steps, speedup);
  if (!results.error.empty()) return fail(results.error);
  results.event_blocks = event_blocks;
  results.prompt_blocks = prompt_blocks;
  const Json json = ToJson(results, options, steps.size(), speedup);
  if (options.json) {
    fmt::print("{}\n", json.dump(2));
  } else {
    Print(json);
  }
  return 0;
}

}  // namespace
}  // namespace conductor::bench

int main(int argc, char** argv) {
  conductor::bench::Options options;
  CLI::App app{
      "Replays prompts over simulated engines against an index: this process's own, or a running "
      "daemon's"};
  app.add_option("--trace", options.trace,
                 "JSON lines with timestamp (ms), input_length and hash_ids of 512 tokens; without "
                 "it, made-up chats");
  app.add_option("--requests", options.requests, "the first so many; 0: all, or 2000 made-up ones")
      ->capture_default_str();
  app.add_option("--engines", options.fleet.engines)
      ->capture_default_str()
      ->check(CLI::Range(1, 4096));
  app.add_option("--capacity", options.fleet.capacity_blocks, "blocks of each engine's cache")
      ->capture_default_str();
  app.add_option("--block-size", options.fleet.block_size, "tokens")
      ->capture_default_str()
      ->check(CLI::Range(1, 65536));
  app.add_option("--placement", options.placement, "where prompts run")
      ->capture_default_str()
      ->check(CLI::IsMember({"random", "cache-aware"}));
  app.add_option("--seed", options.fleet.seed, "of the random placement")->capture_default_str();
  app.add_option("--daemon", options.daemon, "http://host:port of a running `conductor serve`");
  app.add_option("--memory-limit", options.memory_limit, "bytes, of the index in this process");
  auto* rate = app.add_option("--rate", options.rate, "block operations a second to offer");
  app.add_option("--speedup", options.speedup, "of the trace's own time")
      ->capture_default_str()
      ->check(CLI::PositiveNumber)
      ->excludes(rate);
  app.add_flag("--json", options.json, "for scripts");
  CLI11_PARSE(app, argc, argv);
  return conductor::bench::Main(std::move(options));
}
