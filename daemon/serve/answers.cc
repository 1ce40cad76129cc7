#include "daemon/serve/answers.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <functional>
#include <numeric>
#include <optional>
#include <set>
#include <span>
#include <string_view>
#include <tuple>
#include <utility>

#include "daemon/serve/hot_prefixes.h"
#include "daemon/serve/nearest_name.h"
#include "daemon/serve/prompt_chain.h"
#include "lib/base/endpoint.h"
#include "lib/index/prefix_index.h"

namespace conductor::serve {
namespace {

// A thread's own, so that lookups allocate nothing once it has grown.
index::Matches& OwnMatches() {
  thread_local index::Matches matches;
  return matches;
}

void MatchFrom(const Registry& registry, const index::Scope& scope, index::PrefixSource& prompt,
               const index::PrefixIndex::NameSource& names, const QueryBounds& bounds,
               index::Matches& matches) {
  BoundedSource source(prompt, bounds);
  HotPrefixes::Watched watched(registry.hot_prefixes(), source);
  registry.index().Match(scope, watched, {}, names, matches);
  watched.Found(matches);
}

void MatchTokens(const Registry& registry, const index::Scope& scope, const PromptView& prompt,
                 const QueryBounds& bounds, index::Matches& matches) {
  const index::PrefixIndex& index = registry.index();
  PromptChain chain(prompt, scope.block_size, index.options().hash_seed);
  if (!index.HasPoolProfiles()) return MatchFrom(registry, scope, chain, {}, bounds, matches);
  PromptNames names(prompt, scope.block_size, scope.lora_name);
  MatchFrom(
      registry, scope, chain,
      [&names](const hash::HashProfile& profile, size_t block) { return names.At(profile, block); },
      bounds, matches);
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

// What is found for one query, by the places of its tenant in the table.
struct Rows {
  Rows(const EngineTable& table, const EngineTable::Tenant& of, const ModelSizes& model)
      : tenant(of),
        best(of.instances.size()),
        ranks(of.ranks),
        block_size(of.instances.size()),
        serves(of.instances.size()) {
    for (size_t i = 0; i < tenant.instances.size(); ++i) {
      for (const uint32_t engine : tenant.instances[i].engines) {
        const EngineView& view = table.engines()[engine];
        if (view.model != model.id) continue;
        serves[i] = 1;
        block_size[i] = view.block_size;
        if (view.block_size != 0) break;
      }
    }
  }

  // Figures of one rank of an instance.
  void Take(uint32_t instance, uint32_t dp_rank, const TierFigures& figures, uint32_t blocks_of) {
    if (const auto place = tenant.instances[instance].RankPlace(dp_rank)) {
      TakeBest(ranks[*place], figures);
    } else {
      TakeBest(unregistered[{instance, dp_rank}], figures);
    }
    if (figures.disk > best[instance].disk) block_size[instance] = blocks_of;
    TakeBest(best[instance], figures);
  }

  const EngineTable::Tenant& tenant;
  std::vector<TierFigures> best;                                      // by instance
  std::vector<TierFigures> ranks;                                     // by rank
  std::vector<uint32_t> block_size;                                   // by instance
  std::vector<uint8_t> serves;                                        // the model; by instance
  std::map<std::pair<uint32_t, uint32_t>, TierFigures> unregistered;  // by instance and rank
  std::map<std::string, std::set<uint32_t>, std::less<>> pools;       // that raised which instances
};

// What pools have, for every instance that can load it.
void TakePools(const std::vector<index::PoolMatch>& pools, const EngineTable& table,
               uint32_t block_size, Rows& rows) {
  for (const index::PoolMatch& match : pools) {
    const TierFigures figures = InTokens(match, block_size);
    for (uint32_t i = 0; i < rows.tenant.instances.size(); ++i) {
      const EngineTable::Instance& instance = rows.tenant.instances[i];
      for (const uint32_t engine : instance.engines) {
        const EngineView& view = table.engines()[engine];
        if (!Serves(view, *match.name_space)) continue;
        const uint32_t dp_rank = view.registration->dp_rank;
        const TierFigures& own = rows.ranks[*instance.RankPlace(dp_rank)];
        if (figures.cpu > own.cpu || figures.disk > own.disk)
          rows.pools[std::string(match.pool)].insert(i);
        rows.Take(i, dp_rank, figures, block_size);
      }
    }
  }
}

// Where the instance of the match at `position` stands in its tenant; nothing when it is not
// registered. Lookups bring the same instances in the same order mostly, so it is looked for first
// where the one at this position stood the last time.
std::optional<uint32_t> PlaceOf(const EngineTable::Tenant& tenant, const std::string& instance_id,
                                size_t position) {
  constexpr size_t kRemembered = 1024;
  thread_local std::array<uint32_t, kRemembered> last;
  uint32_t& guess = last[position % kRemembered];
  if (guess < tenant.instances.size() && tenant.instances[guess].instance_id == instance_id) {
    return guess;
  }
  const auto found = tenant.by_id.find(instance_id);
  if (found == tenant.by_id.end()) return std::nullopt;
  guess = found->second;
  return guess;
}

// Looks the prompt up with one block size.
void LookUp(const Registry& registry, const EngineTable& table, const Query& query,
            const PromptView& prompt, uint32_t block_size, const QueryBounds& bounds, Rows& rows) {
  const index::Scope scope{query.tenant, query.model, query.lora_name, block_size,
                           query.additional_salt};
  index::Matches& matches = OwnMatches();
  if (query.prefixes.empty()) {
    MatchTokens(registry, scope, prompt, bounds, matches);
  } else {
    index::PrefixList prefixes(query.prefixes);
    MatchFrom(registry, scope, prefixes, {}, bounds, matches);
  }
  for (size_t i = 0; i < matches.ranks.size(); ++i) {
    const index::RankMatch& match = matches.ranks[i];
    // Answers list registered instances only.
    const auto instance = PlaceOf(rows.tenant, match.rank->instance_id, i);
    if (!instance) continue;
    rows.Take(*instance, match.rank->dp_rank, InTokens(match, block_size), block_size);
    if (!match.pool.empty()) rows.pools[std::string(match.pool)].insert(*instance);
  }
  TakePools(matches.pools, table, block_size, rows);
}

// The instances to answer, best first, then those that serve the model, then by name.
std::vector<uint32_t> Ranked(const Rows& rows, const Query& query, uint32_t top) {
  std::vector<uint32_t> order;
  if (query.instances.empty()) {
    order.resize(rows.tenant.instances.size());
    std::iota(order.begin(), order.end(), 0U);
  } else {
    for (const std::string& id : query.instances) {
      const auto known = rows.tenant.by_id.find(id);
      if (known != rows.tenant.by_id.end()) order.push_back(known->second);
    }
  }
  const auto better = [&rows](uint32_t a, uint32_t b) {
    const TierFigures& x = rows.best[a];
    const TierFigures& y = rows.best[b];
    return std::tuple(x.disk, x.cpu, x.gpu, rows.serves[a], b) >
           std::tuple(y.disk, y.cpu, y.gpu, rows.serves[b], a);
  };
  const size_t wanted = top == 0 ? order.size() : std::min<size_t>(top, order.size());
  // Where all or none have all of a prompt they are in order already.
  if (!std::ranges::is_sorted(order, better)) {
    std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(wanted),
                      order.end(), better);
  }
  order.resize(wanted);
  return order;
}

// The worst trust among an instance's publishers: of those of the model where it serves it.
void TakeTrust(const EngineTable& table, const EngineTable::Instance& instance,
               const ModelSizes& model, const InstanceAnswer& row, const stream::Trust*& worst) {
  for (const uint32_t engine : instance.engines) {
    const EngineView& view = table.engines()[engine];
    if (row.serves_model && view.model != model.id) continue;
    if (worst == nullptr || stream::Worse(view.trust, *worst)) worst = &view.trust;
  }
}

InstanceAnswer RowOf(const Rows& rows, const EngineTable& table, const Query& query, uint32_t i) {
  const EngineTable::Instance& instance = rows.tenant.instances[i];
  InstanceAnswer row;
  row.instance_id = instance.instance_id;
  row.best = rows.best[i];
  row.block_size = rows.block_size[i];
  row.serves_model = rows.serves[i] != 0;
  if (row.block_size != 0) row.prompt_blocks = query.Blocks(row.block_size);
  row.ranks.reserve(instance.dp_ranks.size());
  for (size_t r = 0; r < instance.dp_ranks.size(); ++r) {
    row.ranks.emplace_back(instance.dp_ranks[r], rows.ranks[instance.first_rank + r]);
  }
  for (auto at = rows.unregistered.lower_bound({i, 0});
       at != rows.unregistered.end() && at->first.first == i; ++at) {
    row.ranks.emplace_back(at->first.second, at->second);
  }
  if (row.ranks.size() > instance.dp_ranks.size()) {
    std::ranges::sort(row.ranks, {}, [](const auto& rank) { return rank.first; });
  }
  for (const uint32_t engine : instance.engines) {
    const EngineView& view = table.engines()[engine];
    row.lag_seconds = std::max(row.lag_seconds, view.lag_now->load(std::memory_order_relaxed));
  }
  return row;
}

// Of the pools behind an instance's figures the worst counts as well.
void TakePoolTrust(const std::vector<PoolView>& pools, const Rows& rows, uint32_t instance,
                   InstanceAnswer& row) {
  for (const PoolView& pool : pools) {
    const auto raised = rows.pools.find(pool.key);
    if (raised == rows.pools.end() || !raised->second.contains(instance)) continue;
    if (stream::Worse(pool.trust, *row.trust)) row.trust = &pool.trust;
    row.lag_seconds = std::max(row.lag_seconds, pool.lag_seconds);
  }
}

std::string NearestSize(const std::set<uint32_t>& sizes, uint32_t wanted) {
  const auto nearest = std::ranges::min_element(sizes, {}, [wanted](uint32_t size) {
    return std::max(size, wanted) - std::min(size, wanted);
  });
  return nearest == sizes.end() ? std::string() : std::to_string(*nearest);
}

// Names for a message: not all of very many.
template <typename Names>
std::string Listed(const Names& names) {
  constexpr size_t kShown = 16;
  std::vector<std::string> shown;
  for (const auto& name : names) {
    if (shown.size() == kShown) break;
    shown.push_back(fmt::format("{}", name));
  }
  const std::string more =
      names.size() > kShown ? fmt::format(" and {} more", names.size() - kShown) : "";
  return fmt::format("{}{}", fmt::join(shown, ", "), more);
}

// Why there may be nothing to match, and what there is instead. Nothing where what the query names
// is there: then the names of all others are not looked at.
void Explain(const EngineTable& table, const Query& query, const ModelSizes& model,
             Answer& answer) {
  if (model.known) {
    if (!query.block_size || model.unknown || model.sizes.contains(*query.block_size)) return;
    answer.reason = QueryReason::kUnknownBlockSize;
    answer.nearest = NearestSize(model.sizes, *query.block_size);
    answer.reason_detail =
        fmt::format("model '{}' has no engine with blocks of {} tokens; there are: {}", query.model,
                    *query.block_size, Listed(model.sizes));
    return;
  }
  std::set<std::string> tenants;
  std::set<std::string> models;
  for (const EngineView& engine : table.engines()) {
    tenants.insert(engine.registration->tenant);
    if (engine.registration->tenant == query.tenant) models.insert(engine.registration->model);
  }
  if (!tenants.contains(query.tenant)) {
    answer.reason = QueryReason::kUnknownTenant;
    answer.nearest = NearestName(tenants, query.tenant);
    answer.reason_detail = fmt::format("no engine is registered for tenant '{}'; there are: {}",
                                       query.tenant, Listed(tenants));
  } else {
    answer.reason = QueryReason::kUnknownModel;
    answer.nearest = NearestName(models, query.model);
    answer.reason_detail = fmt::format("no engine is registered for model '{}'; there are: {}",
                                       query.model, Listed(models));
  }
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
    case QueryReason::kSeveralBlockSizes:
      return "several_block_sizes";
  }
  return "";
}

Answer AnswerQuery(const Registry& registry, const Query& query, const QueryBounds& bounds,
                   uint32_t top) {
  Answer answer{.table = registry.Table()};
  const std::shared_ptr<const EngineTable>& table = answer.table;
  const ModelSizes& model = table->SizesOf(query.tenant, query.model);
  Explain(*table, query, model, answer);
  const EngineTable::Tenant* const tenant = table->Find(query.tenant);
  for (const std::string& id : query.instances) {
    if (table->Find(query.tenant, id) == nullptr) answer.unknown_instances.push_back(id);
  }
  if (tenant == nullptr) return answer;

  std::set<uint32_t> block_sizes = model.sizes;
  if (query.block_size) block_sizes = {*query.block_size};
  if (block_sizes.size() > 1 && !query.extra_keys.empty()) {
    answer.reason = QueryReason::kSeveralBlockSizes;
    answer.reason_detail =
        fmt::format("model '{}' has engines with blocks of {} tokens: say block_size", query.model,
                    Listed(block_sizes));
    block_sizes.clear();
  }
  const std::vector<hash::ExtraKeys> extra_keys = WithSalt(query.extra_keys, query.cache_salt);
  const PromptView prompt{query.tokens, extra_keys};
  Rows rows(*table, *tenant, model);
  for (const uint32_t block_size : block_sizes) {
    if (bounds.reached()) break;
    if (const uint64_t blocks = query.Blocks(block_size); blocks > bounds.max_blocks) {
      answer.too_many_blocks = blocks;
      break;
    }
    LookUp(registry, *table, query, prompt, block_size, bounds, rows);
  }
  answer.cut_short = answer.too_many_blocks > 0 || bounds.reached();

  // An engine that fell into doubt while the figures were taken is not answered as it was before.
  answer.table_after = registry.Table();
  const std::shared_ptr<const EngineTable>& after = answer.table_after;
  if (!rows.pools.empty()) answer.pools = registry.Pools();
  const std::vector<uint32_t> order = Ranked(rows, query, top);
  answer.instances.reserve(order.size());
  for (const uint32_t instance : order) {
    InstanceAnswer& row = answer.instances.emplace_back(RowOf(rows, *table, query, instance));
    const stream::Trust* worst = nullptr;
    TakeTrust(*table, tenant->instances[instance], model, row, worst);
    if (after != table) {
      const auto* const same = after->Find(query.tenant, row.instance_id);
      if (same != nullptr) {
        TakeTrust(*after, *same, after->SizesOf(query.tenant, query.model), row, worst);
      }
    }
    if (worst != nullptr) row.trust = worst;
    if (!answer.pools.empty()) TakePoolTrust(answer.pools, rows, instance, row);
  }
  return answer;
}

CacheAnswer AnswerCacheQuery(const Registry& registry, const CacheQuery& query,
                             const QueryBounds& bounds) {
  const std::shared_ptr<const EngineTable> table = registry.Table();
  CacheAnswer answer;
  std::map<std::string, int>& hits = answer.hits;
  index::Matches& matches = OwnMatches();
  for (const auto& [key, instances] :
       ByNamespace(CacheCandidates(table->engines(), query), query)) {
    if (bounds.reached()) break;
    const uint64_t prompt_blocks = query.tokens.size() / key.block_size;
    if (prompt_blocks > bounds.max_blocks) {
      answer.too_many_blocks = prompt_blocks;
      break;
    }
    const index::Scope scope{key.tenant, key.model, key.lora_name, key.block_size,
                             key.additional_salt};
    const auto take = [&](uint32_t blocks, const std::set<std::string>& hosts) {
      const auto percent = static_cast<int>(uint64_t{blocks} * 100 / prompt_blocks);
      for (const std::string& host : hosts) hits[host] = std::max({hits[host], percent, 1});
    };
    MatchTokens(registry, scope, PromptView{query.tokens, {}}, bounds, matches);
    for (const index::RankMatch& match : matches.ranks) {
      const auto asked = instances.find(match.rank->instance_id);
      if (asked != instances.end()) take(match.disk, asked->second);
    }
    for (const index::PoolMatch& match : matches.pools) {
      for (const auto& [instance_id, asked_as] : instances) take(match.disk, asked_as);
    }
  }
  answer.cut_short = answer.too_many_blocks > 0 || bounds.reached();
  return answer;
}

}  // namespace conductor::serve
