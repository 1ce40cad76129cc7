#include <fmt/format.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "cmd/choices.h"
#include "cmd/flag.h"
#include "cmd/help.h"
#include "cmd/score_flags.h"
#include "cmd/subcommands.h"
#include "daemon/toolkit/score.h"
#include "lib/base/clock.h"
#include "lib/client/conductor_url.h"

namespace conductor::cmd {
namespace {

constexpr const char* kFooter =
    R"(Examples:
  conductor score --model m --tokens prompt.bin --expect vllm-1 --min-tokens 4096
  conductor score --model m --tokenizer http://engine:8000 --chat --prompt 'Hello'

Exit codes: 0 all scored and as expected, 1 not, 2 usage. See conductor-score(1).)";

constexpr int kMostValues = 1 << 20;

void AddSource(CLI::App& score, toolkit::ScoreOptions& options) {
  toolkit::ConductorSourceOptions& source = options.conductors;
  score
      .add_option_function<std::vector<std::string>>(
          "--conductor",
          [&source](const std::vector<std::string>& urls) {
            for (const std::string& url : urls) {
              if (const auto parsed = client::ConductorUrl::Parse(url); !parsed) {
                throw CLI::ValidationError("--conductor", parsed.error().Message());
              }
              source.urls.push_back(url);
            }
          },
          "a daemon or several [http://127.0.0.1:13333]")
      ->type_name("URL")
      ->expected(1, kMostValues);
  score.add_option("--token-file", source.token_file, "holds a token for it [$CONDUCTOR_TOKEN]")
      ->type_name("FILE");
  score.add_option("--ca-file", source.ca_file, "who may sign certificates, PEM")
      ->type_name("FILE");
  AddFlag(score, "--timeout", source.time_limit, ParseTimeout, "TIME",
          "for one answer of a daemon or a tokenizer [5s]");
  AddListFlag(score, "--recording", options.recordings, "FILE",
              "ask what a recording of tap comes to, and no daemon");
  score.add_option("--snapshot", options.snapshot, "ask what a snapshot has, and no daemon")
      ->type_name("FILE");
  OfferExpected(AddFlag(score, "--type", options.type, serve::ParsePublisherType, "TYPE",
                        "of publishers of a recording that does not say [vLLM]"),
                serve::ParsePublisherType);
}

}  // namespace

void AddScore(CLI::App& app, Run& run) {
  const auto options = std::make_shared<toolkit::ScoreOptions>();
  CLI::App& score = *app.add_subcommand("score", "Who would be the best for a prompt, and why");
  score.footer(kFooter);
  score.formatter(std::make_shared<HelpFormatter>());
  AddPromptFlags(score, *options);
  AddSource(score, *options);
  AddQuestionFlags(score, *options);
  AddShowFlags(score, *options);
  AddAnswerFlags(score, *options);
  score.final_callback(
      [options, &run] { run = [options] { return toolkit::RunScore(*options); }; });
}

}  // namespace conductor::cmd
