#include "cmd/score_flags.h"

#include <fmt/format.h>

#include <chrono>
#include <cstdint>

#include "cmd/flag.h"

namespace conductor::cmd {
namespace {

constexpr int kMostValues = 1 << 20;

}  // namespace

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

CLI::Option* AddListFlag(CLI::App& app, const std::string& name, std::vector<std::string>& list,
                         const std::string& shape, const std::string& help) {
  return app.add_option(name, list, help)->type_name(shape)->expected(1, kMostValues);
}

void AddPromptFlags(CLI::App& app, toolkit::ScoreOptions& options) {
  toolkit::ScoreInputOptions& input = options.input;
  app.add_option("FILE", input.line_files, "prompts as JSON lines; - or none: standard input")
      ->type_name("");
  AddListFlag(app, "--tokens", input.token_files, "FILE", "token ids: JSON, text, or 4 bytes each");
  app.add_option("--prompt", input.texts, "a text")
      ->type_name("TEXT")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  AddListFlag(app, "--prompt-file", input.text_files, "FILE", "a text in a file");
  AddFlag(app, "--tokenizer", options.tokenizer, toolkit::TokenizerUrl::Parse, "URL",
          "an engine whose /tokenize makes token ids of texts");
  app.add_flag("--chat", input.chat, "texts are what a user says in a conversation");
}

void AddQuestionFlags(CLI::App& app, toolkit::ScoreOptions& options) {
  toolkit::ScorePrompt& prompt = options.defaults;
  AddFlag(app, "--model", prompt.model, ParseName, "NAME", "the model, as registered");
  AddFlag(app, "--tenant", prompt.tenant, ParseName, "NAME", "the tenant [default]");
  AddFlag(app, "--lora", prompt.lora, ParseName, "NAME", "the LoRA adapter");
  AddFlag(app, "--salt", prompt.salt, ParseName, "TEXT", "the request's cache_salt");
  AddNumberFlag(app, "--block-size", prompt.block_size, "a block size", 1, 2147483647,
                "of the engines, in tokens");
  AddListFlag(app, "--instance", prompt.instances, "NAME", "candidates [all]");
}

void AddAnswerFlags(CLI::App& app, toolkit::ScoreOptions& options) {
  toolkit::Expectation& expect = options.defaults.expect;
  AddFlag(app, "--load", options.load, ParseName, "LOAD",
          R"(a file, or '{"NAME": {"waiting": 2, "kv_use": 0.5}}')");
  app.add_flag("--explain", options.explain, "and why each matches so much and no more");
  AddFlag(app, "--expect", expect.instance, ParseName, "NAME",
          "fail unless no instance is better than this");
  AddNumberFlag(app, "--min-tokens", expect.min_tokens, "a number of tokens", 0, UINT64_MAX,
                "fail unless it matches so many");
  app.add_flag("--live", expect.live, "fail unless its state is live");
  AddNumberFlag(app, "--in-flight", options.in_flight, "a number of requests", 1, 256,
                "ask for so many at once [8]");
}

void AddShowFlags(CLI::App& app, toolkit::ScoreOptions& options) {
  AddNumberFlag(app, "--top", options.top, "a number", 1, 1000000, "show the best so many");
  app.add_flag("--json", options.json, "one object a prompt, a line each");
}

}  // namespace conductor::cmd
