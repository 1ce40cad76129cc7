#include "daemon/serve/explanation_document.h"

#include <nlohmann/json.hpp>
#include <variant>

#include "daemon/serve/document_writer.h"

namespace conductor::serve {
namespace {

using Json = nlohmann::ordered_json;

Json RemovalJson(const index::Removal& removal) {
  const index::Occasion& occasion = removal.occasion;
  return Json{{"how", index::RemovalCauseName(removal.cause)},
              {"tier", TierName(removal.tier)},
              {"blocks", removal.blocks},
              {"publisher", removal.publisher},
              {"sequence", occasion.sequence ? Json(*occasion.sequence) : Json(nullptr)},
              {"unix_time", occasion.unix_time > 0 ? Json(occasion.unix_time) : Json(nullptr)}};
}

// Adds what a verdict says to an object.
void Put(const Verdict& verdict, Json& json) {
  json["cause"] = ExplainCauseName(verdict.cause);
  json["detail"] = verdict.detail;
  json["field"] = verdict.field.empty() ? Json(nullptr) : Json(verdict.field);
  json["field_of"] = verdict.field.empty() ? Json(nullptr) : Json(FieldOfName(verdict.field_of));
  json["expected"] = nullptr;
  if (const auto* text = std::get_if<std::string>(&verdict.expected)) json["expected"] = *text;
  if (const auto* number = std::get_if<uint64_t>(&verdict.expected)) json["expected"] = *number;
  json["removal"] = verdict.removal ? RemovalJson(*verdict.removal) : Json(nullptr);
}

Json BreakJson(const RankBreak& at) {
  Json json{{"tier", TierName(at.tier)}, {"block", at.block}};
  Put(at.verdict, json);
  json["held_by"] = Json::array();
  for (const RankBreak::Holder& holder : at.held_by) {
    Json tiers = Json::array();
    for (const Tier tier : kTiers) {
      if (holder.on[static_cast<size_t>(tier)]) tiers.push_back(TierName(tier));
    }
    json["held_by"].push_back(Json{{"instance_id", holder.instance_id},
                                   {"dp_rank", holder.dp_rank},
                                   {"tiers", std::move(tiers)}});
  }
  return json;
}

Json RankJson(const RankExplanation& rank) {
  Json json{{"dp_rank", rank.dp_rank},
            {"publisher", rank.publisher},
            {"block_size", rank.name_space.block_size},
            {"additional_salt", rank.name_space.additional_salt},
            {"prompt_blocks", rank.prompt_blocks},
            {"gpu", rank.gpu},
            {"cpu", rank.cpu},
            {"disk", rank.disk},
            {"state", stream::TrustStateName(rank.trust.state)},
            {"reason", rank.trust.reason},
            {"breaks", Json::array()},
            {"notes", rank.notes}};
  for (const RankBreak& at : rank.breaks) json["breaks"].push_back(BreakJson(at));
  return json;
}

Json PoolJson(const PoolExplanation& pool) {
  Json json{{"publisher", pool.publisher},
            {"prompt_blocks", pool.prompt_blocks},
            {"cpu", pool.cpu},
            {"disk", pool.disk},
            {"state", stream::TrustStateName(pool.trust.state)},
            {"reason", pool.trust.reason}};
  Put(pool.verdict, json);
  return json;
}

Json ElsewhereJson(const Elsewhere& other) {
  Json json{{"tenant_id", other.name_space.tenant},
            {"model", other.name_space.model},
            {"lora_name", other.name_space.lora_name},
            {"block_size", other.name_space.block_size},
            {"additional_salt", other.name_space.additional_salt},
            {"without_cache_salt", other.without_cache_salt},
            {"differs", other.differs},
            {"instances", Json::array()}};
  for (const Elsewhere::Match& match : other.matches) {
    json["instances"].push_back(
        Json{{"instance_id", match.instance_id}, {"matched_tokens", match.tokens}});
  }
  return json;
}

}  // namespace

std::string ExplanationDocument(const ExplainRequest& request, const Explanation& explanation,
                                BodyForm form) {
  const Query& query = request.query;
  Json json{{"model", query.model},
            {"tenant_id", query.tenant},
            {"instance_id", request.instance_id},
            {"prompt_tokens", query.prefixes.empty()
                                  ? uint64_t{query.tokens.size()}
                                  : query.prefixes.size() * uint64_t{explanation.block_size}},
            {"block_size", explanation.block_size},
            {"prompt_blocks", explanation.prompt_blocks},
            {"matched_blocks", explanation.matched_blocks}};
  Put(explanation.verdict, json);
  json["ranks"] = Json::array();
  for (const RankExplanation& rank : explanation.ranks) json["ranks"].push_back(RankJson(rank));
  json["pools"] = Json::array();
  for (const PoolExplanation& pool : explanation.pools) json["pools"].push_back(PoolJson(pool));
  json["elsewhere"] = Json::array();
  for (const Elsewhere& other : explanation.elsewhere) {
    json["elsewhere"].push_back(ElsewhereJson(other));
  }
  json["namespaces_tried"] = explanation.namespaces_tried;
  json["namespaces_left_out"] = explanation.namespaces_left_out;
  return Render(json, form);
}

}  // namespace conductor::serve
