#include "daemon/serve/answers.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <functional>
#include <optional>
#include <set>
#include <span>
#include <string_view>
#include <tuple>
#include <utility>

#include "daemon/serve/prompt_chain.h"
#include "lib/base/endpoint.h"
#include "lib/index/prefix_index.h"

namespace conductor::serve {
namespace {

index::Matches MatchIn(const Registry& registry, const index::Scope& scope,
                       std::span<const TokenId> tokens, const std::string& cache_salt,
                       const std::stop_token& stop) {
  const index::PrefixIndex& index = registry.index();
  PromptChain chain(tokens, scope.block_size, cache_salt, index.options().hash_seed, stop);
  HotPrefixes::Watched watched(registry.hot_prefixes(), chain);
  index::PrefixIndex::NameSource name_at;
  std::optional<PromptNames> names;
  if (index.HasPoolProfiles()) {
    names.emplace(tokens, scope.block_size, std::string(scope.lora_name), cache_salt);
    name_at = [&names](const hash::HashProfile& profile, size_t block) {
      return names->At(profile, block);
    };
  }
  index::Matches matches = index.Match(scope, watched, name_at);
  watched.Found(matches);
  return matches;
}

void TakeBest(TierFigures& best, const TierFigures& other) {
  best.gpu = std::max(best.gpu, other.gpu);
  best.cpu = std::max(best.cpu, other.cpu);
  best.disk = std::max(best.disk, other.disk);
}

TierFigures InTokens(const index::RankMatch& match, uint32_t block_size) {
  return TierFigures{.gpu = uint64_t{match.gpu} * block_size,
                     .cpu = uint64_t{match.cpu} * block_size,
                     .disk = uint64_t{match.disk} * block_size};
}

TierFigures InTokens(const index::PoolMatch& match, uint32_t block_size) {
  return TierFigures{.cpu = uint64_t{match.cpu} * block_size,
                     .disk = uint64_t{match.disk} * block_size};
}

// Whether what a pool has of a namespace is for this engine.
bool Serves(const EngineView& engine, const index::NamespaceKey& name_space) {
  const Registration& registration = *engine.registration;
  return registration.tenant == name_space.tenant && registration.model == name_space.model &&
         registration.additional_salt == name_space.additional_salt &&
         engine.block_size == name_space.block_size;
}

bool IsCandidate(const Query& query, const std::string& instance_id) {
  return query.instances.empty() || query.instances.contains(instance_id);
}

// The answer's rows without figures: every engine of the tenant that may be answered.
std::map<std::string, InstanceAnswer> Rows(const std::vector<EngineView>& engines,
                                           const Query& query) {
  std::map<std::string, InstanceAnswer> rows;
  for (const EngineView& engine : engines) {
    const Registration& registration = *engine.registration;
    if (registration.tenant != query.tenant || !IsCandidate(query, registration.instance_id)) {
      continue;
    }
    InstanceAnswer& answer = rows[registration.instance_id];
    answer.instance_id = registration.instance_id;
    answer.serves_model |= registration.model == query.model;
    answer.ranks.try_emplace(registration.dp_rank);
    answer.lag_seconds = std::max(answer.lag_seconds, engine.lag_seconds);
    if (registration.model == query.model && answer.block_size == 0) {
      answer.block_size = engine.block_size;
    }
  }
  return rows;
}

// The trust of each row: the worst among its publishers in both looks at the registry, so that an
// engine which fell into doubt while the figures were taken is not answered as it was before.
void TakeTrust(const std::vector<EngineView>& before, const std::vector<EngineView>& after,
               const Query& query, std::map<std::string, InstanceAnswer>& rows) {
  std::set<std::string_view> told;
  for (const auto* engines : {&before, &after}) {
    for (const EngineView& engine : *engines) {
      const Registration& registration = *engine.registration;
      const auto row = rows.find(registration.instance_id);
      if (row == rows.end() || registration.tenant != query.tenant) continue;
      if (row->second.serves_model && registration.model != query.model) continue;
      const bool first = told.insert(row->first).second;
      if (first || stream::Worse(engine.trust, row->second.trust)) row->second.trust = engine.trust;
    }
  }
}

// Which pools raised the figures of which instances, by the pool's key.
using PoolsBehind = std::map<std::string, std::set<std::string>, std::less<>>;

// What pools have, for every instance that can load it.
void TakePools(const std::vector<index::PoolMatch>& pools, const std::vector<EngineView>& engines,
               uint32_t block_size, std::map<std::string, InstanceAnswer>& rows,
               PoolsBehind& behind) {
  for (const index::PoolMatch& match : pools) {
    const TierFigures figures = InTokens(match, block_size);
    for (const EngineView& engine : engines) {
      const Registration& registration = *engine.registration;
      const auto row = rows.find(registration.instance_id);
      if (row == rows.end() || !Serves(engine, *match.name_space)) continue;
      InstanceAnswer& answer = row->second;
      TierFigures& rank = answer.ranks[registration.dp_rank];
      if (figures.cpu > rank.cpu || figures.disk > rank.disk) {
        behind[registration.instance_id].emplace(match.pool);
      }
      TakeBest(rank, figures);
      if (figures.disk > answer.best.disk) answer.block_size = block_size;
      TakeBest(answer.best, figures);
    }
  }
}

// Of the pools behind an instance's figures the worst counts as well.
void TakePoolTrust(const std::vector<PoolView>& pools, const PoolsBehind& behind,
                   std::map<std::string, InstanceAnswer>& rows) {
  for (const PoolView& pool : pools) {
    for (const auto& [instance_id, names] : behind) {
      if (!names.contains(pool.key)) continue;
      InstanceAnswer& row = rows.at(instance_id);
      if (stream::Worse(pool.trust, row.trust)) row.trust = pool.trust;
      row.lag_seconds = std::max(row.lag_seconds, pool.lag_seconds);
    }
  }
}

// Why there may be nothing to match, and what there is instead.
void Explain(const std::vector<EngineView>& engines, const Query& query, Answer& answer) {
  std::set<std::string> tenants;
  std::set<std::string> models;
  std::set<uint32_t> block_sizes;
  bool size_unknown = false;
  for (const EngineView& engine : engines) {
    tenants.insert(engine.registration->tenant);
    if (engine.registration->tenant != query.tenant) continue;
    models.insert(engine.registration->model);
    if (engine.registration->model != query.model) continue;
    size_unknown |= engine.block_size == 0;
    block_sizes.insert(engine.block_size);
  }
  if (!tenants.contains(query.tenant)) {
    answer.reason = QueryReason::kUnknownTenant;
    answer.reason_detail = fmt::format("no engine is registered for tenant '{}'; there are: {}",
                                       query.tenant, fmt::join(tenants, ", "));
  } else if (!models.contains(query.model)) {
    answer.reason = QueryReason::kUnknownModel;
    answer.reason_detail = fmt::format("no engine is registered for model '{}'; there are: {}",
                                       query.model, fmt::join(models, ", "));
  } else if (query.block_size && !size_unknown && !block_sizes.contains(*query.block_size)) {
    answer.reason = QueryReason::kUnknownBlockSize;
    answer.reason_detail =
        fmt::format("model '{}' has no engine with blocks of {} tokens; there are: {}", query.model,
                    *query.block_size, fmt::join(block_sizes, ", "));
  }
}

// The block sizes to look the prompt up with.
std::set<uint32_t> BlockSizes(const std::vector<EngineView>& engines, const Query& query) {
  if (query.block_size) return {*query.block_size};
  std::set<uint32_t> sizes;
  for (const EngineView& engine : engines) {
    const Registration& registration = *engine.registration;
    if (registration.tenant == query.tenant && registration.model == query.model &&
        engine.block_size != 0) {
      sizes.insert(engine.block_size);
    }
  }
  return sizes;
}

// The machine of an engine; empty when nobody said.
std::string HostOf(const Registration& registration) {
  if (registration.mode == stream::ListenMode::kBind) return registration.peer;
  const auto endpoint = Endpoint::Parse(registration.endpoint);
  return endpoint ? endpoint->host : std::string();
}

// One instance that a CacheQuery asks for, and the hosts as which it does.
struct CacheCandidate {
  const EngineView* engine = nullptr;
  std::set<std::string> hosts;
};

// Those that serve the model of the query, or all candidates when none does; of these the ones that
// can be trusted as far as it says.
std::vector<CacheCandidate> CacheCandidates(const std::vector<EngineView>& engines,
                                            const CacheQuery& query) {
  std::vector<CacheCandidate> candidates;
  bool model_known = false;
  for (const EngineView& engine : engines) {
    CacheCandidate candidate{&engine, {}};
    const Registration& registration = *engine.registration;
    if (query.hosts.contains(registration.instance_id)) {
      candidate.hosts.insert(registration.instance_id);
    }
    const std::string host = HostOf(registration);
    if (!host.empty() && query.hosts.contains(host)) candidate.hosts.insert(host);
    if (candidate.hosts.empty()) continue;
    model_known |= registration.model == query.model;
    candidates.push_back(std::move(candidate));
  }
  if (model_known) {
    std::erase_if(candidates, [&query](const CacheCandidate& candidate) {
      return candidate.engine->registration->model != query.model;
    });
  }
  // An instance is as trustworthy as the worst of its publishers.
  std::set<std::string_view> below;
  for (const CacheCandidate& candidate : candidates) {
    if (Suffices(candidate.engine->trust, query.min_state)) continue;
    below.insert(candidate.engine->registration->instance_id);
  }
  std::erase_if(candidates, [&below](const CacheCandidate& candidate) {
    return below.contains(candidate.engine->registration->instance_id);
  });
  return candidates;
}

// The hosts that each instance of one namespace was asked for as.
using HostsOfInstance = std::map<std::string, std::set<std::string>, std::less<>>;

std::map<index::NamespaceKey, HostsOfInstance> ByNamespace(
    const std::vector<CacheCandidate>& candidates, const CacheQuery& query) {
  std::map<index::NamespaceKey, HostsOfInstance> groups;
  for (const CacheCandidate& candidate : candidates) {
    const Registration& registration = *candidate.engine->registration;
    if (candidate.engine->block_size == 0) continue;
    HostsOfInstance& group = groups[{registration.tenant, registration.model, query.lora_name,
                                     candidate.engine->block_size, registration.additional_salt}];
    group[registration.instance_id].insert(candidate.hosts.begin(), candidate.hosts.end());
  }
  return groups;
}

}  // namespace

std::string_view QueryReasonName(QueryReason reason) {
  switch (reason) {
    case QueryReason::kOk:
      return "";
    case QueryReason::kUnknownTenant:
      return "unknown_tenant";
    case QueryReason::kUnknownModel:
      return "unknown_model";
    case QueryReason::kUnknownBlockSize:
      return "unknown_block_size";
  }
  return "";
}

Answer AnswerQuery(const Registry& registry, const Query& query, const std::stop_token& stop) {
  const std::vector<EngineView> engines = registry.Engines();
  Answer answer;
  Explain(engines, query, answer);
  std::map<std::string, InstanceAnswer> rows = Rows(engines, query);
  PoolsBehind behind;
  for (const uint32_t block_size : BlockSizes(engines, query)) {
    if (stop.stop_requested()) break;
    const index::Scope scope{query.tenant, query.model, query.lora_name, block_size,
                             query.additional_salt};
    const index::Matches matches = MatchIn(registry, scope, query.tokens, query.cache_salt, stop);
    for (const index::RankMatch& match : matches.ranks) {
      // A publisher may leave between the two looks: answers list registered instances only.
      const auto row = rows.find(match.rank->instance_id);
      if (row == rows.end()) continue;
      const TierFigures figures = InTokens(match, block_size);
      TakeBest(row->second.ranks[match.rank->dp_rank], figures);
      if (figures.disk > row->second.best.disk) row->second.block_size = block_size;
      TakeBest(row->second.best, figures);
      if (!match.pool.empty()) behind[row->first].emplace(match.pool);
    }
    TakePools(matches.pools, engines, block_size, rows, behind);
  }
  TakeTrust(engines, registry.Engines(), query, rows);
  TakePoolTrust(registry.Pools(), behind, rows);
  for (auto& [instance_id, row] : rows) {
    if (row.block_size != 0) row.prompt_blocks = query.tokens.size() / row.block_size;
    answer.instances.push_back(std::move(row));
  }
  std::ranges::stable_sort(answer.instances, [](const auto& a, const auto& b) {
    return std::tuple(a.best.disk, a.best.cpu, a.best.gpu) >
           std::tuple(b.best.disk, b.best.cpu, b.best.gpu);
  });
  return answer;
}

std::map<std::string, int> AnswerCacheQuery(const Registry& registry, const CacheQuery& query,
                                            const std::stop_token& stop) {
  const std::vector<EngineView> engines = registry.Engines();
  std::map<std::string, int> hits;
  for (const auto& [key, instances] : ByNamespace(CacheCandidates(engines, query), query)) {
    if (stop.stop_requested()) break;
    const uint64_t prompt_blocks = query.tokens.size() / key.block_size;
    const index::Scope scope{key.tenant, key.model, key.lora_name, key.block_size,
                             key.additional_salt};
    const auto take = [&](uint32_t blocks, const std::set<std::string>& hosts) {
      const auto percent = static_cast<int>(uint64_t{blocks} * 100 / prompt_blocks);
      for (const std::string& host : hosts) hits[host] = std::max({hits[host], percent, 1});
    };
    const index::Matches matches = MatchIn(registry, scope, query.tokens, {}, stop);
    for (const index::RankMatch& match : matches.ranks) {
      const auto asked = instances.find(match.rank->instance_id);
      if (asked != instances.end()) take(match.disk, asked->second);
    }
    for (const index::PoolMatch& match : matches.pools) {
      for (const auto& [instance_id, asked_as] : instances) take(match.disk, asked_as);
    }
  }
  return hits;
}

}  // namespace conductor::serve
