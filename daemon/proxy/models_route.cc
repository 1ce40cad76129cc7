#include <nlohmann/json.hpp>
#include <set>

#include "daemon/proxy/ask_engines.h"
#include "daemon/proxy/routes.h"

namespace conductor::proxy {
namespace {

constexpr std::chrono::seconds kTimeLimit(2);

// Adds the models of one answer that are not there yet.
bool Merge(const EngineAnswer& answer, std::set<std::string>& ids, nlohmann::ordered_json& models) {
  if (answer.status != 200) return false;
  const auto json = nlohmann::ordered_json::parse(answer.body, nullptr, false);
  if (!json.is_object() || !json.contains("data") || !json["data"].is_array()) return false;
  for (const auto& model : json["data"]) {
    if (!model.is_object() || !model.contains("id") || !model["id"].is_string()) continue;
    if (ids.insert(model["id"].get<std::string>()).second) models.push_back(model);
  }
  return true;
}

}  // namespace

Awaitable<void> AnswerModels(Request& request) {
  std::vector<std::shared_ptr<Engine>> engines;
  for (const Role role : {Role::kDecode, Role::kUnified, Role::kPrefill}) {
    for (auto& engine : request.shared.fleet.Engines(role)) engines.push_back(std::move(engine));
  }
  const auto answers = co_await AskEngines(request, engines, "/v1/models", kTimeLimit);
  std::set<std::string> ids;
  nlohmann::ordered_json models = nlohmann::ordered_json::array();
  bool is_any = false;
  for (const EngineAnswer& answer : answers) is_any |= Merge(answer, ids, models);
  if (is_any) {
    const nlohmann::ordered_json json = {{"object", "list"}, {"data", models}};
    const std::string body = json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    co_return co_await AnswerWhole(request, 200, "application/json", body);
  }
  // All refuse: for a key that is missing, for example.
  for (const EngineAnswer& answer : answers) {
    if (answer.status >= 400) {
      co_return co_await AnswerWhole(request, answer.status, "application/json", answer.body);
    }
  }
  co_await AnswerError(request, 503, "decode_unavailable", "no engine has said its models", 1);
}

}  // namespace conductor::proxy
