#include <chrono>
#include <memory>
#include <string>

#include "cmd/choices.h"
#include "cmd/flag.h"
#include "cmd/help.h"
#include "cmd/subcommands.h"
#include "daemon/serve/registration.h"
#include "daemon/toolkit/tap.h"
#include "lib/base/clock.h"

namespace conductor::cmd {
namespace {

constexpr const char* kFooter =
    R"(Filters: type=stored,removed,gap tier=gpu,cpu,disk lora=NAME rank=N hash=PREFIX

Examples:
  conductor tap tcp://10.0.0.1:5557 tcp://10.0.0.2:5557
  conductor tap 'tcp://*:5557' --filter type=stored --json | jq .hashes
  conductor tap tcp://a:5557 --replay-endpoint tcp://a:5558 --from 0
  conductor tap tcp://a:5557 --record kv.rec --rotate-size 1g --quiet
  conductor tap kv.rec --raw --count 1
  conductor tap --conductor http://127.0.0.1:13333 --stats

Exit codes: 0 done, 1 failed, 2 usage. See conductor-tap(1).)";

// Shorter ones would be drawn all the time.
constexpr Duration kLeastInterval = std::chrono::milliseconds(10);

template <typename T, typename Parse>
CLI::Option* AddOptional(CLI::App& tap, const std::string& name, std::optional<T>& target,
                         Parse parse, const std::string& shape, const std::string& help) {
  return AddFlag(
      tap, name, target,
      [parse](const std::string& text) {
        return parse(text).map([](auto value) { return std::optional<T>(value); });
      },
      shape, help);
}

Result<Duration> ParseInterval(const std::string& text) {
  auto time = ParseDuration(text);
  if (time && *time < kLeastInterval)
    return Fail("'" + text + "' is too short", {}, "10ms or more");
  return time;
}

void AddFilter(CLI::App& tap, toolkit::TapFilter& filter) {
  tap.add_option_function<std::vector<std::string>>(
         "--filter",
         [&filter](const std::vector<std::string>& texts) {
           for (const std::string& text : texts) {
             if (auto added = filter.Add(text); !added) {
               throw CLI::ValidationError("--filter", added.error().Message());
             }
           }
         },
         "print only what has KEY=VALUE[,VALUE...]")
      ->type_name("FILTER")
      ->allow_extra_args(false)
      ->take_all();
}

}  // namespace

void AddTap(CLI::App& app, Run& run) {
  const auto options = std::make_shared<toolkit::TapOptions>();
  CLI::App& tap = *app.add_subcommand("tap", "Print and record what publishers say");
  tap.footer(kFooter);
  tap.formatter(std::make_shared<HelpFormatter>());
  tap.add_option("SOURCE", options->sources, "endpoints of publishers, or recordings")
      ->type_name("...");
  tap.add_option("--conductor", options->conductor, "events of a daemon instead: http://HOST:PORT")
      ->type_name("URL");
  tap.add_option("--token-file", options->token_file, "a token for it [$CONDUCTOR_TOKEN]")
      ->type_name("FILE");
  tap.add_option("--ca-file", options->ca_file, "certificates to check it with (https)")
      ->type_name("FILE");
  tap.add_flag("--bind", options->bind, "listen at the endpoints; publishers connect");
  tap.add_option("--topic", options->topic, "subscribe to topics that begin so")
      ->type_name("PREFIX");
  OfferExpected(AddOptional(tap, "--type", options->type, serve::ParsePublisherType, "TYPE",
                            "vLLM, SGLang, Mooncake, ...: how to read payloads"),
                serve::ParsePublisherType);
  tap.add_option("--replay-endpoint", options->replay_endpoint, "the publisher's")
      ->type_name("ENDPOINT");
  AddOptional(
      tap, "--from", options->from,
      [](const std::string& text) { return ParseNumber(text, "a sequence", 0, UINT64_MAX - 1); },
      "SEQ", "ask it from SEQ first; of a recording, begin there");
  tap.add_flag("--json", options->json, "a JSON object a line");
  tap.add_flag("--raw", options->raw, "frames in hex, and what they mean");
  tap.add_flag("--stats", options->stats, "a table of rates for each publisher");
  AddOptional(tap, "--interval", options->interval, ParseInterval, "TIME",
              "between views of --stats [1s, in a pipe 10s]");
  tap.add_flag("--quiet", options->quiet, "print nothing but the summary");
  AddFilter(tap, options->filter);
  AddNumberFlag(tap, "--count", options->count, "a number", 1, UINT64_MAX, "end after N lines");
  AddOptional(tap, "--duration", options->duration, ParseDuration, "TIME", "end after TIME");
  tap.add_option("--record", options->record, "keep the messages in FILE")->type_name("FILE");
  AddFlag(tap, "--rotate-size", options->rotate_size, ParseSize, "SIZE",
          "begin a new FILE when it has so much");
  tap.add_option("--fact", options->facts, "NAME=VALUE of the publishers, kept in FILE")
      ->type_name("FACT")
      ->allow_extra_args(false)
      ->take_all();
  tap.final_callback([options, &run] {
    if (auto good = toolkit::CheckTap(*options); !good) {
      throw CLI::ValidationError("tap", good.error().Message());
    }
    run = [options] { return toolkit::RunTap(*options); };
  });
}

}  // namespace conductor::cmd
