// PrefixIndex: a prompt's way through.

#include "lib/index/prefix_index_impl.h"

#include <shared_mutex>
#include <tuple>

namespace conductor::index {
namespace {

// What a rank holds of one block of a prompt, over all its holders. A bit per tier.
struct TierBits {
  uint8_t any = 0;      // held, if only as an inner part of a span
  uint8_t covered = 0;  // part of a span that ends in the prompt
};

constexpr uint8_t Bit(Tier tier) { return static_cast<uint8_t>(1u << static_cast<unsigned>(tier)); }

// The first block from `from` on that none of `tiers` covers. A covered block's whole span is
// covered, so this never ends inside one.
uint32_t Extend(const std::vector<TierBits>& bits, uint32_t from, uint8_t tiers) {
  while (from < bits.size() && (bits[from].covered & tiers) != 0) ++from;
  return from;
}

}  // namespace

void PrefixIndex::Impl::MatchNamespace(
    const Namespace& name_space, const std::function<std::optional<PrefixHash>(size_t)>& prefix_at,
    std::vector<RankMatch>& matches) const {
  std::vector<std::vector<TierBits>> held(name_space.groups.size());
  for (size_t i = 0;; ++i) {
    const auto prefix = prefix_at(i);
    if (!prefix) break;
    const auto found = name_space.blocks.find(*prefix);
    if (found == name_space.blocks.end()) break;
    bool alive = false;
    for (const Holding& holding : found->second->holdings) {
      const Holder& holder = holders.at(holding.holder);
      std::vector<TierBits>& bits = held[holder.group->ordinal];
      if (!holder.visible || bits.size() < i) continue;
      if (bits.size() == i) bits.emplace_back();
      bits[i].any |= Bit(holding.tier);
      for (uint32_t k = 0; k < holding.span; ++k) bits[i - k].covered |= Bit(holding.tier);
      alive = true;
    }
    if (!alive) break;
  }
  for (const auto& group : name_space.groups) {
    const std::vector<TierBits>& bits = held[group->ordinal];
    RankMatch match{group->rank};
    match.gpu = Extend(bits, 0, Bit(Tier::kGpu));
    match.cpu = Extend(bits, match.gpu, Bit(Tier::kCpu));
    match.disk = Extend(bits, match.cpu, Bit(Tier::kCpu) | Bit(Tier::kDisk));
    if (match.disk > 0) matches.push_back(std::move(match));
  }
}

std::vector<RankMatch> PrefixIndex::Match(const Scope& scope, const PrefixSource& source) const {
  std::vector<RankMatch> matches;
  std::vector<PrefixHash> prompt;  // as far as any namespace has asked
  bool ended = false;
  const auto prefix_at = [&](size_t i) -> std::optional<PrefixHash> {
    while (prompt.size() <= i && !ended) {
      if (const auto next = source()) {
        prompt.push_back(*next);
      } else {
        ended = true;
      }
    }
    if (i >= prompt.size()) return std::nullopt;
    return prompt[i];
  };
  const std::shared_lock<FairSharedMutex> lock(impl_->mutex);
  // The map is in order of the fields, the salt last.
  auto found = impl_->namespaces.lower_bound(
      NamespaceKey{.tenant = std::string(scope.tenant),
                   .model = std::string(scope.model),
                   .lora_name = std::string(scope.lora_name),
                   .block_size = scope.block_size,
                   .additional_salt = std::string(scope.additional_salt.value_or(""))});
  for (; found != impl_->namespaces.end(); ++found) {
    const auto& [key, name_space] = *found;
    if (std::tie(key.tenant, key.model, key.lora_name, key.block_size) !=
        std::tie(scope.tenant, scope.model, scope.lora_name, scope.block_size)) {
      break;
    }
    if (scope.additional_salt && key.additional_salt != *scope.additional_salt) break;
    impl_->MatchNamespace(*name_space, prefix_at, matches);
  }
  return matches;
}

}  // namespace conductor::index
