#include <fmt/format.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "cmd/flag.h"
#include "cmd/help.h"
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
  conductor score --model m --json < prompts.jsonl

Exit codes: 0 all scored and as expected, 1 not, 2 usage. See conductor-score(1).)";

constexpr int kMostValues = 1 << 20;

Result<Duration> ParseTimeout(const std::string& text) {
  auto time = ParseDuration(text);
  if (time && *time < std::chrono::milliseconds(1)) {
    return Fail(fmt::format("'{}' is too short", text), {}, "1ms or more");
  }
  return time;
}

Result<std::string> ParseName(const std::string& text) {
  if (text.empty()) return Fail("is empty", {}, "a name");
  return text;
}

// A flag that takes one or more values and may be given several times.
CLI::Option* AddListFlag(CLI::App& app, const std::string& name, std::vector<std::string>& list,
                         const std::string& shape, const std::string& help) {
  return app.add_option(name, list, help)->type_name(shape)->expected(1, kMostValues);
}

void AddPrompts(CLI::App& score, toolkit::ScoreOptions& options) {
  toolkit::ScoreInputOptions& input = options.input;
  score.add_option("FILE", input.line_files, "prompts as JSON lines; - or none: standard input")
      ->type_name("");
  AddListFlag(score, "--tokens", input.token_files, "FILE",
              "token ids: JSON, text, or 4 bytes each");
  score.add_option("--prompt", input.texts, "a text")
      ->type_name("TEXT")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  AddListFlag(score, "--prompt-file", input.text_files, "FILE", "a text in a file");
  AddFlag(score, "--tokenizer", options.tokenizer, toolkit::TokenizerUrl::Parse, "URL",
          "an engine whose /tokenize makes token ids of texts");
  score.add_flag("--chat", input.chat, "texts are what a user says in a conversation");
}

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
  AddFlag(score, "--type", options.type, serve::ParsePublisherType, "TYPE",
          "of publishers of a recording that does not say [vLLM]");
}

void AddQuestion(CLI::App& score, toolkit::ScoreOptions& options) {
  toolkit::ScorePrompt& prompt = options.defaults;
  AddFlag(score, "--model", prompt.model, ParseName, "NAME", "the model, as registered");
  AddFlag(score, "--tenant", prompt.tenant, ParseName, "NAME", "the tenant [default]");
  AddFlag(score, "--lora", prompt.lora, ParseName, "NAME", "the LoRA adapter");
  AddFlag(score, "--salt", prompt.salt, ParseName, "TEXT", "the request's cache_salt");
  AddNumberFlag(score, "--block-size", prompt.block_size, "a block size", 1, 2147483647,
                "of the engines, in tokens");
  AddListFlag(score, "--instance", prompt.instances, "NAME", "candidates [all]");
  AddFlag(score, "--load", options.load, ParseName, "LOAD",
          R"(a file, or '{"NAME": {"waiting": 2, "kv_use": 0.5}}')");
}

void AddAnswer(CLI::App& score, toolkit::ScoreOptions& options) {
  toolkit::Expectation& expect = options.defaults.expect;
  AddNumberFlag(score, "--top", options.top, "a number", 1, 1000000, "show the best so many");
  score.add_flag("--json", options.json, "one object a prompt, a line each");
  score.add_flag("--explain", options.explain, "and why each matches so much and no more");
  AddFlag(score, "--expect", expect.instance, ParseName, "NAME",
          "fail unless no instance is better than this");
  AddNumberFlag(score, "--min-tokens", expect.min_tokens, "a number of tokens", 0, UINT64_MAX,
                "fail unless it matches so many");
  score.add_flag("--live", expect.live, "fail unless its state is live");
  AddNumberFlag(score, "--in-flight", options.in_flight, "a number of requests", 1, 256,
                "ask for so many at once [8]");
}

}  // namespace

void AddScore(CLI::App& app, Run& run) {
  const auto options = std::make_shared<toolkit::ScoreOptions>();
  CLI::App& score = *app.add_subcommand("score", "Who would be the best for a prompt, and why");
  score.footer(kFooter);
  score.formatter(std::make_shared<HelpFormatter>());
  AddPrompts(score, *options);
  AddSource(score, *options);
  AddQuestion(score, *options);
  AddAnswer(score, *options);
  score.final_callback(
      [options, &run] { run = [options] { return toolkit::RunScore(*options); }; });
}

}  // namespace conductor::cmd
