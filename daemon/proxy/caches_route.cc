#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <string>

#include "daemon/proxy/admin_key.h"
#include "daemon/proxy/ask_engines.h"
#include "daemon/proxy/routes.h"
#include "lib/base/log.h"

namespace conductor::proxy {
namespace {

// Engines finish a step before they do it.
constexpr std::chrono::seconds kTimeLimit(30);

}  // namespace

Awaitable<void> ResetCaches(Request& request) {
  if (!co_await IsAdmin(request)) co_return;
  const auto engines =
      request.shared.fleet.Engines({Role::kPrefill, Role::kDecode, Role::kUnified});
  // With its query: what else is to be reset.
  const std::string target = request.asked.head.target;
  const auto answers = co_await AskEngines(request, engines,
                                           {.method = "POST",
                                            .target = target,
                                            .limit = kTimeLimit,
                                            .client_fields = ClientFields::kKeptHere});
  if (request.departure.happened()) co_return;
  nlohmann::ordered_json told = nlohmann::ordered_json::array();
  size_t done = 0;
  for (const EngineAnswer& answer : answers) {
    nlohmann::ordered_json one = {{"engine", answer.engine->name()}, {"status", answer.status}};
    if (answer.status >= 200 && answer.status < 300) {
      ++done;
    } else {
      if (answer.status == 0) one["error"] = answer.error;
      log::Warn("{}: POST {}: {}", answer.engine->name(), request.asked.head.path(),
                answer.status == 0 ? answer.error : fmt::format("status {}", answer.status));
    }
    told.push_back(std::move(one));
  }
  const bool all = done == answers.size();
  const nlohmann::ordered_json json = {{"status", all ? "ok" : "failed"}, {"engines", told}};
  const std::string body = json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  co_await AnswerWhole(request, all ? 200 : 502, "application/json", body);
}

}  // namespace conductor::proxy
