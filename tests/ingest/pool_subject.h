#ifndef CONDUCTOR_TESTS_INGEST_POOL_SUBJECT_H_
#define CONDUCTOR_TESTS_INGEST_POOL_SUBJECT_H_

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "lib/hash/block_hash.h"
#include "lib/index/prefix_index.h"
#include "lib/ingest/pool_ingest.h"
#include "lib/ingest/publisher_ingest.h"
#include "tests/ingest/pool_model.h"

namespace conductor::ingest {

// PoolIngest and PublisherIngest over one PrefixIndex, spoken to as PoolModel is.
class PoolSubject {
 public:
  using NameSource = index::PrefixIndex::NameSource;

  void AddEngine(uint32_t id, const PublisherProfile& profile) {
    engines_[id] = std::make_unique<PublisherIngest>(index_, profile, IngestLimits{}, id);
  }
  void RemoveEngine(uint32_t id) { engines_.erase(id); }
  void ApplyToEngine(uint32_t id, const wire::EventBatch& batch) { engines_.at(id)->Apply(batch); }
  void NewLifeOfEngine(uint32_t id) { engines_.at(id)->NewLife(); }

  void AddPool(uint32_t id, const PoolProfile& profile, const IngestLimits& limits = {}) {
    pools_[id] = std::make_unique<PoolIngest>(index_, profile, limits);
  }
  void RemovePool(uint32_t id) { pools_.erase(id); }
  void ApplyToPool(uint32_t id, const wire::EventBatch& batch) { pools_.at(id)->Apply(batch); }
  void NewLifeOfPool(uint32_t id) { pools_.at(id)->NewLife(); }
  void BeginListing(uint32_t id) { pools_.at(id)->BeginListing(); }
  void ApplyListing(uint32_t id, std::span<const ListedObject> objects) {
    pools_.at(id)->ApplyListing(objects);
  }
  void AbandonListing(uint32_t id) { pools_.at(id)->AbandonListing(); }
  // Asked for and answered with nothing between.
  void TiersLearnt(uint32_t id, std::span<const ListedObject> objects) {
    (void)pools_.at(id)->AskForTiers(1'000'000);
    pools_.at(id)->TiersLearnt(objects);
  }

  [[nodiscard]] index::Matches Match(const index::NamespaceKey& name_space,
                                     const PoolModel::Tokens& prompt,
                                     const NameSource& names) const {
    const uint64_t seed = index_.options().hash_seed;
    std::optional<PrefixHash> last;
    size_t next = 0;
    index::FunctionSource source([&]() -> std::optional<PrefixHash> {
      if (next + name_space.block_size > prompt.size()) return std::nullopt;
      const LocalHash local = hash::HashBlock(
          std::span<const TokenId>(prompt).subspan(next, name_space.block_size), {}, seed);
      next += name_space.block_size;
      last = last ? hash::NextPrefix(*last, local, seed) : hash::FirstPrefix(local);
      return last;
    });
    return index_.Match({.tenant = name_space.tenant,
                         .model = name_space.model,
                         .lora_name = name_space.lora_name,
                         .block_size = name_space.block_size,
                         .additional_salt = name_space.additional_salt},
                        source, names);
  }

  [[nodiscard]] std::map<std::string, PoolModel::PoolFigures> PoolsOf(
      const index::NamespaceKey& name_space, const PoolModel::Tokens& prompt,
      const NameSource& names) const {
    std::map<std::string, PoolModel::PoolFigures> answer;
    for (const index::PoolMatch& match : Match(name_space, prompt, names).pools) {
      answer[std::string(match.pool)] = {match.cpu, match.disk};
    }
    return answer;
  }

  // As an answer gives it: the rank's own match, and the best of what any pool has.
  [[nodiscard]] PoolModel::Figures FiguresOf(const index::RankKey& rank,
                                             const PoolModel::Tokens& prompt,
                                             const NameSource& names) const {
    PoolModel::Figures figures;
    const index::Matches matches = Match(rank.name_space, prompt, names);
    for (const index::RankMatch& match : matches.ranks) {
      if (*match.rank == rank) figures = {match.gpu, match.cpu, match.disk};
    }
    for (const index::PoolMatch& match : matches.pools) {
      figures.cpu = std::max(figures.cpu, match.cpu);
      figures.disk = std::max(figures.disk, match.disk);
    }
    return figures;
  }

  [[nodiscard]] std::set<std::string> KeysWithoutTier(uint32_t pool) const {
    const auto keys = pools_.at(pool)->KeysWithoutTier(1'000'000);
    return {keys.begin(), keys.end()};
  }
  [[nodiscard]] const PoolIngest& pool(uint32_t id) const { return *pools_.at(id); }
  [[nodiscard]] PoolIngest& pool(uint32_t id) { return *pools_.at(id); }
  [[nodiscard]] const index::PrefixIndex& index() const { return index_; }

 private:
  index::PrefixIndex index_{index::PrefixIndex::Options{}};
  std::map<uint32_t, std::unique_ptr<PublisherIngest>> engines_;
  std::map<uint32_t, std::unique_ptr<PoolIngest>> pools_;
};

}  // namespace conductor::ingest

#endif  // CONDUCTOR_TESTS_INGEST_POOL_SUBJECT_H_
