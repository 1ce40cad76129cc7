#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "cmd/choices.h"
#include "cmd/flag.h"
#include "cmd/help.h"
#include "cmd/score_flags.h"
#include "cmd/subcommands.h"
#include "daemon/toolkit/snapshot_commands.h"
#include "lib/client/conductor_url.h"

namespace conductor::cmd {
namespace {

constexpr const char* kFooter =
    R"(Examples:
  conductor snapshot info state.db
  conductor snapshot save now.db --conductor http://10.0.0.1:13333
  conductor snapshot diff state.db rebuilt.db
  conductor snapshot score state.db --model m --tokens prompt.json

Exit codes: 0 done, 1 failed or a difference, 2 usage. See conductor-snapshot(1).)";

constexpr const char* kSaveFooter =
    R"(Examples:
  conductor snapshot save now.db --conductor http://127.0.0.1:13333
  conductor snapshot save rebuilt.db --recording monday.rec

A daemon writes on its own machine: its file is copied from there only where this
command can read it. Without FILE it saves, and that is all.)";

constexpr const char* kDiffFooter =
    R"(Examples:
  conductor snapshot diff yesterday.db today.db
  conductor snapshot diff http://127.0.0.1:13333 rebuilt.db --json

Exit codes: 0 the same, 1 different or failed, 2 usage.)";

constexpr const char* kLoadFooter =
    R"(Examples:
  conductor snapshot load state.db --conductor http://127.0.0.1:13333 --prefix old-

What is loaded is degraded (doubtful) there: what the engines removed since is not
known. A daemon that starts with --state FILE proves each publisher instead.)";

constexpr const char* kQuestionFooter =
    R"(Examples:
  conductor snapshot query state.db --model m --tokens prompt.json
  conductor snapshot score state.db --model m --json < prompts.jsonl

Every state is stale: it was so, and nobody is asked.)";

// A subcommand of it.
CLI::App& Add(CLI::App& snapshot, const std::string& name, const std::string& help,
              const char* footer = "") {
  CLI::App& sub = *snapshot.add_subcommand(name, help);
  sub.formatter(std::make_shared<HelpFormatter>());
  sub.footer(footer);
  return sub;
}

void AddFile(CLI::App& sub, std::string& file, const std::string& name = "FILE") {
  sub.add_option(name, file, "a snapshot")->required()->type_name("");
}

void AddConductor(CLI::App& sub, toolkit::ConductorSourceOptions& source, bool url) {
  if (url) {
    sub.add_option_function<std::string>(
           "--conductor",
           [&source](const std::string& text) {
             const auto parsed = client::ConductorUrl::Parse(text);
             if (!parsed) throw CLI::ValidationError("--conductor", parsed.error().Message());
             if (!parsed->is_http()) {
               throw CLI::ValidationError("--conductor", text +
                                                             " is not asked over HTTP (expected "
                                                             "http://HOST:PORT)");
             }
             source.urls = {text};
           },
           "a daemon [http://127.0.0.1:13333]")
        ->type_name("URL");
  }
  sub.add_option("--token-file", source.token_file, "holds a token for it [$CONDUCTOR_TOKEN]")
      ->type_name("FILE");
  sub.add_option("--ca-file", source.ca_file, "who may sign certificates, PEM")->type_name("FILE");
  source.time_limit = std::chrono::minutes(1);
  AddFlag(sub, "--timeout", source.time_limit, ParseTimeout, "TIME", "for one answer [1m]");
}

// What publishers of recordings are, where those do not say.
void AddTakenFor(CLI::App& sub, toolkit::TakenFor& taken_for) {
  OfferExpected(AddFlag(sub, "--type", taken_for.type, serve::ParsePublisherType, "TYPE",
                        "of publishers of a recording that does not say [vLLM]"),
                serve::ParsePublisherType);
  AddFlag(sub, "--model", taken_for.model, ParseName, "NAME", "the same of their model");
  AddFlag(sub, "--tenant", taken_for.tenant, ParseName, "NAME", "the same of their tenant");
}

// `options` lives as long as the parser; `work` of it is what is run.
template <typename Options>
void Runs(CLI::App& sub, const std::shared_ptr<Options>& options, Run& run,
          std::function<int(const Options&)> work) {
  sub.final_callback([options, work = std::move(work), &run] {
    run = [options, work] { return work(*options); };
  });
}

void AddSave(CLI::App& snapshot, Run& run) {
  const auto options = std::make_shared<toolkit::SnapshotSaveOptions>();
  CLI::App& save =
      Add(snapshot, "save", "Have a daemon save one, or make one of recordings", kSaveFooter);
  save.add_option("FILE", options->file, "where to write it")->type_name("");
  AddConductor(save, options->conductors, true);
  AddListFlag(save, "--recording", options->recordings, "FILE",
              "make it of what recordings of tap come to");
  save.add_option("--replay-endpoint", options->replay_endpoint,
                  "make it of what an engine's ring has: tcp://10.0.0.1:5558")
      ->type_name("ADDRESS");
  AddTakenFor(save, options->taken_for);
  AddFlag(save, "--instance", options->instance, ParseName, "NAME", "what that engine is called");
  save.add_flag("--force", options->force, "replace FILE even if it is no snapshot");
  save.add_flag("--json", options->json, "one JSON object");
  Runs<toolkit::SnapshotSaveOptions>(save, options, run, toolkit::RunSnapshotSave);
}

void AddInfo(CLI::App& snapshot, Run& run) {
  const auto options = std::make_shared<toolkit::SnapshotInfoOptions>();
  CLI::App& info = Add(snapshot, "info", "What is in it: publishers, namespaces, sizes",
                       "Example:\n  conductor snapshot info state.db --json");
  AddFile(info, options->file);
  info.add_flag("--json", options->json, "one JSON object");
  Runs<toolkit::SnapshotInfoOptions>(info, options, run, toolkit::RunSnapshotInfo);
}

void AddVerify(CLI::App& snapshot, Run& run) {
  const auto options = std::make_shared<toolkit::SnapshotVerifyOptions>();
  CLI::App& verify = Add(snapshot, "verify", "Whether it is sound, and what is wrong",
                         "Example:\n  conductor snapshot verify state.db --against monday.rec");
  AddFile(verify, options->file);
  AddListFlag(verify, "--against", options->against, "FILE",
              "and whether recordings come to the same");
  AddTakenFor(verify, options->taken_for);
  AddNumberFlag(verify, "--top", options->most, "a number", 0, 1000000,
                "list so many differing blocks [10]");
  verify.add_flag("--json", options->json, "one JSON object");
  Runs<toolkit::SnapshotVerifyOptions>(verify, options, run, toolkit::RunSnapshotVerify);
}

// A snapshot and prompts, for two questions.
CLI::App& AddQuestion(CLI::App& snapshot, const std::string& name, const std::string& help,
                      toolkit::ScoreOptions& options) {
  CLI::App& sub = Add(snapshot, name, help, kQuestionFooter);
  AddFile(sub, options.snapshot, "SNAPSHOT");
  AddPromptFlags(sub, options);
  AddQuestionFlags(sub, options);
  sub.add_option("--ca-file", options.conductors.ca_file, "who may sign certificates, PEM")
      ->type_name("FILE");
  AddFlag(sub, "--timeout", options.conductors.time_limit, ParseTimeout, "TIME",
          "for one answer of a tokenizer [5s]");
  AddShowFlags(sub, options);
  return sub;
}

void AddQueryAndScore(CLI::App& snapshot, Run& run) {
  const auto query = std::make_shared<toolkit::ScoreOptions>();
  CLI::App& ask = AddQuestion(snapshot, "query", "Who held how much of a prompt", *query);
  Runs<toolkit::ScoreOptions>(ask, query, run, toolkit::RunSnapshotQuery);
  const auto options = std::make_shared<toolkit::ScoreOptions>();
  CLI::App& score = AddQuestion(snapshot, "score", "Who would have been the best", *options);
  AddAnswerFlags(score, *options);
  Runs<toolkit::ScoreOptions>(score, options, run, toolkit::RunScore);
}

void AddDiff(CLI::App& snapshot, Run& run) {
  const auto options = std::make_shared<toolkit::SnapshotDiffOptions>();
  CLI::App& diff =
      Add(snapshot, "diff", "In what two of them, or a daemon and one, differ", kDiffFooter);
  diff.add_option("A", options->a, "a snapshot, or a daemon's URL")->required()->type_name("");
  diff.add_option("B", options->b, "another")->required()->type_name("");
  AddConductor(diff, options->conductors, false);
  AddNumberFlag(diff, "--top", options->most, "a number", 0, 1000000,
                "list so many differing blocks [10]");
  diff.add_flag("--json", options->json, "one JSON object");
  Runs<toolkit::SnapshotDiffOptions>(diff, options, run, toolkit::RunSnapshotDiff);
}

void AddExport(CLI::App& snapshot, Run& run) {
  const auto options = std::make_shared<toolkit::SnapshotExportOptions>();
  CLI::App& write = Add(snapshot, "export", "Print it as JSON lines, or as RFC 1527 events",
                        "Example:\n  conductor snapshot export state.db | head -1");
  AddFile(write, options->file);
  write.add_flag("--rfc1527", options->rfc1527, "events, as an engine would publish them");
  AddListFlag(write, "--instance", options->instances, "NAME", "only these [all]");
  Runs<toolkit::SnapshotExportOptions>(write, options, run, toolkit::RunSnapshotExport);
}

void AddLoad(CLI::App& snapshot, Run& run) {
  const auto options = std::make_shared<toolkit::SnapshotLoadOptions>();
  options->conductors.urls = {toolkit::kDefaultConductor};
  CLI::App& load = Add(snapshot, "load", "Hand its blocks to a running daemon", kLoadFooter);
  AddFile(load, options->file);
  AddConductor(load, options->conductors, true);
  AddListFlag(load, "--instance", options->instances, "NAME", "only these [all]");
  AddFlag(load, "--prefix", options->prefix, ParseName, "TEXT", "before each instance's name");
  load.add_flag("--json", options->json, "one JSON object");
  Runs<toolkit::SnapshotLoadOptions>(load, options, run, toolkit::RunSnapshotLoad);
}

}  // namespace

void AddSnapshot(CLI::App& app, Run& run) {
  CLI::App& snapshot =
      *app.add_subcommand("snapshot", "Look at what a daemon has saved, compare, ask, load it");
  snapshot.footer(kFooter);
  snapshot.formatter(std::make_shared<HelpFormatter>());
  snapshot.require_subcommand(1);
  AddSave(snapshot, run);
  AddInfo(snapshot, run);
  AddVerify(snapshot, run);
  AddQueryAndScore(snapshot, run);
  AddDiff(snapshot, run);
  AddExport(snapshot, run);
  AddLoad(snapshot, run);
}

}  // namespace conductor::cmd
