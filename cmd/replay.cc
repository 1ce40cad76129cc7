#include "daemon/toolkit/replay.h"

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "cmd/choices.h"
#include "cmd/flag.h"
#include "cmd/help.h"
#include "cmd/simulate_flags.h"
#include "cmd/subcommands.h"
#include "daemon/serve/registration.h"
#include "lib/base/clock.h"
#include "lib/base/number.h"
#include "lib/client/conductor_url.h"

namespace conductor::cmd {
namespace {

constexpr const char* kFooter =
    R"(Examples:
  conductor replay incident.rec --check
  conductor replay incident.rec --publish tcp://*:5557 --replay-endpoint tcp://*:5558
  conductor replay tcp://10.0.0.1:5558 --record ring.rec
  conductor replay trace.jsonl --block-size 64 --into http://127.0.0.1:13333

Exit codes: 0 done, 1 failed or a difference, 2 usage. See conductor-replay(1).)";

constexpr const char* kReadGroup = "What it is read as";
constexpr const char* kPublishGroup = "To publish";

Result<std::optional<std::string>> ParseName(const std::string& text) {
  if (text.empty()) return Fail("is empty", {}, "a name");
  return text;
}

Result<std::string> ParseUrl(const std::string& text) {
  auto url = client::ConductorUrl::Parse(text);
  if (!url) return tl::unexpected(std::move(url.error()));
  if (!url->is_http()) return Fail("is not asked over HTTP", text, "http://HOST:PORT");
  return text;
}

Result<Duration> ParseTimeout(std::string_view text) {
  auto time = ParseDuration(text);
  if (time && (*time <= Duration::zero() || *time > std::chrono::hours(1))) {
    return Fail(std::string("'").append(text) + "' is no time limit", {}, "above 0s, at most 1h");
  }
  return time;
}

Result<Duration> ParseStay(std::string_view text) {
  auto time = ParseDuration(text);
  if (time && *time > std::chrono::hours(24 * 365)) {
    return Fail(std::string("'").append(text) + "' is too long", {}, "at most 8760h");
  }
  return time;
}

// Few need it: it is in the long help only.
void Hide(CLI::Option* option) { option->group(kHidden); }

void AddHelpAll(CLI::App& replay) {
  replay
      .add_flag_callback(
          "--help-all",
          [&replay] {
            ShowSimulateFlags(replay);
            for (CLI::Option* option : replay.get_options()) {
              if (option->get_group() == kHidden) option->group(kMore);
            }
            throw CLI::CallForHelp();
          },
          "print this help with all flags")
      ->trigger_on_parse();
}

void AddSources(CLI::App& replay, toolkit::ReplayOptions& options) {
  replay
      .add_option("SOURCE", options.sources,
                  "recordings, a workload trace, or an engine's replay endpoint")
      ->required()
      ->option_text("...");
  AddFlag(replay, "--publisher", options.publisher, ParseName, "NAME",
          "only that one: its number or endpoint; all: merged");
  AddNumberFlag(replay, "--from-seq", options.from_sequence, "a sequence", 0, UINT64_MAX - 1,
                "ask a replay endpoint from there [0]");
  Hide(AddFlag(replay, "--timeout", options.timeout, ParseTimeout, "TIME",
               "for a replay endpoint to go on [5s]"));
  AddNumberFlag(replay, "--capacity", options.capacity, "a number of blocks", 1, 1 << 28,
                "blocks of the engine that runs a trace [16384]");
  Hide(replay.add_flag("--strict", options.strict,
                       "a line of a trace that cannot be read is fatal"));
}

void AddReadAs(CLI::App& replay, toolkit::ReadAs& as) {
  const auto grouped = [](CLI::Option* option) { option->group(kReadGroup); };
  grouped(OfferExpected(AddFlag(replay, "--type", as.type, serve::ParsePublisherType, "TYPE",
                                "vLLM, SGLang, Mooncake, ... [as recorded, else vLLM]"),
                        serve::ParsePublisherType));
  grouped(AddFlag(replay, "--model", as.model, ParseName, "NAME", "the model [as recorded]"));
  grouped(AddFlag(replay, "--instance", as.instance, ParseName, "NAME",
                  "the instance [as recorded, else HOST:PORT]"));
  grouped(AddFlag(
      replay, "--block-size", as.block_size,
      [](std::string_view text) -> Result<std::optional<uint32_t>> {
        auto number = ParseNumber(text, "a block size", 1, 65536);
        if (!number) return tl::unexpected(std::move(number.error()));
        return static_cast<uint32_t>(*number);
      },
      "N", "tokens of a block [learnt; a trace's: 16]"));
  Hide(replay.add_flag("--copies-set", as.copies_are_a_set,
                       "a block that is announced twice is held once"));
}

void AddPublish(CLI::App& replay, toolkit::ReplayOptions& options) {
  const auto grouped = [](CLI::Option* option) { option->group(kPublishGroup); };
  grouped(replay.add_option("--publish", options.publish, "play it as a publisher: tcp://*:5557")
              ->type_name("ADDRESS"));
  grouped(replay
              .add_option("--replay-endpoint", options.replay_endpoint,
                          "answer replay requests there: tcp://*:5558")
              ->type_name("ADDRESS"));
  grouped(OfferExpected(AddFlag(replay, "--dialect", options.dialect, toolkit::ParsePublishDialect,
                                "NAME", "vllm-array, vllm-map, sglang or mooncake [as it is]"),
                        toolkit::ParsePublishDialect));
  grouped(Offer(AddFlag(replay, "--speed", options.speed, toolkit::ParseSpeed, "X",
                        "times as fast as it was, or max [1]"),
                {"1", "10", "max"}));
  grouped(
      replay.add_flag("--wait-subscriber", options.wait_subscriber, "begin when somebody listens"));
  Hide(replay.add_flag("--renumber", options.renumber, "sequences without gaps, from the first"));
  Hide(AddNumberFlag(replay, "--ring", options.ring, "a number of batches", 1, 1 << 24,
                     "batches that can be replayed [10000]"));
  grouped(AddFlag(replay, "--stay", options.stay, ParseStay, "TIME",
                  "answer replays for so long after the end [0s]"));
}

void AddSinks(CLI::App& replay, toolkit::ReplayOptions& options) {
  replay.add_flag("--json", options.json, "the summary as one JSON document");
  replay.add_flag("--check", options.check, "compare the index with the reference model");
  replay.add_option("--record", options.record, "write a recording")->type_name("FILE");
  Hide(AddFlag(replay, "--rotate-size", options.rotate_bytes, ParseSize, "SIZE",
               "begin another file of the recording when it is that large"));
  replay.add_option("--snapshot", options.snapshot, "write a snapshot of what it comes to")
      ->type_name("FILE");
  AddFlag(replay, "--into", options.into, ParseUrl, "URL", "feed a daemon: http://HOST:PORT");
  Hide(replay
           .add_option("--token-file", options.token_file,
                       "holds the daemon's bearer token [$CONDUCTOR_TOKEN]")
           ->type_name("FILE"));
  Hide(replay.add_option("--ca-file", options.ca_file, "who may sign its certificate, PEM")
           ->type_name("FILE"));
}

// The flags that it shares with replay proper are there once.
int Simulate(const toolkit::ReplayOptions& options, const SimulateFlags& flags) {
  toolkit::SimulateOptions simulation = flags.options;
  simulation.json = options.json;
  simulation.strict = options.strict;
  simulation.fleet.block_size = options.as.block_size.value_or(simulation.fleet.block_size);
  return toolkit::RunSimulation(simulation, options.sources);
}

}  // namespace

void AddReplay(CLI::App& app, Run& run) {
  const auto options = std::make_shared<toolkit::ReplayOptions>();
  CLI::App& replay =
      *app.add_subcommand("replay", "Run recorded KV events again: sum up, publish, feed, check");
  replay.footer(kFooter);
  replay.formatter(std::make_shared<HelpFormatter>());
  AddSources(replay, *options);
  AddSinks(replay, *options);
  AddReadAs(replay, options->as);
  AddPublish(replay, *options);
  const auto simulate = std::make_shared<SimulateFlags>();
  AddSimulateFlags(replay, *simulate);
  AddHelpAll(replay);
  replay.final_callback([&replay, options, simulate, &run] {
    CheckSimulateFlags(replay, *simulate);
    if (simulate->simulate) {
      run = [options, simulate] { return Simulate(*options, *simulate); };
      return;
    }
    if (const Status usable = toolkit::CheckReplay(*options); !usable) {
      throw CLI::ValidationError(usable.error().Message());
    }
    run = [options] { return toolkit::RunReplay(*options); };
  });
}

}  // namespace conductor::cmd
