#ifndef CONDUCTOR_LIB_INGEST_BLOCK_SHAPE_H_
#define CONDUCTOR_LIB_INGEST_BLOCK_SHAPE_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "lib/wire/object_key.h"

namespace conductor::ingest {

// One component of a block, packed: its ranks, layer and part.
enum class ComponentId : uint64_t {};

// How many components a block has in one family of a pool's keys: declared, or learnt from the
// greatest ranks seen.
class BlockShape {
 public:
  // Sizes that were declared; nothing: to be learnt.
  struct Declared {
    std::optional<uint32_t> tensor_ranks;
    std::optional<uint32_t> pipeline_ranks;
    std::optional<uint32_t> layers;
  };

  // What was learnt from objects, for a file. Dimensions in the order tensor, pipeline, prefill
  // context, decode context, layer.
  struct Learnt {
    std::array<std::optional<uint32_t>, 5>
        seen;                              // the greatest rank, plus one; nothing: no key has it
    std::optional<uint32_t> tensor_ranks;  // that a key said
    bool k = false;
    bool v = false;
    uint64_t unchanged = 0;  // objects since a size grew

    friend bool operator==(const Learnt&, const Learnt&) = default;
  };

  // Ranks of a kind, or layers, at most; a greater one is no rank.
  static constexpr uint32_t kMostRanks = 4096;
  static constexpr int kRankBits = 12;

  explicit BlockShape(const Declared& declared) {
    dimensions_[kTensor].declared = declared.tensor_ranks;
    dimensions_[kPipeline].declared = declared.pipeline_ranks;
    dimensions_[kLayer].declared = declared.layers;
  }

  // Whether the key's ranks can be true. One that says itself how many there are (LMCache's world)
  // is one of them: there are some.
  [[nodiscard]] static bool Fits(const wire::ObjectKey& key) {
    const uint32_t told = key.tp_size.value_or(1);
    return told >= 1 && told <= kMostRanks &&
           std::ranges::all_of(RanksOf(key),
                               [](const auto& rank) { return rank.value_or(0) < kMostRanks; });
  }

  // Requires Fits(key).
  [[nodiscard]] static ComponentId Component(const wire::ObjectKey& key) {
    uint64_t id = static_cast<uint64_t>(key.part);
    for (const auto& rank : RanksOf(key)) id = id << kRankBits | rank.value_or(0);
    return ComponentId{id};
  }

  // Takes notice of an object. True when blocks have more components now than before.
  bool Learn(const wire::ObjectKey& key) {
    const uint64_t before = required();
    const auto ranks = RanksOf(key);
    for (size_t i = 0; i < kDimensions; ++i) {
      if (!ranks[i]) continue;
      dimensions_[i].present = true;
      dimensions_[i].seen = std::max(dimensions_[i].seen, *ranks[i] + 1);
    }
    if (key.tp_size && !dimensions_[kTensor].declared) dimensions_[kTensor].declared = key.tp_size;
    seen_k_ |= key.part == wire::ObjectKey::Part::kK;
    seen_v_ |= key.part == wire::ObjectKey::Part::kV;
    const bool grown = required() > before;
    unchanged_ = grown ? 0 : unchanged_ + 1;
    return grown;
  }

  [[nodiscard]] Learnt learnt() const {
    Learnt learnt{.tensor_ranks = dimensions_[kTensor].declared,
                  .k = seen_k_,
                  .v = seen_v_,
                  .unchanged = unchanged_};
    for (size_t i = 0; i < kDimensions; ++i) {
      if (dimensions_[i].present) learnt.seen[i] = dimensions_[i].seen;
    }
    return learnt;
  }
  // Whether an object of what was learnt can be that component.
  [[nodiscard]] static bool Has(const Learnt& learnt, ComponentId component) {
    auto id = static_cast<uint64_t>(component);
    for (size_t i = kDimensions; i-- > 0; id >>= kRankBits) {
      if ((id & (kMostRanks - 1)) >= learnt.seen[i].value_or(1)) return false;
    }
    switch (id) {
      case static_cast<uint64_t>(wire::ObjectKey::Part::kWhole):
        return true;
      case static_cast<uint64_t>(wire::ObjectKey::Part::kK):
        return learnt.k;
      case static_cast<uint64_t>(wire::ObjectKey::Part::kV):
        return learnt.v;
      default:
        return false;
    }
  }

  // As if the objects that it is of had come again.
  void Restore(const Learnt& learnt) {
    for (size_t i = 0; i < kDimensions; ++i) {
      if (!learnt.seen[i]) continue;
      dimensions_[i].present = true;
      dimensions_[i].seen = std::max(dimensions_[i].seen, *learnt.seen[i]);
    }
    if (!dimensions_[kTensor].declared) dimensions_[kTensor].declared = learnt.tensor_ranks;
    seen_k_ |= learnt.k;
    seen_v_ |= learnt.v;
    unchanged_ = learnt.unchanged;
  }

  // Components of a block.
  [[nodiscard]] uint64_t required() const {
    constexpr uint64_t kMost = uint64_t{1} << 62;  // nobody has as many
    uint64_t product = seen_v_ ? 2 : 1;
    for (const Dimension& dimension : dimensions_) {
      product = product > kMost / dimension.size() ? kMost : product * dimension.size();
    }
    return product;
  }

  // Whether a size is only what was seen so far, for fewer than `enough` objects without another.
  [[nodiscard]] bool unsettled(uint64_t enough) const {
    return unchanged_ < enough && !Guesses().empty();
  }

  // What was not declared and is only learnt, by the names of the registration's fields:
  // "tp_size", "pp_size, layers"; empty: nothing.
  [[nodiscard]] std::string Guesses() const {
    std::string names;
    const auto add = [&names](const char* name) {
      if (!names.empty()) names += ", ";
      names += name;
    };
    if (dimensions_[kTensor].guessed()) add("tp_size");
    if (dimensions_[kPipeline].guessed()) add("pp_size");
    if (dimensions_[kLayer].guessed()) add("layers");
    for (const size_t context : {kPrefillContext, kDecodeContext}) {
      if (dimensions_[context].seen > 1) add("context-parallel ranks");
    }
    if (seen_k_ && !seen_v_) add("whether there are v objects beside the k ones");
    return names;
  }

 private:
  static constexpr size_t kTensor = 0;
  static constexpr size_t kPipeline = 1;
  static constexpr size_t kPrefillContext = 2;
  static constexpr size_t kDecodeContext = 3;
  static constexpr size_t kLayer = 4;
  static constexpr size_t kDimensions = 5;

  struct Dimension {
    std::optional<uint32_t> declared;
    uint32_t seen = 0;  // the greatest rank, plus one
    bool present = false;

    [[nodiscard]] uint32_t size() const {
      if (!present) return 1;
      return std::max({declared.value_or(1), seen, uint32_t{1}});
    }
    [[nodiscard]] bool guessed() const { return present && !declared; }
  };

  [[nodiscard]] static std::array<std::optional<uint32_t>, kDimensions> RanksOf(
      const wire::ObjectKey& key) {
    return {key.tp_rank, key.pp_rank, key.pcp_rank, key.dcp_rank, key.layer};
  }

  std::array<Dimension, kDimensions> dimensions_;
  bool seen_k_ = false;
  bool seen_v_ = false;
  uint64_t unchanged_ = 0;  // objects since a size grew
};

}  // namespace conductor::ingest

#endif  // CONDUCTOR_LIB_INGEST_BLOCK_SHAPE_H_
