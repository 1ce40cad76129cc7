#include "daemon/serve/answers.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <optional>
#include <set>
#include <span>
#include <string_view>
#include <tuple>
#include <utility>

#include "lib/base/endpoint.h"
#include "lib/index/prefix_index.h"

namespace conductor::serve {
namespace {

// The prefix hashes of a prompt's whole blocks, computed as they are asked for.
class PromptChain {
 public:
  // `tokens` must outlive it; block_size > 0.
  PromptChain(std::span<const TokenId> tokens, uint32_t block_size, const std::string& cache_salt,
              uint64_t hash_seed)
      : tokens_(tokens), block_size_(block_size), hash_seed_(hash_seed) {
    if (!cache_salt.empty()) first_keys_.push_back(hash::TextKey(cache_salt));
  }

  [[nodiscard]] std::optional<PrefixHash> Next() {
    if (tokens_.size() < block_size_) return std::nullopt;
    const auto block = tokens_.first(block_size_);
    tokens_ = tokens_.subspan(block_size_);
    if (previous_) {
      previous_ = hash::NextPrefix(*previous_, hash::HashBlock(block, {}, hash_seed_), hash_seed_);
    } else {
      previous_ = hash::FirstPrefix(hash::HashBlock(block, first_keys_, hash_seed_));
    }
    return previous_;
  }

 private:
  std::span<const TokenId> tokens_;
  uint32_t block_size_;
  uint64_t hash_seed_;
  hash::ExtraKeys first_keys_;
  std::optional<PrefixHash> previous_;
};

// The namespaces that a prompt is looked up in.
struct Scope {
  std::string_view tenant;
  std::string_view model;
  std::string_view lora_name;
  std::optional<std::string_view> additional_salt;  // nothing: any
};

std::vector<index::RankMatch> MatchAt(const index::PrefixIndex& index, const Scope& scope,
                                      uint32_t block_size, std::span<const TokenId> tokens,
                                      const std::string& cache_salt) {
  PromptChain chain(tokens, block_size, cache_salt, index.options().hash_seed);
  return index.Match(
      [&](const index::NamespaceKey& key) {
        return key.tenant == scope.tenant && key.model == scope.model &&
               key.lora_name == scope.lora_name && key.block_size == block_size &&
               (!scope.additional_salt || key.additional_salt == *scope.additional_salt);
      },
      [&] { return chain.Next(); });
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

bool IsCandidate(const Query& query, const std::string& instance_id) {
  return query.instances.empty() ||
         std::ranges::find(query.instances, instance_id) != query.instances.end();
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
    auto [row, added] = rows.try_emplace(registration.instance_id);
    InstanceAnswer& answer = row->second;
    answer.instance_id = registration.instance_id;
    answer.ranks.try_emplace(registration.dp_rank);
    if (added || stream::Worse(engine.trust, answer.trust)) answer.trust = engine.trust;
    answer.lag_seconds = std::max(answer.lag_seconds, engine.lag_seconds);
    if (registration.model == query.model && answer.block_size == 0) {
      answer.block_size = engine.block_size;
    }
  }
  return rows;
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

Answer AnswerQuery(const Registry& registry, const Query& query) {
  const std::vector<EngineView> engines = registry.Engines();
  Answer answer;
  Explain(engines, query, answer);
  std::map<std::string, InstanceAnswer> rows = Rows(engines, query);
  const Scope scope{query.tenant, query.model, query.lora_name, query.additional_salt};
  for (const uint32_t block_size : BlockSizes(engines, query)) {
    for (const index::RankMatch& match :
         MatchAt(registry.index(), scope, block_size, query.tokens, query.cache_salt)) {
      // A publisher may leave between the two looks: answers list registered instances only.
      const auto row = rows.find(match.rank->instance_id);
      if (row == rows.end()) continue;
      const TierFigures figures = InTokens(match, block_size);
      TakeBest(row->second.ranks[match.rank->dp_rank], figures);
      if (figures.disk > row->second.best.disk) row->second.block_size = block_size;
      TakeBest(row->second.best, figures);
    }
  }
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

std::map<std::string, int> AnswerCacheQuery(const Registry& registry, const CacheQuery& query) {
  struct Candidate {
    EngineView engine;
    std::string host;
  };
  std::vector<Candidate> candidates;
  bool model_known = false;
  for (EngineView& engine : registry.Engines()) {
    const auto endpoint = Endpoint::Parse(engine.registration->endpoint);
    for (const std::string& host : query.hosts) {
      const bool same_host = endpoint && endpoint->host == host;
      if (!same_host && engine.registration->instance_id != host) continue;
      model_known |= engine.registration->model == query.model;
      candidates.push_back(Candidate{engine, host});
    }
  }
  std::map<std::string, int> hits;
  for (const auto& [engine, host] : candidates) {
    const Registration& registration = *engine.registration;
    if (model_known && registration.model != query.model) continue;
    if (engine.block_size == 0) continue;
    const uint64_t prompt_blocks = query.tokens.size() / engine.block_size;
    const Scope scope{registration.tenant, registration.model, query.lora_name,
                      registration.additional_salt};
    for (const index::RankMatch& match :
         MatchAt(registry.index(), scope, engine.block_size, query.tokens, {})) {
      if (match.rank->instance_id != registration.instance_id) continue;
      const auto percent = static_cast<int>(uint64_t{match.disk} * 100 / prompt_blocks);
      hits[host] = std::max({hits[host], percent, 1});
    }
  }
  return hits;
}

}  // namespace conductor::serve
