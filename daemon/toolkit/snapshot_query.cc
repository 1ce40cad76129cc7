// `conductor snapshot query`.

#include <fmt/format.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "daemon/toolkit/console.h"
#include "daemon/toolkit/json_text.h"
#include "daemon/toolkit/offline_snapshot.h"
#include "daemon/toolkit/score_input.h"
#include "daemon/toolkit/snapshot_commands.h"
#include "daemon/toolkit/table.h"
#include "daemon/toolkit/tokenizer.h"
#include "lib/base/log.h"
#include "lib/base/number.h"

namespace conductor::toolkit {
namespace {

using Json = nlohmann::ordered_json;
using Align = Table::Align;

Result<client::QueryAnswer> Ask(client::Client& client, std::optional<Tokenizer>& tokenizer,
                                ScoreItem& item, const ScoreOptions& options) {
  if (!item.prompt) return tl::unexpected(std::move(item.prompt.error()));
  ScorePrompt& prompt = *item.prompt;
  if (prompt.model.empty()) return Fail("no model is named", {}, "--model NAME");
  if (!prompt.to_tokenize.empty()) {
    if (!tokenizer) {
      return Fail("the prompt is text", {},
                  "token ids, or an engine that makes them: --tokenizer URL");
    }
    auto tokens = tokenizer->Tokenize(prompt.to_tokenize, prompt.model);
    if (!tokens) return tl::unexpected(std::move(tokens.error()));
    prompt.tokens = *std::move(tokens);
  }
  if (prompt.tokens.empty()) return Fail("the prompt has no tokens", {}, "at least one");
  client::QuerySpec spec = prompt.Spec().query;
  spec.top = options.top;
  return client.Query(spec);
}

std::string Text(const ScoreItem& item, const client::QueryAnswer& answer,
                 const Terminal& terminal) {
  std::string text =
      fmt::format("{}: model {}, {}\n", Printable(item.source), Printable(item.prompt->model),
                  Counted(answer.prompt_tokens.value_or(0), "token"));
  Table table({{"INSTANCE"},
               {"STATE"},
               {"MATCHED", Align::kRight},
               {"GPU", Align::kRight},
               {"CPU", Align::kRight},
               {"DISK", Align::kRight},
               {"RANK", Align::kRight},
               {"OF BLOCKS", Align::kRight},
               {"BLOCK SIZE", Align::kRight}});
  for (const client::InstanceFigures& of : answer.instances) {
    if (!of.serves_model) continue;
    // The best rank, as a router with several would want it.
    std::string rank = "-";
    for (const auto& [number, tiers] : of.ranks) {
      if (tiers.disk == of.longest_matched) {
        rank = fmt::format("{}", number);
        break;
      }
    }
    table.Add({Printable(of.instance_id), Printable(of.state), Grouped(of.longest_matched),
               Grouped(of.tiers.gpu), Grouped(of.tiers.cpu), Grouped(of.tiers.disk), rank,
               Grouped(of.prompt_blocks), fmt::format("{}", of.block_size)});
  }
  if (table.rows() > 0) text += table.Render(terminal);
  if (!answer.reason.empty()) {
    text += fmt::format("{}: {}\n", Printable(answer.reason), Printable(answer.reason_detail));
  }
  return text;
}

Json TiersJson(const client::TierTokens& tiers) {
  return {{"gpu", tiers.gpu}, {"cpu", tiers.cpu}, {"disk", tiers.disk}};
}

std::string JsonOf(const ScoreItem& item, const Result<client::QueryAnswer>& answer) {
  Json line{{"prompt", item.number}, {"source", item.source}};
  if (item.prompt && !item.prompt->id.empty()) line["id"] = Json::parse(item.prompt->id);
  line["model"] = item.prompt ? Json(item.prompt->model) : Json(nullptr);
  line["prompt_tokens"] =
      answer && answer->prompt_tokens ? Json(*answer->prompt_tokens) : Json(nullptr);
  Json instances = Json::array();
  if (answer) {
    for (const client::InstanceFigures& of : answer->instances) {
      Json ranks = Json::object();
      for (const auto& [number, tiers] : of.ranks) ranks[std::to_string(number)] = TiersJson(tiers);
      Json figures{{"instance_id", of.instance_id},
                   {"serves_model", of.serves_model},
                   {"longest_matched", of.longest_matched}};
      figures.update(TiersJson(of.tiers));
      figures["ranks"] = std::move(ranks);
      figures["block_size"] = of.block_size;
      figures["prompt_blocks"] = of.prompt_blocks;
      figures["state"] = of.state;
      figures["reason"] = of.reason;
      instances.push_back(std::move(figures));
    }
  }
  line["instances"] = std::move(instances);
  line["reason"] = answer ? Json(answer->reason) : Json(nullptr);
  line["error"] = answer ? Json(nullptr) : Json(answer.error().Message());
  return DumpJson(line) + "\n";
}

}  // namespace

int RunSnapshotQuery(ScoreOptions options) {
  Output output;
  log::SetLevel(log::Level::kError);
  if (options.input.empty()) {
    if (isatty(STDIN_FILENO) == 1) {
      return Complain(kExitUsage,
                      {"there is no prompt", {}, "--tokens FILE, or JSON lines on standard input"});
    }
    options.input.line_files = {"-"};
  }
  auto snapshot = OpenOfflineSnapshot(options.snapshot);
  if (!snapshot) return Complain(kExitFailed, snapshot.error());
  for (const std::string& note : snapshot->Notes()) Warn(note);
  const auto client = snapshot->conductor->MakeClient(options.snapshot);
  std::optional<Tokenizer> tokenizer;
  if (options.tokenizer) {
    tokenizer.emplace(*options.tokenizer,
                      Tokenizer::Options{.time_limit = options.conductors.time_limit,
                                         .ca_file = options.conductors.ca_file});
  }
  const Terminal terminal = TerminalOf(STDOUT_FILENO);
  ScoreInput input(options.input, options.defaults);
  uint64_t prompts = 0;
  bool failed = false;
  while (auto item = input.Next()) {
    const auto answer = Ask(*client, tokenizer, *item, options);
    std::string text;
    if (options.json) {
      text = JsonOf(*item, answer);
    } else if (answer) {
      text = (prompts > 0 ? "\n" : "") + Text(*item, *answer, terminal);
    }
    ++prompts;
    if (!answer) {
      failed = true;
      (void)Complain(kExitFailed, Error(answer.error()).Within(item->source));
    }
    if (!output.Print(text) || !output.Flush()) break;
  }
  if (prompts == 0) return Complain(kExitFailed, {"there was no prompt in what was given", {}, {}});
  return output.End(failed ? kExitFailed : kExitDone);
}

}  // namespace conductor::toolkit
