#ifndef CONDUCTOR_DAEMON_TOOLKIT_REBUILD_CHECK_H_
#define CONDUCTOR_DAEMON_TOOLKIT_REBUILD_CHECK_H_

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/toolkit/rebuild.h"
#include "lib/index/prefix_index.h"
#include "lib/ingest/reference_model.h"

namespace conductor::toolkit {

// What is compared with the model: an index, or in tests one that is made to be wrong.
class CheckedIndex {
 public:
  virtual ~CheckedIndex() = default;

  // A prompt by the hashes of its blocks, from the first on. Of engines' ranks, as the index has
  // them: without what pools add.
  [[nodiscard]] virtual ingest::ReferenceModel::Answer Match(
      const index::NamespaceKey& name_space, const std::vector<PrefixHash>& chain) const = 0;
  // Who holds the last block of the chain.
  [[nodiscard]] virtual ingest::ReferenceModel::Holders HoldersOf(
      const index::NamespaceKey& name_space, const std::vector<PrefixHash>& chain) const = 0;
  // (block, holder, tier), over all.
  [[nodiscard]] virtual uint64_t Holdings() const = 0;
};

// The index itself.
class PlainIndex : public CheckedIndex {
 public:
  explicit PlainIndex(const index::PrefixIndex& index) : index_(index) {}

  [[nodiscard]] ingest::ReferenceModel::Answer Match(
      const index::NamespaceKey& name_space, const std::vector<PrefixHash>& chain) const override;
  [[nodiscard]] ingest::ReferenceModel::Holders HoldersOf(
      const index::NamespaceKey& name_space, const std::vector<PrefixHash>& chain) const override;
  [[nodiscard]] uint64_t Holdings() const override;

 private:
  const index::PrefixIndex& index_;
};

// Compares an index with the reference model, after each batch of a rebuild and at its end.
//
// After a batch: who matches how much of the prompts that it named, who holds the blocks that it
// named (kMostLooks of them, the rest at the end) and how much is held in all. At the end: every
// block that anybody holds by the model, and every prompt that ends with one.
//
// The model knows no pools, no envelopes of RFC 1527 and no hashes of the standard recipe. A
// publisher that sends such is left out, with all others of its instance; Notes() says so.
class RebuildCheck : public RebuildObserver {
 public:
  static constexpr size_t kMostLooks = 256;  // blocks of one batch

  struct Difference {
    std::string where;     // publisher, sequence, and the event that made it
    std::string what;      // block or prompt
    std::string expected;  // the model's
    std::string actual;    // the index's
    // Four lines for people.
    [[nodiscard]] std::string Describe() const;
  };

  // `index` must outlive it. `hash_seed` is the index's.
  RebuildCheck(const CheckedIndex& index, uint64_t hash_seed) : index_(index), seed_(hash_seed) {}

  void Begin(uint32_t number, const SourcePublisher& publisher) override;
  void Before(uint32_t number, stream::Sequence sequence, const wire::EventBatch& batch) override;
  void After(uint32_t number, stream::Sequence sequence, const wire::EventBatch& batch) override;
  void NewLife(uint32_t number) override;
  // All of it.
  void Finish();

  // The first one; after it nothing is compared any more.
  [[nodiscard]] const std::optional<Difference>& difference() const { return difference_; }
  [[nodiscard]] uint64_t batches() const { return batches_; }    // compared
  [[nodiscard]] uint64_t compared() const { return compared_; }  // figures and blocks
  [[nodiscard]] std::vector<std::string> Notes() const;

 private:
  using Block = ingest::ReferenceModel::Block;
  // Which event of the batch named a block last.
  using Touched = std::map<Block, size_t>;

  struct Engine {
    std::string name;
    std::string instance;
  };

  void Touch(uint32_t number, const wire::EventBatch& batch);
  void Touch(uint32_t number, const wire::CacheGroup& group, EngineHash name, size_t event);
  void CompareTouched(uint32_t number, stream::Sequence sequence, const wire::EventBatch& batch);
  [[nodiscard]] bool CompareMatch(Block block);
  [[nodiscard]] bool CompareHolders(Block block);
  [[nodiscard]] bool CompareHoldings();
  [[nodiscard]] bool LeftOut(const index::RankKey& rank) const;
  void Differ(std::string what, std::string expected, std::string actual);
  // The hashes of the prompt that ends with the block.
  [[nodiscard]] std::vector<PrefixHash> HashesOf(const std::vector<Block>& chain);
  [[nodiscard]] std::string Describe(Block block);

  const CheckedIndex& index_;
  const uint64_t seed_;
  ingest::ReferenceModel model_{index::PrefixIndex::Options{}.released_limit};
  std::map<uint32_t, Engine> engines_;           // those that the model has
  std::map<std::string, std::string> left_out_;  // instances, and why
  std::set<std::string> pools_;
  std::vector<std::optional<PrefixHash>> hashes_;  // by block
  Touched touched_;
  std::optional<Difference> difference_;
  uint64_t batches_ = 0;
  uint64_t compared_ = 0;
};

}  // namespace conductor::toolkit

#endif  // CONDUCTOR_DAEMON_TOOLKIT_REBUILD_CHECK_H_
