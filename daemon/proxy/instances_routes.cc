#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "daemon/proxy/admin_key.h"
#include "daemon/proxy/ask_engines.h"
#include "daemon/proxy/json_members.h"
#include "daemon/proxy/routes.h"
#include "lib/base/log.h"

namespace conductor::proxy {
namespace {

constexpr std::chrono::seconds kTimeLimit(5);
// In one request.
constexpr size_t kMaxInstances = 1024;

struct Instances {
  Role role = Role::kPrefill;
  std::vector<EngineSpec> engines;
};

Result<Instances> Read(std::string_view body, bool is_unified) {
  constexpr const char* kTypes = "\"prefill\" or \"decode\"; \"unified\" where no decoder is named";
  const auto members = JsonMembers::Parse(body);
  if (!members) return tl::unexpected(Error(members.error()).Within("the body"));
  Instances read;
  const std::string type = members->FindString("type").value_or(std::string());
  if (is_unified) {
    read.role = Role::kUnified;
    if (type != "unified" && type != "prefill")
      return Fail("cannot be used", "type", "\"unified\"");
  } else if (type == "decode") {
    read.role = Role::kDecode;
  } else if (type != "prefill") {
    return Fail("cannot be used", "type", kTypes);
  }
  auto list = members->Find("instances");
  if (!list || *list == "null") list = members->Find("instance");
  Result<std::vector<std::string_view>> elements;
  if (list && list->starts_with('"')) {
    elements->push_back(*list);
  } else if (list) {
    elements = JsonElements(*list, kMaxInstances);
  }
  if (!elements || elements->empty()) {
    return Fail("cannot be used", "instances", "an array of \"HOST:PORT\"");
  }
  std::optional<uint16_t> bootstrap_port;
  if (const auto text = members->Find("bootstrap_port")) {
    const auto port = EngineSpec::ParseBootstrapPort(
        members->FindString("bootstrap_port").value_or(std::string(*text)));
    if (!port) return tl::unexpected(Error(port.error()).Within("bootstrap_port"));
    bootstrap_port = *port;
  }
  for (const std::string_view element : *elements) {
    const auto text = ReadJsonString(element);
    if (!text) return Fail("is no string", "instances", "\"HOST:PORT\"");
    auto engine = EngineSpec::Parse(*text);
    if (!engine) return tl::unexpected(std::move(engine.error()).Within("instances"));
    engine->bootstrap_port = bootstrap_port;
    read.engines.push_back(*std::move(engine));
  }
  return read;
}

// Whether they can be told from those that are there.
Status CheckNew(const Instances& added, const Shared& shared) {
  if (added.role != Role::kPrefill) return {};
  std::vector<EngineSpec> all;
  for (const auto& engine : shared.fleet.Engines(Role::kPrefill)) {
    const bool is_known =
        std::ranges::find(added.engines, engine->name(), &EngineSpec::Name) != added.engines.end();
    if (!is_known) all.push_back(engine->spec());
  }
  all.insert(all.end(), added.engines.begin(), added.engines.end());
  return CheckBootstrap(all, shared.options);
}

// What the request is about; nothing when it has been refused.
Awaitable<std::optional<Instances>> Admit(Request& request) {
  if (!co_await IsAdmin(request)) co_return std::nullopt;
  auto read = Read(request.asked.body, request.shared.options.is_unified());
  if (!read) {
    const std::string message = read.error().Message();
    co_await AnswerError(request, 400, "invalid_request_error", message);
    co_return std::nullopt;
  }
  co_return *std::move(read);
}

// Engine::Resolve() would hold up the lane's streams.
Awaitable<void> LookUp(Engine& engine, Lane& lane) {
  if (!engine.addresses().empty()) co_return;
  tcp::resolver resolver(lane.io);
  error_code error;
  const auto found = co_await resolver.async_resolve(
      engine.spec().host, std::to_string(engine.spec().port), Into(error));
  std::vector<tcp::endpoint> addresses;
  for (const auto& entry : found) addresses.push_back(entry.endpoint());
  engine.SetAddresses(std::move(addresses));
}

std::string Names(const std::vector<EngineSpec>& engines) {
  std::string names;
  for (const EngineSpec& engine : engines) {
    names.append(names.empty() ? "" : ", ").append(JsonString(engine.Name()));
  }
  return "[" + names + "]";
}

}  // namespace

Awaitable<void> AddInstances(Request& request) {
  const auto read = co_await Admit(request);
  if (!read) co_return;
  if (const auto checked = CheckNew(*read, request.shared); !checked) {
    const std::string message = checked.error().Message();
    co_return co_await AnswerError(request, 400, "invalid_request_error", message);
  }
  // One that does not answer is not added.
  std::vector<std::shared_ptr<Engine>> engines;
  for (const EngineSpec& spec : read->engines) {
    engines.push_back(std::make_shared<Engine>(read->role, spec));
    co_await LookUp(*engines.back(), request.lane);
  }
  const auto answers = co_await AskEngines(
      request, engines,
      {.target = "/v1/models", .limit = kTimeLimit, .client_fields = ClientFields::kKeptHere});
  for (const EngineAnswer& answer : answers) {
    if (answer.status == 200 || answer.status == 401) continue;
    const std::string message =
        answer.status == 0
            ? answer.error
            : fmt::format("{}: GET /v1/models answers {}", answer.engine->name(), answer.status);
    co_return co_await AnswerError(request, 400, "invalid_request_error", message);
  }
  for (const auto& engine : engines) {
    if (request.shared.fleet.Add(engine)) {
      log::Info("{}: added as a {} engine", engine->name(), RoleName(read->role));
    }
  }
  const std::string body = fmt::format(R"({{"status": "ok", "added": {}}})", Names(read->engines));
  co_await AnswerWhole(request, 200, "application/json", body);
}

Awaitable<void> RemoveInstances(Request& request) {
  const auto read = co_await Admit(request);
  if (!read) co_return;
  for (const EngineSpec& spec : read->engines) {
    if (!request.shared.fleet.Remove(read->role, spec.Name())) {
      const std::string message =
          fmt::format("{} is no {} engine here", spec.Name(), RoleName(read->role));
      co_return co_await AnswerError(request, 404, "not_found", message);
    }
    log::Info("{}: leaves; its requests are finished", spec.Name());
  }
  const std::string body =
      fmt::format(R"({{"status": "ok", "removed": {}}})", Names(read->engines));
  co_await AnswerWhole(request, 200, "application/json", body);
}

}  // namespace conductor::proxy
