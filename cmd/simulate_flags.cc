#include "cmd/simulate_flags.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cmd/choices.h"
#include "cmd/flag.h"
#include "cmd/help.h"
#include "lib/base/clock.h"

namespace conductor::cmd {
namespace {

constexpr const char* kGroup = "Simulation (with --simulate)";
// All that may be hidden: a hidden group has no name to be found by.
constexpr const char* kNames[] = {
    "--engines",      "--ranks",     "--gpu-blocks",       "--cpu-blocks",    "--disk-blocks",
    "--block-size",   "--cpu-load",  "--disk-load",        "--prefill-speed", "--prefill-overhead",
    "--decode-speed", "--max-batch", "--policy",           "--weights",       "--event-delay",
    "--rate-scale",   "--requests",  "--trace-block-size", "--seed",          "--svg"};

// What goes with it and is not its own.
constexpr const char* kShared[] = {"--simulate", "--json", "--strict"};

Result<double> ParsePositive(std::string_view text, std::string_view what, double min, double max) {
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || !(number >= min) ||
      !(number <= max)) {
    return Fail(fmt::format("'{}' is not {}", text, what), {},
                fmt::format("a number from {} to {}", min, max));
  }
  return number;
}

CLI::Option* AddRealFlag(CLI::App& app, const std::string& name, double& target,
                         std::string_view what, double min, double max, const std::string& help) {
  return AddFlag(
      app, name, target,
      [what, min, max](std::string_view text) { return ParsePositive(text, what, min, max); }, "X",
      help);
}

CLI::Option* AddTimeFlag(CLI::App& app, const std::string& name, Duration& target,
                         const std::string& help) {
  return AddFlag(
      app, name, target,
      [](std::string_view text) -> Result<Duration> {
        auto time = ParseDuration(text);
        if (time && *time > std::chrono::hours(1)) {
          return Fail(fmt::format("'{}' is too long", text), {}, "at most 1h");
        }
        return time;
      },
      "TIME", help);
}

bool IsFree(const CLI::App& app, const std::string& name) {
  return app.get_option_no_throw(name) == nullptr;
}

void AddFleetFlags(CLI::App& app, simulate::FleetModel& fleet, std::vector<CLI::Option*>& added) {
  constexpr uint64_t kMostBlocks = 1 << 28;
  added.push_back(AddNumberFlag(app, "--engines", fleet.engines, "a number of engines", 1, 1024,
                                "engines of the fleet [8]"));
  added.push_back(AddNumberFlag(app, "--ranks", fleet.ranks, "a number of ranks", 1, 64,
                                "data-parallel ranks of an engine [1]"));
  added.push_back(AddNumberFlag(app, "--gpu-blocks", fleet.blocks[0], "a number of blocks", 1,
                                kMostBlocks, "cache of a rank on the device [16384]"));
  added.push_back(AddNumberFlag(app, "--cpu-blocks", fleet.blocks[1], "a number of blocks", 0,
                                kMostBlocks, "... on the host [0]"));
  added.push_back(AddNumberFlag(app, "--disk-blocks", fleet.blocks[2], "a number of blocks", 0,
                                kMostBlocks, "... on disk [0]"));
  if (IsFree(app, "--block-size")) {
    added.push_back(AddNumberFlag(app, "--block-size", fleet.block_size, "a block size", 1, 65536,
                                  "tokens of a block [16]"));
  }
  added.push_back(
      AddTimeFlag(app, "--cpu-load", fleet.load[1], "to load a block from the host [100us]"));
  added.push_back(
      AddTimeFlag(app, "--disk-load", fleet.load[2], "to load a block from disk [1ms]"));
  added.push_back(AddRealFlag(app, "--prefill-speed", fleet.prefill_speed, "a speed", 1, 1e9,
                              "prompt tokens a second of a rank [10000]"));
  added.push_back(
      AddTimeFlag(app, "--prefill-overhead", fleet.prefill_overhead, "of each prefill [10ms]"));
  added.push_back(AddRealFlag(app, "--decode-speed", fleet.decode_speed, "a speed", 0.1, 1e9,
                              "answer tokens a second of a request [40]"));
  added.push_back(AddNumberFlag(app, "--max-batch", fleet.max_batch, "a number of requests", 1,
                                1 << 20, "requests that a rank runs at once [64]"));
}

void AddRoutingFlags(CLI::App& app, toolkit::SimulateOptions& options,
                     std::vector<CLI::Option*>& added) {
  added.push_back(app.add_option_function<std::vector<std::string>>(
                         "--policy",
                         [&options](const std::vector<std::string>& names) {
                           options.policies.clear();
                           for (const std::string& name : names) {
                             const auto policy = simulate::ParsePolicy(name);
                             if (!policy)
                               throw CLI::ValidationError("--policy", policy.error().Message());
                             if (std::ranges::find(options.policies, *policy) ==
                                 options.policies.end()) {
                               options.policies.push_back(*policy);
                             }
                           }
                         },
                         "round-robin, least-loaded, longest-prefix or score; repeatable [all]")
                      ->type_name("NAME")
                      ->expected(1)
                      ->take_all());
  OfferExpected(added.back(), simulate::ParsePolicy);
  added.push_back(AddFlag(app, "--weights", options.weights, simulate::ParseScoreWeights, "LIST",
                          "of score: gpu=1,cpu=0.8,disk=0.5,waiting=0.5,kv=0.2"));
  added.push_back(AddTimeFlag(app, "--event-delay", options.event_delay,
                              "until the router knows of a change [0s]"));
  added.push_back(AddRealFlag(app, "--rate-scale", options.rate_scale, "a factor", 1e-3, 1e6,
                              "requests come X times as fast [1]"));
  added.push_back(AddNumberFlag(app, "--requests", options.requests, "a number of requests", 1,
                                UINT64_MAX, "the trace's first N only"));
  added.push_back(AddFlag(
      app, "--trace-block-size", options.id_block,
      [](std::string_view text) {
        return ParseNumber(text, "a block size", 1, trace::kMaxIdBlock).map([](uint64_t tokens) {
          return std::optional(static_cast<uint32_t>(tokens));
        });
      },
      "N", "tokens of a hash id of the trace [by its form]"));
  if (IsFree(app, "--seed")) {
    added.push_back(AddNumberFlag(app, "--seed", options.seed, "a seed", 0, UINT64_MAX,
                                  "of the lots among equals [1]"));
  }
  added.push_back(app.add_option("--svg", options.svg, "draw plots of the policies to FILE")
                      ->type_name("FILE"));
}

}  // namespace

void AddSimulateFlags(CLI::App& app, SimulateFlags& flags) {
  app.add_flag_callback(
      "--simulate",
      [&app, &flags] {
        flags.simulate = true;
        ShowSimulateFlags(app);
      },
      "serve a trace with a simulated fleet: --simulate --help");
  std::vector<CLI::Option*> added;
  AddFleetFlags(app, flags.options.fleet, added);
  AddRoutingFlags(app, flags.options, added);
  for (CLI::Option* option : added) option->group(kHidden);
  if (IsFree(app, "--json")) {
    app.add_flag("--json", flags.options.json, "one JSON document in place of tables");
  }
  if (IsFree(app, "--strict")) {
    app.add_flag("--strict", flags.options.strict, "a line that cannot be read is fatal");
  }
}

void CheckSimulateFlags(const CLI::App& app, const SimulateFlags& flags) {
  if (flags.simulate) {
    for (const CLI::Option* const option : app.get_options()) {
      if (option->count() == 0 || option->get_lnames().empty()) continue;  // SOURCE has none
      const std::string name = "--" + option->get_lnames().front();
      const auto is_name = [&name](const char* of) { return name == of; };
      if (std::ranges::none_of(kNames, is_name) && std::ranges::none_of(kShared, is_name)) {
        throw CLI::ExcludesError("--simulate", name);
      }
    }
    return;
  }
  for (const char* name : kNames) {
    const CLI::Option* const option = app.get_option_no_throw(name);
    if (option != nullptr && option->get_group() == kHidden && option->count() > 0) {
      throw CLI::RequiresError(name, "--simulate");
    }
  }
}

void ShowSimulateFlags(CLI::App& app) {
  for (const char* name : kNames) {
    CLI::Option* const option = app.get_option_no_throw(name);
    if (option != nullptr && option->get_group() == kHidden) option->group(kGroup);
  }
}

}  // namespace conductor::cmd
