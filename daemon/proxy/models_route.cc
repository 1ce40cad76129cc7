#include <fmt/format.h>

#include <set>

#include "daemon/proxy/ask_engines.h"
#include "daemon/proxy/json_members.h"
#include "daemon/proxy/routes.h"

namespace conductor::proxy {
namespace {

constexpr std::chrono::seconds kTimeLimit(2);

// Of one engine. What is more is no list of models.
constexpr size_t kMaxModels = 1024;

// Adds the models of one answer that are not there yet, as their engine wrote them: to go into what
// it sent by recursion would let it end the process.
bool Merge(const EngineAnswer& answer, std::set<std::string>& ids, std::string& models) {
  if (answer.status != 200 || !IsJson(answer.body)) return false;
  const auto members = JsonMembers::Parse(answer.body);
  const auto data = members ? members->Find("data") : std::nullopt;
  const auto elements = data ? JsonElements(*data, kMaxModels) : Fail("no data");
  if (!elements) return false;
  for (const std::string_view model : *elements) {
    const auto fields = JsonMembers::Parse(model);
    const auto id = fields ? fields->FindString("id") : std::nullopt;
    if (!id || !ids.insert(*id).second) continue;
    if (!models.empty()) models.append(", ");
    models.append(model);
  }
  return true;
}

}  // namespace

Awaitable<void> AnswerModels(Request& request) {
  const auto engines =
      request.shared.fleet.Engines({Role::kDecode, Role::kUnified, Role::kPrefill});
  const auto answers =
      co_await AskEngines(request, engines, {.target = "/v1/models", .limit = kTimeLimit});
  std::set<std::string> ids;
  std::string models;
  bool is_any = false;
  for (const EngineAnswer& answer : answers) is_any |= Merge(answer, ids, models);
  if (is_any) {
    const std::string body = fmt::format(R"({{"object": "list", "data": [{}]}})", models);
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
