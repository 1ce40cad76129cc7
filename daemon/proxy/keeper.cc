#include "daemon/proxy/keeper.h"

#include <fmt/format.h>

#include <utility>

#include "daemon/proxy/choreographies.h"
#include "daemon/proxy/json_members.h"
#include "lib/base/log.h"
#include "lib/base/number.h"

namespace conductor::proxy {
namespace {

constexpr std::chrono::seconds kEvery(1);
// Of a bootstrap server: some hundred bytes for each rank.
constexpr size_t kMaxAnswer = 4 << 20;

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

Keeper::Keeper(Fleet& fleet, const ProxyOptions& options)
    : fleet_(fleet),
      options_(options),
      upstreams_(io_, limits_,
                 {.connect = options.upstreams.connect,
                  .first_byte = options.upstreams.connect,
                  .idle = options.upstreams.connect}) {}

Keeper::~Keeper() {
  ends_.store(true, std::memory_order_relaxed);
  io_.stop();
  if (thread_.joinable()) thread_.join();
  // What waits refers to this.
  io_.restart();
  ending_.Happen();
  io_.poll();
}

void Keeper::Start() {
  Round();
  const auto until = std::chrono::steady_clock::now() + kEvery;
  while (!asked_.empty() && io_.run_one_until(until) > 0) {
  }
  thread_ = std::thread([this] { Run(); });
}

void Keeper::Run() {
  const auto work = net::make_work_guard(io_);
  while (!ends_.load(std::memory_order_relaxed)) {
    io_.restart();
    io_.run_for(kEvery);
    if (!ends_.load(std::memory_order_relaxed)) Round();
  }
}

void Keeper::Round() {
  for (const auto& engine : fleet_.Engines({Role::kPrefill, Role::kDecode, Role::kUnified})) {
    const auto resolved = engine->Resolve();
    Tell(engine->name(), resolved ? std::string() : resolved.error().Message());
    const bool has_bootstrap =
        engine->role() == Role::kPrefill && options_.choreography.connector == Connector::kMooncake;
    if (has_bootstrap) AskBootstrap(engine);
  }
}

void Keeper::AskBootstrap(const std::shared_ptr<Engine>& engine) {
  if (!asked_.insert(engine->name()).second) return;
  net::co_spawn(
      io_,
      [this, engine]() -> Awaitable<void> {
        EngineSpec spec;
        spec.host = engine->spec().host;
        spec.port = options_.BootstrapPortOf(engine->spec());
        Engine server(Role::kPrefill, spec);
        auto addresses = engine->addresses();
        for (tcp::endpoint& address : addresses) address.port(spec.port);
        server.SetAddresses(std::move(addresses));
        auto ids = co_await Query(server);
        asked_.erase(engine->name());
        if (ending_.happened()) co_return;
        Tell(HttpUrl(spec.host, spec.port), ids ? std::string() : ids.error().Message());
        // What it said before it went away is nobody's.
        engine->SetBootstrap(ids ? *std::move(ids) : BootstrapIds());
      },
      net::detached);
}

Awaitable<Result<BootstrapIds>> Keeper::Query(const Engine& server) {
  const std::string head = fmt::format(
      "GET /query HTTP/1.1\r\nHost: {}\r\nAccept-Encoding: identity\r\n\r\n", server.name());
  Exchange exchange(upstreams_, ending_);
  auto asked = co_await exchange.Ask(server, head, {});
  if (!asked) co_return Fail(std::move(asked.error().what));
  auto body = co_await exchange.ReadAll(kMaxAnswer);
  if (!body) co_return Fail(std::move(body.error().what));
  if (exchange.head().status != 200) {
    co_return Fail(fmt::format("GET /query answers {}", exchange.head().status));
  }
  co_return ReadBootstrap(*body);
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
