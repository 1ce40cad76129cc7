#include "daemon/proxy/keeper.h"

#include <fmt/format.h>

#include <utility>

#include "daemon/proxy/choreographies.h"
#include "daemon/proxy/json_members.h"
#include "lib/base/log.h"
#include "lib/base/number.h"
#include "lib/client/conductor_url.h"
#include "lib/client/http_transport.h"

namespace conductor::proxy {
namespace {

constexpr std::chrono::seconds kEvery(1);

}  // namespace

Result<BootstrapIds> ReadBootstrap(std::string_view text) {
  const auto ranks = JsonMembers::Parse(text);
  if (!ranks) return tl::unexpected(Error(ranks.error()).Within("GET /query"));
  BootstrapIds ids;
  for (const auto& [key, value] : ranks->All()) {
    const auto rank = ParseNumber(key, "a rank", 0, INT32_MAX);
    const auto said = JsonMembers::Parse(value);
    const auto id = said ? said->Find("engine_id") : std::nullopt;
    if (!rank || !id) {
      return Fail(fmt::format("\"{}\" is no rank with an engine_id", key), "GET /query");
    }
    ids[static_cast<uint32_t>(*rank)] = said->FindString("engine_id").value_or(std::string(*id));
  }
  return ids;
}

Keeper::Keeper(Fleet& fleet, const ProxyOptions& options) : fleet_(fleet), options_(options) {}

Keeper::~Keeper() {
  {
    const std::lock_guard lock(mutex_);
    ends_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Keeper::Start() {
  Round();
  thread_ = std::thread([this] { Run(); });
}

void Keeper::Run() {
  while (true) {
    {
      std::unique_lock lock(mutex_);
      if (changed_.wait_for(lock, kEvery, [this] { return ends_; })) return;
    }
    Round();
  }
}

void Keeper::Round() {
  for (const Role role : {Role::kPrefill, Role::kDecode, Role::kUnified}) {
    for (const auto& engine : fleet_.Engines(role)) {
      const auto resolved = engine->Resolve();
      Tell(engine->name(), resolved ? std::string() : resolved.error().Message());
      const bool has_bootstrap =
          role == Role::kPrefill && options_.choreography.connector == Connector::kMooncake;
      if (has_bootstrap) AskBootstrap(*engine);
    }
  }
}

void Keeper::AskBootstrap(Engine& engine) {
  auto& transport = bootstraps_[engine.name()];
  const std::string url = HttpUrl(engine.spec().host, options_.bootstrap_port);
  if (transport == nullptr) {
    const auto parsed = client::ConductorUrl::Parse(url);
    if (!parsed) return Tell(url, parsed.error().Message());
    transport = client::MakeHttpTransport(*parsed, {});
  }
  const MonoTime now = MonoNow();
  const auto reply =
      transport->Exchange({.method = "GET", .path = "/query"},
                          {now + options_.upstreams.connect, now + options_.upstreams.connect * 2});
  std::string problem;
  if (!reply) {
    problem = reply.error().error.Message();
  } else if (reply->status != 200) {
    problem = fmt::format("GET /query answers {}", reply->status);
  } else if (auto ids = ReadBootstrap(reply->body); ids) {
    engine.SetBootstrap(*std::move(ids));
  } else {
    problem = ids.error().Message();
  }
  // What it said before it went away is nobody's.
  if (!problem.empty()) engine.SetBootstrap({});
  Tell(url, problem);
}

void Keeper::Tell(const std::string& subject, const std::string& problem) {
  std::string& told = told_[subject];
  if (told == problem) return;
  if (problem.empty()) {
    log::Info("{}: well again", subject);
  } else {
    log::Warn("{}: {}", subject, problem);
  }
  told = problem;
}

}  // namespace conductor::proxy
