#include "daemon/toolkit/score_output.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <functional>
#include <nlohmann/json.hpp>
#include <utility>

#include "daemon/toolkit/json_text.h"
#include "daemon/toolkit/table.h"
#include "lib/base/number.h"

namespace conductor::toolkit {
namespace {

using Json = nlohmann::ordered_json;
using client::RankedInstance;
using client::ScoreParts;

Json PartsJson(const std::optional<ScoreParts>& parts) {
  if (!parts) return nullptr;
  return Json{{"saved_gpu", parts->saved_gpu},   {"saved_cpu", parts->saved_cpu},
              {"saved_disk", parts->saved_disk}, {"trust", parts->trust},
              {"queue", parts->queue},           {"memory", parts->memory}};
}

Json TextOrNull(const std::string& text) { return text.empty() ? Json(nullptr) : Json(text); }

Json ExplanationJson(const Result<ShortExplanation>& explained) {
  if (!explained) return Json{{"error", explained.error().Message()}};
  return Json{{"cause", explained->cause},
              {"detail", explained->detail},
              {"field", TextOrNull(explained->field)},
              {"field_of", TextOrNull(explained->field_of)},
              {"expected", Json::parse(explained->expected, nullptr, false)},
              {"matched_blocks", explained->matched_blocks},
              {"prompt_blocks", explained->prompt_blocks}};
}

Json InstanceJson(const RankedInstance& instance, const ScoreResult& result) {
  Json json{{"instance_id", instance.instance_id},
            {"score", instance.score},
            {"longest_matched", instance.longest_matched},
            {"gpu", instance.tiers.gpu},
            {"cpu", instance.tiers.cpu},
            {"disk", instance.tiers.disk},
            {"block_size", instance.block_size},
            {"state", instance.state},
            {"reason", instance.reason},
            {"lag_seconds", instance.lag_seconds ? Json(*instance.lag_seconds) : Json(nullptr)},
            {"parts", PartsJson(instance.parts)}};
  const auto explained = result.explained.find(instance.instance_id);
  if (explained != result.explained.end()) json["explain"] = ExplanationJson(explained->second);
  return json;
}

// A figure of tokens: whole where it is.
std::string Figure(double tokens) {
  const std::string text = fmt::format("{:.3f}", tokens);
  const size_t last = text.find_last_not_of('0');
  const std::string shown = text.substr(0, text[last] == '.' ? last : last + 1);
  return shown == "-0" ? "0" : shown;
}

Colour ColourOf(const RankedInstance& instance) {
  if (instance.state == "live") return Colour::kGreen;
  if (instance.state == "stale" || instance.state == "connecting" ||
      instance.reason == "doubtful") {
    return Colour::kRed;
  }
  return Colour::kYellow;
}

std::string StateOf(const RankedInstance& instance) {
  if (instance.reason.empty()) return Printable(instance.state);
  return Printable(fmt::format("{}: {}", instance.state, instance.reason));
}

// A part of scores as a column.
struct PartColumn {
  const char* title;
  std::function<double(const ScoreParts&)> of;
};

const std::vector<PartColumn>& PartColumns() {
  static const std::vector<PartColumn> columns{
      {"GPU", [](const ScoreParts& parts) { return parts.saved_gpu; }},
      {"CPU", [](const ScoreParts& parts) { return parts.saved_cpu; }},
      {"DISK", [](const ScoreParts& parts) { return parts.saved_disk; }},
      {"TRUST", [](const ScoreParts& parts) { return parts.trust; }},
      {"QUEUE", [](const ScoreParts& parts) { return -parts.queue; }},
      {"MEMORY", [](const ScoreParts& parts) { return -parts.memory; }}};
  return columns;
}

std::string TableOf(const std::vector<RankedInstance>& ranking, size_t shown,
                    const Terminal& terminal) {
  const auto begin = ranking.begin();
  const auto end = begin + static_cast<ptrdiff_t>(shown);
  std::vector<PartColumn> parts;
  for (const PartColumn& column : PartColumns()) {
    const bool any = std::any_of(begin, end, [&column](const RankedInstance& instance) {
      return instance.parts && column.of(*instance.parts) != 0;
    });
    if (any) parts.push_back(column);
  }
  std::vector<Table::Column> columns{
      {"INSTANCE"}, {"STATE"}, {"MATCHED", Table::Align::kRight}, {"SCORE", Table::Align::kRight}};
  for (const PartColumn& part : parts) columns.push_back({part.title, Table::Align::kRight});
  Table table(std::move(columns));
  for (auto at = begin; at != end; ++at) {
    std::vector<std::string> cells{Printable(at->instance_id),
                                   terminal.Paint(ColourOf(*at), StateOf(*at)),
                                   Grouped(at->longest_matched), Figure(at->score)};
    for (const PartColumn& part : parts) {
      cells.push_back(at->parts ? Figure(part.of(*at->parts)) : "");
    }
    table.Add(std::move(cells));
  }
  return table.Render(terminal);
}

std::string Heading(const ScoreResult& result) {
  std::string heading = fmt::format("{}: ", Printable(result.source));
  if (!result.id.empty()) heading += fmt::format("{}, ", Printable(result.id));
  heading += fmt::format("model {}", Printable(result.model));
  if (!result.tenant.empty()) heading += fmt::format(", tenant {}", Printable(result.tenant));
  if (result.answer->prompt_tokens) {
    heading += ", " + Counted(*result.answer->prompt_tokens, "token");
  }
  return heading;
}

std::string ExplanationLine(const std::string& instance,
                            const Result<ShortExplanation>& explained) {
  if (!explained) {
    return Printable(fmt::format("  {}: not explained: {}", instance, explained.error().Message()));
  }
  std::string line = fmt::format("  {}: {} of {}: {}", instance, Grouped(explained->matched_blocks),
                                 Counted(explained->prompt_blocks, "block"), explained->cause);
  if (!explained->detail.empty()) line += fmt::format(": {}", explained->detail);
  if (!explained->field.empty()) {
    line += fmt::format(" ({} of the {}", explained->field, explained->field_of);
    if (explained->expected != "null") line += fmt::format(": {}", explained->expected);
    line += ")";
  }
  return Printable(line);
}

std::string FlagOf(const std::string& reason) {
  if (reason == "unknown_model") return "--model";
  if (reason == "unknown_tenant") return "--tenant";
  if (reason == "unknown_block_size" || reason == "several_block_sizes") return "--block-size";
  return {};
}

}  // namespace

Result<ShortExplanation> ShortExplanation::Read(std::string_view text) {
  const auto parsed = ParseJson(text);
  if (!parsed || !parsed->is_object()) return Fail("its answer is no JSON object");
  const Json& json = *parsed;
  ShortExplanation explanation;
  const auto find = [&json](const char* name, auto is_type) {
    const auto found = json.find(name);
    return found != json.end() && is_type(*found) ? &*found : nullptr;
  };
  const auto text_of = [&find](const char* name, std::string& to) {
    const Json* value = find(name, [](const Json& at) { return at.is_string(); });
    if (value != nullptr) to = value->get<std::string>();
    return value != nullptr;
  };
  const auto number_of = [&find](const char* name, uint64_t& to) {
    const Json* value = find(name, [](const Json& at) { return at.is_number_unsigned(); });
    if (value != nullptr) to = value->get<uint64_t>();
    return value != nullptr;
  };
  for (const auto& [name, there] :
       {std::pair("cause", text_of("cause", explanation.cause)),
        std::pair("detail", text_of("detail", explanation.detail)),
        std::pair("matched_blocks", number_of("matched_blocks", explanation.matched_blocks)),
        std::pair("prompt_blocks", number_of("prompt_blocks", explanation.prompt_blocks))}) {
    if (!there) return Fail("is missing, or of another type", fmt::format("its answer: {}", name));
  }
  text_of("field", explanation.field);
  text_of("field_of", explanation.field_of);
  const auto expected = json.find("expected");
  explanation.expected = expected == json.end() ? "null" : DumpJson(*expected);
  return explanation;
}

std::string WhyNoScore(const client::ScoreAnswer& answer) {
  if (!answer.reason.empty()) {
    std::string why = answer.reason_detail.empty() ? answer.reason : answer.reason_detail;
    const std::string flag = FlagOf(answer.reason);
    if (!answer.nearest.empty()) {
      why += fmt::format("; did you mean {}{}?", flag.empty() ? "" : flag + " ", answer.nearest);
    } else if (!flag.empty()) {
      why += fmt::format("; {} says which", flag);
    }
    return why;
  }
  if (!answer.ranking.empty()) return {};
  if (!answer.unknown_instances.empty()) {
    return fmt::format("none of the instances asked for serves the model, and nobody registered {}",
                       fmt::join(answer.unknown_instances, ", "));
  }
  return "none of the instances asked for serves the model";
}

size_t Shown(const client::ScoreAnswer& answer, std::optional<uint32_t> top) {
  return top ? std::min<size_t>(*top, answer.ranking.size()) : answer.ranking.size();
}

std::string ScoreJson(const ScoreResult& result, std::optional<uint32_t> top) {
  Json json{{"prompt", result.number}, {"source", result.source}};
  if (!result.id.empty()) json["id"] = Json::parse(result.id, nullptr, false);
  json["model"] = TextOrNull(result.model);
  json["tenant_id"] = result.tenant.empty() ? "default" : result.tenant;
  if (result.answer) {
    const client::ScoreAnswer& answer = *result.answer;
    json["conductor"] = answer.conductor;
    json["prompt_tokens"] = answer.prompt_tokens ? Json(*answer.prompt_tokens) : Json(nullptr);
    json["instances"] = answer.ranking.size();
    json["ranking"] = Json::array();
    for (size_t i = 0; i < Shown(answer, top); ++i) {
      json["ranking"].push_back(InstanceJson(answer.ranking[i], result));
    }
    json["unknown_instances"] = answer.unknown_instances;
    json["reason"] = answer.reason;
    json["nearest"] = TextOrNull(answer.nearest);
  }
  json["error"] = TextOrNull(result.error);
  json["unmet"] = result.unmet;
  return DumpJson(json) + "\n";
}

std::string ScoreTable(const ScoreResult& result, std::optional<uint32_t> top,
                       const Terminal& terminal) {
  if (!result.answer || result.answer->ranking.empty()) return {};
  const auto& ranking = result.answer->ranking;
  const size_t shown = Shown(*result.answer, top);
  const std::string heading = Heading(result);
  std::string text = terminal.width > 0 ? Cut(heading, terminal.width) : heading;
  text = terminal.Paint(Colour::kCyan, text) + "\n" + TableOf(ranking, shown, terminal);
  if (shown < ranking.size()) {
    text += terminal.Paint(Colour::kDim, fmt::format("and {} more", ranking.size() - shown)) + "\n";
  }
  for (size_t i = 0; i < shown; ++i) {
    const auto explained = result.explained.find(ranking[i].instance_id);
    if (explained == result.explained.end()) continue;
    text += ExplanationLine(explained->first, explained->second) + "\n";
  }
  return text;
}

}  // namespace conductor::toolkit
