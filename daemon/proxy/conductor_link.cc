#include "daemon/proxy/conductor_link.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "lib/base/log.h"

namespace conductor::proxy {
namespace {

constexpr size_t kThreads = 2;
constexpr size_t kMaxWaiting = 256;
constexpr std::chrono::seconds kWatchEvery(2);
// Of conductors: three failures in a row, and nobody waits for them for a second.
constexpr Breaker::Options kBreaker{
    .failures = 3, .pause = std::chrono::seconds(1), .max_pause = std::chrono::seconds(5)};
// What the embedded index is called in messages.
constexpr const char* kEmbedded = "the embedded index";

std::string KeyOf(const std::string& instance, const std::string& tenant, uint32_t rank) {
  return fmt::format("{}|{}|{}", instance, tenant, rank);
}

}  // namespace

std::string RegistrationBody(const EngineSpec& engine, const EventSource& source,
                             const Namespace& prompts) {
  nlohmann::ordered_json body = {{"endpoint", source.endpoint},
                                 {"replay_endpoint", source.replay_endpoint},
                                 {"type", "vLLM"},
                                 {"modelname", prompts.model},
                                 {"lora_name", prompts.lora_name},
                                 {"tenant_id", prompts.tenant},
                                 {"instance_id", engine.instance_id},
                                 {"block_size", prompts.block_size},
                                 {"dp_rank", source.dp_rank}};
  if (!prompts.hash_algorithm.empty()) {
    body["hash_profile"] = {{"strategy", "vllm_v1"},
                            {"algorithm", prompts.hash_algorithm},
                            {"index_projection", "low64_be"},
                            {"python_hash_seed", prompts.python_hash_seed}};
  }
  return body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

ConductorLink::ConductorLink(const ProxyOptions& options, Fleet& fleet, Embedded* embedded)
    : options_(options),
      fleet_(fleet),
      embedded_(embedded),
      breaker_(kBreaker),
      instances_(std::make_shared<InstanceMap>()) {}

ConductorLink::~ConductorLink() {
  {
    const std::lock_guard lock(mutex_);
    ends_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

Result<client::Client> ConductorLink::MakeClient(const std::string& url, Duration limit) const {
  client::ClientOptions options;
  options.time_limit = options.attempt_limit = limit;
  options.connect_limit = limit;
  if (embedded_ != nullptr) {
    std::vector<client::Client::Way> ways;
    ways.push_back({kEmbedded, embedded_->MakeTransport()});
    return client::Client(std::move(ways), std::move(options));
  }
  if (!url.empty()) return client::Client::Create({url}, std::move(options));
  // Several: what is left of the time is the next one's.
  if (options_.conductors.size() > 1) options.attempt_limit = options.connect_limit = limit / 2;
  return client::Client::Create(options_.conductors, std::move(options));
}

Status ConductorLink::Start() {
  std::vector<std::string> urls = options_.conductors;
  if (embedded_ != nullptr) urls = {kEmbedded};
  for (const std::string& url : urls) {
    auto client = MakeClient(url, options_.registration_timeout);
    if (!client) return tl::unexpected(client.error());
    conductors_.emplace(url, *std::move(client));
  }
  for (size_t i = 0; i < kThreads; ++i) {
    auto client = MakeClient({}, options_.query_timeout);
    if (!client) return tl::unexpected(client.error());
    threads_.emplace_back([this, moved = std::make_shared<client::Client>(
                                     *std::move(client))]() mutable { Work(std::move(*moved)); });
  }
  Round();
  threads_.emplace_back([this] { Watch(); });
  return {};
}

bool ConductorLink::Ask(Job job, MonoTime until) {
  const std::lock_guard lock(mutex_);
  if (waiting_.size() >= kMaxWaiting || !breaker_.Admits(MonoNow())) return false;
  waiting_.push_back({std::move(job), until});
  changed_.notify_all();
  return true;
}

void ConductorLink::Answered(bool well) {
  const std::lock_guard lock(mutex_);
  if (well) {
    breaker_.Succeeded();
  } else {
    const MonoTime now = MonoNow();
    breaker_.Failed(now, breaker_.state(now) == Breaker::State::kHalfOpen);
  }
}

std::shared_ptr<const InstanceMap> ConductorLink::instances() const {
  const std::lock_guard lock(mutex_);
  return instances_;
}

void ConductorLink::Work(client::Client client) {
  while (true) {
    Waiting next;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return ends_ || !waiting_.empty(); });
      if (ends_) return;
      next = std::move(waiting_.front());
      waiting_.pop_front();
    }
    // Nobody waits for it any more.
    if (MonoNow() < next.until) next.job(client);
  }
}

void ConductorLink::Watch() {
  while (true) {
    {
      std::unique_lock lock(mutex_);
      if (changed_.wait_for(lock, kWatchEvery, [this] { return ends_; })) return;
    }
    Round();
  }
}

void ConductorLink::Round() {
  std::vector<EngineSpec> engines;
  for (const auto& engine : fleet_.Engines({Role::kPrefill, Role::kUnified, Role::kDecode})) {
    engines.push_back(engine->spec());
  }
  bool is_matched = false;
  for (auto& [url, client] : conductors_) {
    auto there = client.Publishers();
    if (!there) {
      Tell(url, there.error().Message());
      continue;
    }
    Tell(url, {});
    if (Register(url, client, *there)) {
      if (auto after = client.Publishers()) there = std::move(after);
    }
    if (std::exchange(is_matched, true)) continue;
    auto map = MatchInstances(engines, *there, AddressesOf);
    std::string warnings;
    for (const std::string& warning : map.warnings) {
      // A decoder need not publish.
      const bool is_decoder = std::ranges::any_of(options_.decoders, [&](const EngineSpec& spec) {
        return warning.starts_with(spec.Name() + ":");
      });
      if (!is_decoder) warnings += (warnings.empty() ? "" : "; ") + warning;
    }
    Tell("instances", warnings);
    const std::lock_guard lock(mutex_);
    instances_ = std::make_shared<InstanceMap>(std::move(map));
  }
}

bool ConductorLink::Register(const std::string& url, client::Client& client,
                             const std::vector<client::PublisherEntry>& there) {
  bool is_any = false;
  for (const EngineSpec& engine : options_.prefillers) {
    for (const EventSource& source : engine.events) {
      const std::string key = KeyOf(engine.instance_id, options_.prompts.tenant, source.dp_rank);
      if (std::ranges::find(there, key, &client::PublisherEntry::id) != there.end()) continue;
      const auto done = client.Register(RegistrationBody(engine, source, options_.prompts));
      Tell(fmt::format("{}: {}", url, key), done ? std::string() : done.error().Message());
      if (done) log::Info("{}: registered {}", url, key);
      is_any |= done.has_value();
    }
  }
  return is_any;
}

void ConductorLink::Tell(const std::string& subject, const std::string& problem) {
  std::string& told = told_[subject];
  if (told == problem) return;
  if (problem.empty()) {
    log::Info("{}: well again", subject);
  } else {
    log::Warn("{}", problem);
  }
  told = problem;
}

}  // namespace conductor::proxy
