#include "daemon/serve/explain_pools.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "daemon/serve/explain_verdicts.h"
#include "lib/hash/hash_profile.h"

namespace conductor::serve {
namespace {

using hash::HashAlgorithm;
using hash::HashProfile;

// A chain behind so many blocks is not hashed once for each profile that might be meant.
constexpr uint64_t kMostTriedBlocks = 256;

Verdict Make(ExplainCause cause, std::string detail) {
  Verdict verdict;
  verdict.cause = cause;
  verdict.detail = std::move(detail);
  return verdict;
}

template <typename T>
void AddNew(std::vector<T>& values, T value) {
  if (std::ranges::find(values, value) == values.end()) values.push_back(std::move(value));
}

bool IsOfModel(const Registration& registration, const index::NamespaceKey& name_space) {
  return registration.tenant == name_space.tenant && registration.model == name_space.model;
}

// Those that engines of the model may hash with, the pool's own left out. What differs least from
// it stands first.
std::vector<HashProfile> Candidates(const PoolEvidence& at) {
  const auto& own = at.pool.registration.hash_profile;
  std::vector<HashProfile> known;
  for (const PublisherStatus& other : at.publishers) {
    if (!IsOfModel(other.registration, at.name_space)) continue;
    if (other.registration.hash_profile) AddNew(known, *other.registration.hash_profile);
    if (other.ingest.hash_fit) AddNew(known, *other.ingest.hash_fit);
  }
  std::vector<HashAlgorithm> algorithms = {HashAlgorithm::kSha256, HashAlgorithm::kSha256Cbor,
                                           HashAlgorithm::kXxhash, HashAlgorithm::kXxhashCbor};
  std::vector<std::string> seeds = {HashProfile{}.seed, "0", "random", "42"};
  std::vector<uint32_t> sizes = {0};
  for (const HashProfile& profile : known) {
    AddNew(seeds, profile.seed);
    AddNew(sizes, profile.hash_block_size);
  }
  for (const HashAlgorithm algorithm : algorithms) {
    for (const std::string& seed : seeds) {
      for (const uint32_t size : sizes) AddNew(known, HashProfile{algorithm, seed, size});
    }
  }
  if (!own) return known;
  std::erase(known, *own);
  const auto differences = [&own](const HashProfile& profile) {
    return int{profile.algorithm != own->algorithm} + int{profile.seed != own->seed} +
           int{profile.hash_block_size != own->hash_block_size};
  };
  std::ranges::stable_sort(known, {}, differences);
  return known;
}

// The profile under which the pool has the block.
std::optional<HashProfile> FindProfile(const PoolEvidence& at) {
  if (at.block >= kMostTriedBlocks) return std::nullopt;
  const index::PoolDomain domain{at.name_space.tenant, at.name_space.model,
                                 at.name_space.additional_salt};
  PromptNames names(at.prompt, at.name_space.block_size, at.name_space.lora_name);
  const std::string key = at.pool.registration.Key();
  for (const HashProfile& profile : Candidates(at)) {
    const auto name = names.At(profile, at.block);
    if (!name) continue;
    const auto pools = at.index.PoolsWith(domain, {0, *name});
    if (std::ranges::find(pools, key) != pools.end()) return profile;
  }
  return std::nullopt;
}

Verdict WrongProfile(const PoolEvidence& at, const HashProfile& fits) {
  const auto& own = at.pool.registration.hash_profile;
  const std::string has =
      fmt::format("{} has block {} under {}, seed '{}'", at.pool.registration.Key(), at.block,
                  hash::HashAlgorithmName(fits.algorithm), fits.seed);
  if (!own) {
    return Make(ExplainCause::kHashProfile,
                has + "; without a hash_profile what no engine has announced cannot be found")
        .WithField(FieldOf::kRegistration, "hash_profile.algorithm",
                   std::string(hash::HashAlgorithmName(fits.algorithm)));
  }
  Verdict verdict = Make(ExplainCause::kHashProfile,
                         fmt::format("{}; its hash_profile says {}, seed '{}'", has,
                                     hash::HashAlgorithmName(own->algorithm), own->seed));
  if (fits.algorithm != own->algorithm) {
    return std::move(verdict).WithField(FieldOf::kRegistration, "hash_profile.algorithm",
                                        std::string(hash::HashAlgorithmName(fits.algorithm)));
  }
  if (fits.seed != own->seed) {
    return std::move(verdict).WithField(FieldOf::kRegistration, "hash_profile.python_hash_seed",
                                        fits.seed);
  }
  return std::move(verdict).WithField(FieldOf::kRegistration, "hash_profile.hash_block_size",
                                      uint64_t{fits.hash_block_size});
}

// The count of components that the pool was registered with and that is the likeliest to be wrong.
std::string PartsField(const PoolRegistration& pool) {
  if (pool.tp_size) return "tp_size";
  if (pool.layers) return "layers";
  if (pool.pp_size) return "pp_size";
  return "tp_size";
}

}  // namespace

Verdict JudgePool(const PoolEvidence& at) {
  if (at.block >= at.prompt_blocks) {
    return Make(ExplainCause::kEndOfPrompt,
                fmt::format("all {} whole blocks of the prompt are there", at.prompt_blocks));
  }
  if (auto connecting = JudgeConnecting(at.pool)) return std::move(*connecting);
  if (!at.prompt.tokens.empty()) {
    if (const auto fits = FindProfile(at)) return WrongProfile(at, *fits);
  }
  if (auto stale = JudgeStale(at.pool)) return std::move(*stale);
  const Registration& registration = at.pool.registration;
  const ingest::IngestCounters& ingest = at.pool.ingest;
  if (ingest.partial_blocks > 0) {
    return Make(ExplainCause::kPoolIncomplete,
                fmt::format("of {} blocks some parts are there and others are not; {} are whole. A "
                            "block counts only while each tensor-parallel rank's, pipeline "
                            "stage's and layer's part is there",
                            ingest.partial_blocks, ingest.pool_blocks))
        .WithField(FieldOf::kRegistration, PartsField(registration.pool));
  }
  if (ingest.objects_foreign > 0 && ingest.objects == 0) {
    return Make(ExplainCause::kOtherNamespace,
                fmt::format("{} objects are of models that the registration does not name: {}",
                            ingest.objects_foreign, at.pool.trust.detail))
        .WithField(FieldOf::kRegistration, "key_models");
  }
  if (auto degraded = JudgeDegraded(at.pool)) return std::move(*degraded);
  if (ingest.detached_blocks > 0 && !registration.hash_profile) {
    return Make(ExplainCause::kHashProfile,
                fmt::format("{} blocks have names that no engine has announced: without a "
                            "hash_profile they cannot be found",
                            ingest.detached_blocks))
        .WithField(FieldOf::kRegistration, "hash_profile");
  }
  std::string detail = fmt::format("nothing tells that it has block {}", at.block);
  if (ingest.detached_blocks > 0) {
    detail += fmt::format(
        "; {} of its blocks have names that no engine has announced: is python_hash_seed of its "
        "hash_profile the engines' PYTHONHASHSEED?",
        ingest.detached_blocks);
  }
  return Make(ExplainCause::kNeverStored, std::move(detail));
}

}  // namespace conductor::serve
