#ifndef CONDUCTOR_TESTS_INGEST_INDEX_SUBJECT_H_
#define CONDUCTOR_TESTS_INGEST_INDEX_SUBJECT_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "lib/hash/block_hash.h"
#include "lib/index/prefix_index.h"
#include "lib/ingest/publisher_ingest.h"
#include "lib/ingest/reference_model.h"
#include "lib/wire/kv_event.h"

namespace conductor::ingest {

// PublisherIngest over PrefixIndex, spoken to as the reference model is, so that one test can be
// asked of both.
class IndexSubject {
 public:
  explicit IndexSubject(size_t released_limit = index::PrefixIndex::Options{}.released_limit)
      : index_({.hash_seed = hash::kDefaultSeed, .released_limit = released_limit}) {}

  void AddPublisher(uint32_t id, const PublisherProfile& profile,
                    const IngestLimits& limits = IngestLimits{}) {
    ingests_[id] = std::make_unique<PublisherIngest>(index_, profile, limits, id);
  }
  void RemovePublisher(uint32_t id) { ingests_.erase(id); }
  void Apply(uint32_t id, const wire::EventBatch& batch) { ingests_.at(id)->Apply(batch); }
  void NewLife(uint32_t id) { ingests_.at(id)->NewLife(); }
  void BeginRebuild(uint32_t id) { ingests_.at(id)->BeginRebuild(); }
  void CommitRebuild(uint32_t id) { ingests_.at(id)->CommitRebuild(); }
  void AbandonRebuild(uint32_t id) { ingests_.at(id)->AbandonRebuild(); }

  [[nodiscard]] ReferenceModel::Answer Query(
      const std::function<bool(const index::NamespaceKey&)>& wanted,
      const std::vector<PromptBlock>& prompt) const {
    const uint64_t seed = index_.options().hash_seed;
    ReferenceModel::Answer answer;
    for (const auto& [key, blocks] : index_.Namespaces()) {
      if (!wanted(key)) continue;
      std::optional<PrefixHash> last;
      size_t next = 0;
      index::FunctionSource source([&]() -> std::optional<PrefixHash> {
        if (next == prompt.size()) return std::nullopt;
        const LocalHash local = hash::HashBlock(prompt[next].tokens, prompt[next].extra_keys, seed);
        ++next;
        last = last ? hash::NextPrefix(*last, local, seed) : hash::FirstPrefix(local);
        return last;
      });
      const index::Scope scope{key.tenant, key.model, key.lora_name, key.block_size,
                               key.additional_salt};
      for (const index::RankMatch& match : index_.Match(scope, source).ranks) {
        answer[*match.rank] = {match.gpu, match.cpu, match.disk};
      }
    }
    return answer;
  }

  [[nodiscard]] bool HoldsNothing(uint32_t id) const { return ingests_.at(id)->HoldsNothing(); }
  [[nodiscard]] uint64_t WaitingEvents(uint32_t id) const { return Counters(id).waiting_events; }
  [[nodiscard]] uint32_t BlockSize(uint32_t id) const { return Counters(id).block_size; }
  [[nodiscard]] uint64_t Holdings() const { return index_.Stats().holdings; }

  [[nodiscard]] IngestCounters Counters(uint32_t id) const { return ingests_.at(id)->Counters(); }
  [[nodiscard]] const index::PrefixIndex& index() const { return index_; }

 private:
  index::PrefixIndex index_;
  std::map<uint32_t, std::unique_ptr<PublisherIngest>> ingests_;
};

}  // namespace conductor::ingest

#endif  // CONDUCTOR_TESTS_INGEST_INDEX_SUBJECT_H_
