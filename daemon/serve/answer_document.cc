#include "daemon/serve/answer_document.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "daemon/serve/row_writer.h"

namespace conductor::serve {
namespace {

using Json = nlohmann::ordered_json;

// Seconds, or nil when there are none.
void WriteSeconds(DocumentWriter& out, double seconds) {
  if (seconds >= 0) {
    out.Real(seconds, 3);
  } else {
    out.Nil();
  }
}

void WriteMooncakeInstance(DocumentWriter& out, const InstanceAnswer& instance) {
  out.Key(instance.instance_id);
  out.Map(5);
  out.Pair("longest_matched", instance.longest_matched());
  out.Pair("GPU", instance.best.gpu);
  out.Key("DP");
  out.Map(instance.ranks.size());
  for (const auto& [rank, figures] : instance.ranks) out.Pair(std::to_string(rank), figures.gpu);
  out.Pair("CPU", instance.best.cpu);
  out.Pair("DISK", instance.best.disk);
}

// An answer's rows, one for each instance.
template <BodyForm kForm>
class InstanceRows {
 public:
  explicit InstanceRows(DocumentWriter& out) : out_(out) {}

  void Write(const InstanceAnswer& instance) {
    if (!last_trust_ || *instance.trust != *last_trust_) TakeTrust(*instance.trust);
    using Row = RowWriter<kForm>;
    // Their keys have less than 16 characters each.
    constexpr size_t kPair = Row::kAround + 16 + Row::kNumber;
    constexpr size_t kOfRow = 2 * Row::kMap + 11 * kPair + Row::kSeconds;
    constexpr size_t kOfRank = Row::kAround + Row::kNumber + Row::kMap + 3 * kPair;
    Row row(out_.BeginRow(kOfRow + Row::MostOf(instance.instance_id) + written_trust_.size() +
                          instance.ranks.size() * kOfRank));
    char* const map = row.BeginMap(last_trust_->detail.empty() ? 12 : 13);
    row.Key("instance_id");
    row.Text(instance.instance_id);
    row.Key("serves_model");
    row.Bool(instance.serves_model);
    row.Key("longest_matched");
    row.Number(instance.longest_matched(), figures_);
    Tiers(row, instance.best);
    row.Key("block_size");
    row.Number(instance.block_size, block_size_);
    row.Key("prompt_blocks");
    row.Number(instance.prompt_blocks, prompt_blocks_);
    row.Key("ranks");
    char* const ranks = row.BeginMap(instance.ranks.size());
    for (const auto& [rank, figures] : instance.ranks) {
      row.Key(rank, rank_);
      char* const of_rank = row.BeginMap(3);
      Tiers(row, figures);
      row.EndMap(of_rank);
    }
    row.EndMap(ranks);
    row.Pairs(written_trust_);
    row.Key("lag_seconds");
    row.Seconds(instance.lag_seconds);
    row.EndMap(map);
    out_.EndRow(row.end());
  }

 private:
  void Tiers(RowWriter<kForm>& row, const TierFigures& figures) {
    row.Key("gpu");
    row.Number(figures.gpu, figures_);
    row.Key("cpu");
    row.Number(figures.cpu, figures_);
    row.Key("disk");
    row.Number(figures.disk, figures_);
  }

  // Most instances have the same to say.
  void TakeTrust(const stream::Trust& trust) {
    last_trust_ = &trust;
    using Row = RowWriter<kForm>;
    const std::string_view state = stream::TrustStateName(trust.state);
    constexpr size_t kKeys = 3 * (Row::kAround + 16);
    written_trust_.resize(kKeys + Row::MostOf(state) + Row::MostOf(trust.reason) +
                          Row::MostOf(trust.detail));
    Row row(written_trust_.data());
    row.Key("state");
    row.Text(state);
    row.Key("reason");
    row.Text(trust.reason);
    if (!trust.detail.empty()) {
      row.Key("detail");
      row.Text(trust.detail);
    }
    written_trust_.resize(static_cast<size_t>(row.end() - written_trust_.data()));
  }

  DocumentWriter& out_;
  const stream::Trust* last_trust_ = nullptr;
  std::string written_trust_;
  NumberMemo figures_;
  NumberMemo block_size_;
  NumberMemo prompt_blocks_;
  NumberMemo rank_;
};

template <BodyForm kForm>
void WriteInstances(DocumentWriter& out, const std::vector<InstanceAnswer>& instances) {
  InstanceRows<kForm> rows(out);
  for (const InstanceAnswer& instance : instances) rows.Write(instance);
}

// What every answer to one prompt begins with; `pairs` follow.
void BeginAnswer(DocumentWriter& out, const Query& query, const Answer& answer, size_t pairs) {
  out.Map(pairs + 3);
  out.Pair("model", query.model);
  out.Pair("tenant_id", query.tenant);
  out.Key("prompt_tokens");
  const uint32_t block_size = answer.instances.empty() ? 0 : answer.instances.front().block_size;
  if (query.prefixes.empty()) {
    out.Uint(query.tokens.size());
  } else if (block_size > 0) {
    out.Uint(query.prefixes.size() * block_size);
  } else {
    out.Nil();
  }
}

size_t EndingPairs(const Answer& answer) {
  return 2 + (answer.unknown_instances.empty() ? 0 : 1) + (answer.nearest.empty() ? 0 : 1);
}

void EndAnswer(DocumentWriter& out, const Answer& answer) {
  if (!answer.unknown_instances.empty()) {
    out.Key("unknown_instances");
    out.Array(answer.unknown_instances.size());
    for (const std::string& instance : answer.unknown_instances) out.Text(instance);
  }
  out.Pair("reason", QueryReasonName(answer.reason));
  out.Pair("reason_detail", answer.reason_detail);
  if (!answer.nearest.empty()) out.Pair("nearest", answer.nearest);
}

void WriteAnswer(DocumentWriter& out, const Query& query, const Answer& answer) {
  BeginAnswer(out, query, answer, 1 + EndingPairs(answer));
  out.Key("instances");
  out.Array(answer.instances.size());
  if (out.form() == BodyForm::kJson) {
    WriteInstances<BodyForm::kJson>(out, answer.instances);
  } else {
    WriteInstances<BodyForm::kMsgpack>(out, answer.instances);
  }
  EndAnswer(out, answer);
}

void WriteScore(DocumentWriter& out, const InstanceAnswer& instance, const index::Score& score) {
  constexpr int kDecimals = 3;
  const auto real = [&out](std::string_view key, double number) {
    out.Key(key);
    out.Real(number, kDecimals);
  };
  out.Map(11);
  out.Pair("instance_id", instance.instance_id);
  real("score", score.total);
  out.Pair("longest_matched", instance.longest_matched());
  WriteTiers(out, instance.best);
  out.Pair("block_size", instance.block_size);
  out.Pair("state", stream::TrustStateName(instance.trust->state));
  out.Pair("reason", instance.trust->reason);
  out.Key("lag_seconds");
  WriteSeconds(out, instance.lag_seconds);
  out.Key("parts");
  out.Map(6);
  real("saved_gpu", score.saved_gpu);
  real("saved_cpu", score.saved_cpu);
  real("saved_disk", score.saved_disk);
  real("trust", score.trust);
  real("queue", score.queue);
  real("memory", score.memory);
}

void WriteRanking(DocumentWriter& out, const QueryRequest& request, const Query& query,
                  const Ranking& ranking) {
  const Answer& answer = ranking.answer;
  BeginAnswer(out, query, answer, 1 + EndingPairs(answer));
  const size_t all = ranking.scores.size();
  const size_t shown = request.top == 0 ? all : std::min<size_t>(request.top, all);
  out.Key("ranking");
  out.Array(shown);
  for (size_t i = 0; i < shown; ++i) {
    WriteScore(out, answer.instances[ranking.scores[i].input], ranking.scores[i]);
  }
  EndAnswer(out, answer);
}

size_t RowsOf(const Answer& answer) { return answer.instances.size(); }
size_t RowsOf(const Ranking& ranking) { return ranking.scores.size(); }

// write(out, prompt, answer) for each, in a list where they were asked for in one.
template <typename Answers, typename Write>
std::string AllOf(const QueryRequest& request, const Answers& answers, BodyForm form, Write write) {
  constexpr size_t kAnswerBytes = 512;
  constexpr size_t kRowBytes = 256;
  size_t expected = 0;
  for (const auto& answer : answers) expected += kAnswerBytes + kRowBytes * RowsOf(answer);
  DocumentWriter out(form, expected);
  if (request.batch) {
    out.Map(1);
    out.Key("answers");
    out.Array(answers.size());
  }
  for (size_t i = 0; i < answers.size(); ++i) write(out, request.prompts[i], answers[i]);
  return out.Take();
}

}  // namespace

void WriteTiers(DocumentWriter& out, const TierFigures& figures) {
  out.Pair("gpu", figures.gpu);
  out.Pair("cpu", figures.cpu);
  out.Pair("disk", figures.disk);
}

std::string ErrorDocument(const RequestError& error, BodyForm form) {
  Json json{{"error", error.error}, {"reason", error.reason}};
  if (!error.field.empty()) json["field"] = error.field;
  if (error.index) json["index"] = *error.index;
  return Render(json, form);
}

std::string MooncakeAnswerJson(const Query& query, const Answer& answer) {
  if (answer.reason == QueryReason::kUnknownTenant) return "{}";
  DocumentWriter out(BodyForm::kJson);
  out.Map(1);
  out.Key(query.tenant);
  out.Map(answer.instances.size() + answer.unknown_instances.size());
  for (const InstanceAnswer& instance : answer.instances) WriteMooncakeInstance(out, instance);
  for (const std::string& asked : answer.unknown_instances) {
    InstanceAnswer nothing;
    nothing.instance_id = asked;
    WriteMooncakeInstance(out, nothing);
  }
  return out.Take();
}

std::string AnswerDocument(const QueryRequest& request, const std::vector<Answer>& answers,
                           BodyForm form) {
  return AllOf(request, answers, form, WriteAnswer);
}

std::string RankingDocument(const QueryRequest& request, const std::vector<Ranking>& rankings,
                            BodyForm form) {
  return AllOf(request, rankings, form,
               [&request](DocumentWriter& out, const Query& query, const Ranking& ranking) {
                 WriteRanking(out, request, query, ranking);
               });
}

std::string CacheAnswerJson(const std::map<std::string, int>& hits) {
  return Render(Json{{"HitStatus", Json(hits)}, {"status", "ok"}}, BodyForm::kJson);
}

std::string GlobalViewJson(const std::vector<PublisherStatus>& publishers,
                           const std::vector<index::NamespaceStats>& namespaces) {
  std::map<index::NamespaceKey, uint64_t> blocks;
  for (const index::NamespaceStats& stats : namespaces) blocks[stats.key] += stats.blocks;
  std::set<std::pair<index::NamespaceKey, std::string>> contexts;
  std::set<index::NamespaceKey> registered;
  for (const PublisherStatus& status : publishers) {
    const Registration& registration = status.registration;
    if (IsPool(registration.type)) continue;
    index::NamespaceKey key{registration.tenant, registration.model, registration.lora_name,
                            status.effective_block_size, registration.additional_salt};
    contexts.emplace(key, registration.instance_id);
    registered.insert(std::move(key));
  }
  for (const auto& [key, count] : blocks) {
    if (!registered.contains(key)) contexts.emplace(key, std::string());
  }
  Json json = Json::array();
  for (const auto& [key, instance_id] : contexts) {
    const auto count = blocks.find(key);
    json.push_back(Json{{"model_name", key.model},
                        {"lora_name", key.lora_name},
                        {"block_size", key.block_size},
                        {"additional_salt", key.additional_salt},
                        {"tenant_id", key.tenant},
                        {"instance_id", instance_id},
                        {"block_count", count == blocks.end() ? 0 : count->second}});
  }
  return Render(Json{{"context_count", contexts.size()},
                     {"model_contexts", std::move(json)},
                     {"hashmap", Json::array()}},
                BodyForm::kJson);
}

std::string RegisteredDocument(std::string_view instance_id, const std::vector<Registration>& ranks,
                               const std::vector<std::string>& unused, BodyForm form) {
  Json json{{"status", "registered successfully"}, {"instance_id", instance_id}};
  if (ranks.size() > 1) {
    for (const Registration& rank : ranks) json["dp_ranks"].push_back(rank.dp_rank);
  }
  if (!unused.empty()) json["unused_fields"] = unused;
  return Render(json, form);
}

std::string UnregisteredDocument(std::string_view key, BodyForm form) {
  return Render(
      Json{{"status", "unregistered successfully"}, {"removed_instances", Json::array({key})}},
      form);
}

}  // namespace conductor::serve
