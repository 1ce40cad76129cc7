#include "daemon/serve/answer_json.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

namespace conductor::serve {
namespace {

using Json = nlohmann::ordered_json;

// Texts that came off the wire may be no UTF-8: such bytes become U+FFFD.
std::string Dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

void AppendText(std::string& out, std::string_view text) {
  const bool plain = std::all_of(text.begin(), text.end(), [](char c) {
    return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
  });
  if (plain) {
    out.append("\"").append(text).append("\"");
  } else {
    out.append(Dump(Json(text)));
  }
}

template <typename... Args>
void Append(std::string& out, fmt::format_string<Args...> format, Args&&... args) {
  fmt::format_to(std::back_inserter(out), format, std::forward<Args>(args)...);
}

// Seconds, or null when there are none.
void AppendSeconds(std::string& out, double seconds) {
  if (seconds >= 0 && std::isfinite(seconds)) {
    Append(out, "{:.3f}", seconds);
  } else {
    out.append("null");
  }
}

void AppendMooncakeInstance(std::string& out, const InstanceAnswer& instance) {
  AppendText(out, instance.instance_id);
  Append(out, R"(:{{"longest_matched":{},"GPU":{},"DP":{{)", instance.longest_matched(),
         instance.best.gpu);
  bool first = true;
  for (const auto& [rank, figures] : instance.ranks) {
    Append(out, R"({}"{}":{})", first ? "" : ",", rank, figures.gpu);
    first = false;
  }
  Append(out, R"(}},"CPU":{},"DISK":{}}})", instance.best.cpu, instance.best.disk);
}

void AppendInstance(std::string& out, const InstanceAnswer& instance) {
  out.append(R"({"instance_id":)");
  AppendText(out, instance.instance_id);
  Append(out, R"(,"serves_model":{},"longest_matched":{},"gpu":{},"cpu":{},"disk":{},)",
         instance.serves_model, instance.longest_matched(), instance.best.gpu, instance.best.cpu,
         instance.best.disk);
  Append(out, R"("block_size":{},)", instance.block_size);
  Append(out, R"("prompt_blocks":{},"ranks":{{)", instance.prompt_blocks);
  bool first = true;
  for (const auto& [rank, figures] : instance.ranks) {
    Append(out, R"({}"{}":{{"gpu":{},"cpu":{},"disk":{}}})", first ? "" : ",", rank, figures.gpu,
           figures.cpu, figures.disk);
    first = false;
  }
  Append(out, R"(}},"state":"{}","reason":)", stream::TrustStateName(instance.trust.state));
  AppendText(out, instance.trust.reason);
  if (!instance.trust.detail.empty()) {
    out.append(R"(,"detail":)");
    AppendText(out, instance.trust.detail);
  }
  out.append(R"(,"lag_seconds":)");
  AppendSeconds(out, instance.lag_seconds);
  out.append("}");
}

// The instances that the query named and nobody registered, in order.
std::vector<std::string_view> Unanswered(const Query& query, const Answer& answer) {
  std::set<std::string_view> answered;
  for (const InstanceAnswer& instance : answer.instances) answered.insert(instance.instance_id);
  std::vector<std::string_view> unanswered;
  std::ranges::set_difference(query.instances, answered, std::back_inserter(unanswered));
  return unanswered;
}

}  // namespace

std::string MooncakeAnswerJson(const Query& query, const Answer& answer) {
  if (answer.reason == QueryReason::kUnknownTenant) return "{}";
  std::string out = "{";
  AppendText(out, query.tenant);
  out.append(":{");
  bool first = true;
  const auto append = [&](const InstanceAnswer& instance) {
    if (!first) out.append(",");
    first = false;
    AppendMooncakeInstance(out, instance);
  };
  for (const InstanceAnswer& instance : answer.instances) append(instance);
  for (const std::string_view asked : Unanswered(query, answer)) {
    InstanceAnswer nothing;
    nothing.instance_id = asked;
    append(nothing);
  }
  out.append("}}");
  return out;
}

std::string AnswerJson(const RankedQuery& ranked, const Answer& answer) {
  const Query& query = ranked.query;
  std::string out = R"({"model":)";
  AppendText(out, query.model);
  out.append(R"(,"tenant_id":)");
  AppendText(out, query.tenant);
  Append(out, R"(,"prompt_tokens":{},"instances":[)", query.tokens.size());
  const size_t shown = std::min<size_t>(answer.instances.size(), ranked.top.value_or(UINT32_MAX));
  for (size_t i = 0; i < shown; ++i) {
    if (i > 0) out.append(",");
    AppendInstance(out, answer.instances[i]);
  }
  out.append("]");
  if (const auto unknown = Unanswered(query, answer); !unknown.empty()) {
    out.append(R"(,"unknown_instances":)").append(Dump(Json(unknown)));
  }
  Append(out, R"(,"reason":"{}","reason_detail":)", QueryReasonName(answer.reason));
  AppendText(out, answer.reason_detail);
  out.append("}");
  return out;
}

std::string CacheAnswerJson(const std::map<std::string, int>& hits) {
  return Dump(Json{{"HitStatus", Json(hits)}, {"status", "ok"}});
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
  return Dump(Json{{"context_count", contexts.size()},
                   {"model_contexts", std::move(json)},
                   {"hashmap", Json::array()}});
}

std::string RegisteredJson(std::string_view instance_id, const std::vector<Registration>& ranks,
                           const std::vector<std::string>& unused) {
  Json json{{"status", "registered successfully"}, {"instance_id", instance_id}};
  if (ranks.size() > 1) {
    for (const Registration& rank : ranks) json["dp_ranks"].push_back(rank.dp_rank);
  }
  if (!unused.empty()) json["unused_fields"] = unused;
  return Dump(json);
}

std::string UnregisteredJson(std::string_view key) {
  return Dump(
      Json{{"status", "unregistered successfully"}, {"removed_instances", Json::array({key})}});
}

}  // namespace conductor::serve
