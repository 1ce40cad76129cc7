#include "daemon/toolkit/score.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "daemon/toolkit/console.h"
#include "daemon/toolkit/in_order.h"
#include "daemon/toolkit/offline_conductor.h"
#include "daemon/toolkit/offline_snapshot.h"
#include "daemon/toolkit/score_output.h"
#include "daemon/toolkit/terminal.h"
#include "daemon/toolkit/token_file.h"
#include "lib/base/log.h"

namespace conductor::toolkit {
namespace {

// Asks from recordings, with a conductor of their own.
class Recordings final : public ScoreSource {
 public:
  [[nodiscard]] static Result<std::unique_ptr<ScoreSource>> Read(const ScoreOptions& options) {
    auto source = std::make_unique<Recordings>();
    auto loaded = LoadRecordings(
        source->conductor_, options.recordings,
        {.type = options.type, .model = options.defaults.model, .tenant = options.defaults.tenant});
    if (!loaded) return tl::unexpected(std::move(loaded.error()).Within("--recording"));
    for (const std::string& note : loaded->notes) Warn(note);
    return source;
  }

  [[nodiscard]] Result<client::Client> Connect() override {
    return std::move(*conductor_.MakeClient("recording"));
  }
  [[nodiscard]] std::string Advice(const Error&) const override { return {}; }
  [[nodiscard]] std::vector<std::string> Models() const override { return conductor_.Models(); }

 private:
  OfflineConductor conductor_;
};

// Asks a snapshot, in a conductor of its own.
class Snapshot final : public ScoreSource {
 public:
  explicit Snapshot(OfflineSnapshot snapshot) : snapshot_(std::move(snapshot)) {}

  [[nodiscard]] static Result<std::unique_ptr<ScoreSource>> Read(const std::string& path) {
    auto snapshot = OpenOfflineSnapshot(path);
    if (!snapshot) return tl::unexpected(std::move(snapshot.error()).Within("--snapshot"));
    for (const std::string& note : snapshot->Notes()) Warn(note);
    return std::make_unique<Snapshot>(*std::move(snapshot));
  }

  [[nodiscard]] Result<client::Client> Connect() override {
    return std::move(*snapshot_.conductor->MakeClient("snapshot"));
  }
  [[nodiscard]] std::string Advice(const Error&) const override { return {}; }
  [[nodiscard]] std::vector<std::string> Models() const override {
    return snapshot_.conductor->Models();
  }

 private:
  OfflineSnapshot snapshot_;
};

// Whoever the options say.
Result<std::unique_ptr<ScoreSource>> OpenSource(const ScoreOptions& options) {
  if (!options.snapshot.empty()) return Snapshot::Read(options.snapshot);
  return options.recordings.empty() ? AskConductors(options.conductors) : Recordings::Read(options);
}

// One thread's way from a prompt to its score.
class Scorer {
 public:
  Scorer(const ScoreOptions& options, ScoreSource& source)
      : options_(options), source_(source), client_(source.Connect()) {
    if (options.tokenizer) {
      tokenizer_.emplace(*options.tokenizer,
                         Tokenizer::Options{.time_limit = options.conductors.time_limit,
                                            .ca_file = options.conductors.ca_file});
    }
  }

  [[nodiscard]] ScoreResult Score(ScoreItem item) {
    ScoreResult result{.number = item.number, .source = std::move(item.source)};
    if (!item.prompt) {
      result.model = options_.defaults.model;
      result.tenant = options_.defaults.tenant;
      result.error = item.prompt.error().Message();
      return result;
    }
    ScorePrompt& prompt = *item.prompt;
    result.id = prompt.id;
    result.model = prompt.model;
    result.tenant = prompt.tenant;
    if (auto scored = Fill(prompt, result); !scored) result.error = scored.error().Message();
    return result;
  }

 private:
  Status Fill(ScorePrompt& prompt, ScoreResult& result) {
    if (!client_) return tl::unexpected(client_.error());
    if (prompt.model.empty()) return Fail("no model is named", {}, "--model NAME");
    if (auto there = GetTokens(prompt); !there) return there;
    auto answer = client_->Score(prompt.Spec());
    if (!answer) {
      Error error = std::move(answer.error());
      const std::string advice = source_.Advice(error);
      return Fail(advice.empty() ? error.Message()
                                 : fmt::format("{}; {}", error.Message(), advice));
    }
    result.error = WhyNoScore(*answer);
    if (result.error.empty()) result.unmet = Unmet(prompt.expect, *answer);
    if (options_.explain) Explain(prompt, *answer, result);
    result.answer = *std::move(answer);
    return {};
  }

  Status GetTokens(ScorePrompt& prompt) {
    if (!prompt.to_tokenize.empty()) {
      if (!tokenizer_) {
        return Fail("the prompt is text", {},
                    "token ids, or an engine that makes them: --tokenizer URL");
      }
      auto tokens = tokenizer_->Tokenize(prompt.to_tokenize, prompt.model);
      if (!tokens) return tl::unexpected(std::move(tokens.error()));
      prompt.tokens = *std::move(tokens);
    }
    if (prompt.tokens.empty()) return Fail("the prompt has no tokens", {}, "at least one");
    return {};
  }

  void Explain(const ScorePrompt& prompt, const client::ScoreAnswer& answer, ScoreResult& result) {
    nlohmann::json body{{"model", prompt.model}, {"token_ids", prompt.tokens}};
    const auto put = [&body](const char* name, const std::string& text) {
      if (!text.empty()) body[name] = text;
    };
    put("tenant_id", prompt.tenant);
    put("lora_name", prompt.lora);
    put("cache_salt", prompt.salt);
    if (prompt.additional_salt) body["additional_salt"] = *prompt.additional_salt;
    if (prompt.block_size) body["block_size"] = *prompt.block_size;
    for (size_t i = 0; i < Shown(answer, options_.top); ++i) {
      const std::string& instance = answer.ranking[i].instance_id;
      body["instance_id"] = instance;
      const auto reply = client_->Post(
          "/v1/explain", body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
      result.explained.emplace(instance, reply.and_then([](const client::Reply& got) {
        return ShortExplanation::Read(got.body);
      }));
    }
  }

  const ScoreOptions& options_;
  ScoreSource& source_;
  Result<client::Client> client_;
  std::optional<Tokenizer> tokenizer_;
};

// What is printed of each result, and what comes of all.
class Report {
 public:
  explicit Report(const ScoreOptions& options)
      : options_(options), terminal_(TerminalOf(STDOUT_FILENO)) {}

  // False when nobody reads any more.
  bool Add(const ScoreResult& result) {
    ++prompts_;
    failed_ += result.error.empty() ? 0 : 1;
    unmet_ += result.unmet.empty() ? 0 : 1;
    std::string text;
    if (options_.json) {
      text = ScoreJson(result, options_.top);
    } else {
      text = ScoreTable(result, options_.top, terminal_);
      if (!text.empty() && std::exchange(any_, true)) text.insert(0, "\n");
    }
    if (!output_.Print(text) || !output_.Flush()) return false;
    Tell(result);
    return true;
  }

  [[nodiscard]] int End() {
    if (output_.failed()) return output_.End(kExitDone);
    if (prompts_ == 0)
      return Complain(kExitFailed, {"there was no prompt in what was given", {}, {}});
    if (prompts_ > 1 && failed_ > 0) {
      fmt::print(stderr, "conductor: {} of {} prompts could not be scored\n", failed_, prompts_);
    }
    if (prompts_ > 1 && unmet_ > 0) {
      fmt::print(stderr, "conductor: {} of {} prompts are not as expected\n", unmet_, prompts_);
    }
    return failed_ + unmet_ > 0 ? kExitFailed : kExitDone;
  }

 private:
  // What went wrong, a line each; JSON has it too.
  void Tell(const ScoreResult& result) const {
    const auto line = [&result](const std::string& text) {
      fmt::print(stderr, "conductor: {}\n", Printable(fmt::format("{}: {}", result.source, text)));
    };
    if (!result.error.empty()) line(result.error);
    for (const std::string& unmet : result.unmet) line(unmet);
    if (!result.error.empty() || !result.answer) return;
    for (const std::string& instance : result.answer->unknown_instances) {
      line(fmt::format("nobody registered instance {}", instance));
    }
  }

  const ScoreOptions& options_;
  const Terminal terminal_;
  Output output_;
  uint64_t prompts_ = 0;
  uint64_t failed_ = 0;
  uint64_t unmet_ = 0;
  bool any_ = false;  // something was printed
};

// Whether --load is JSON, and not the name of a file that has it.
bool LoadIsJson(const ScoreOptions& options) {
  const size_t first =
      options.load ? options.load->find_first_not_of(" \t\r\n") : std::string::npos;
  return first != std::string::npos && (*options.load)[first] == '{';
}

Status ReadLoadOf(ScoreOptions& options) {
  if (!options.load) return {};
  std::string text = *options.load;
  std::string where = "--load";
  if (!LoadIsJson(options)) {
    auto file = ReadWholeFile(text);
    if (!file) return tl::unexpected(std::move(file.error()).Within("--load"));
    where = fmt::format("--load: {}", text);
    text = *std::move(file);
  }
  auto load = ParseLoad(text);
  if (!load) return tl::unexpected(std::move(load.error()).Within(where));
  options.defaults.load = *std::move(load);
  return {};
}

// Prompts that cannot name a model themselves mean the one of --model, or the only one that there
// is.
Status HaveModel(ScoreOptions& options, const std::vector<std::string>& models) {
  if (!options.defaults.model.empty()) return {};
  if (models.size() == 1) {
    options.defaults.model = models.front();
    return {};
  }
  if (options.input.only_lines()) return {};
  return Fail(
      "no model is named", {},
      models.empty() ? "--model NAME" : fmt::format("--model, one of {}", fmt::join(models, ", ")));
}

// Flags that need or exclude one another.
Status Fit(ScoreOptions& options) {
  const bool from_recording = !options.recordings.empty();
  const bool from_snapshot = !options.snapshot.empty();
  if (from_snapshot && (from_recording || !options.conductors.urls.empty())) {
    return Fail("it alone is asked", "--snapshot", "neither --conductor nor --recording");
  }
  if (from_recording && !options.conductors.urls.empty()) {
    return Fail("one of the two is asked", "--conductor and --recording");
  }
  if (options.conductors.urls.empty()) options.conductors.urls = {kDefaultConductor};
  const bool over_http = std::ranges::any_of(
      options.conductors.urls, [](const std::string& url) { return url.starts_with("http"); });
  if (options.explain && !from_recording && !from_snapshot && !over_http) {
    return Fail("goes over HTTP", "--explain", "a --conductor http://HOST:PORT");
  }
  const bool has_texts = !options.input.texts.empty() || !options.input.text_files.empty();
  if (has_texts && !options.tokenizer) {
    return Fail("a text has to be made into token ids", "--prompt",
                "an engine that does: --tokenizer http://HOST:PORT");
  }
  if (!options.input.empty()) {
    const bool from_file = from_recording || from_snapshot;
    return from_file ? Status() : HaveModel(options, {});
  }
  if (isatty(STDIN_FILENO) == 1) {
    return Fail("there is no prompt", {},
                "--tokens FILE, --prompt TEXT with --tokenizer URL, or JSON lines on standard "
                "input");
  }
  options.input.line_files = {"-"};
  return {};
}

}  // namespace

int RunScore(ScoreOptions options) {
  std::signal(SIGPIPE, SIG_IGN);
  // What a conductor in this process would tell its operator is told by the states of its answers.
  log::SetLevel(log::Level::kError);
  if (auto fit = Fit(options); !fit) return Complain(kExitUsage, fit.error());
  if (auto read = ReadLoadOf(options); !read) {
    return Complain(LoadIsJson(options) ? kExitUsage : kExitFailed, read.error());
  }
  auto source = OpenSource(options);
  if (!source) return Complain(kExitFailed, source.error());
  if (auto has = HaveModel(options, (*source)->Models()); !has) {
    return Complain(kExitUsage, has.error());
  }

  ScoreInput input(options.input, options.defaults);
  Report report(options);
  using Work = InOrder<ScoreItem, ScoreResult>;
  Work work(
      options.in_flight,
      [&]() -> Work::Worker {
        auto scorer = std::make_shared<Scorer>(options, **source);
        return [scorer](ScoreItem item) { return scorer->Score(std::move(item)); };
      },
      [&report](const ScoreResult& result) { return report.Add(result); });
  while (auto item = input.Next()) {
    if (!work.Give(*std::move(item))) break;
  }
  work.Finish();
  return report.End();
}

}  // namespace conductor::toolkit
