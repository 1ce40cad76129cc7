// PrefixIndex: a prompt's way through.

#include "lib/index/prefix_index_impl.h"

#include <algorithm>
#include <shared_mutex>
#include <tuple>

namespace conductor::index {
namespace {

// The tiers on which a rank or a pool holds one block of a prompt, as part of a span that ends in
// the prompt. A bit per tier.
using TierBits = uint8_t;

constexpr uint8_t Bit(Tier tier) { return static_cast<uint8_t>(1u << static_cast<unsigned>(tier)); }

// The first block from `from` on that none of `tiers` covers. A covered block's whole span is
// covered, so this never ends inside one.
uint32_t Extend(const std::vector<TierBits>& bits, uint32_t from, uint8_t tiers) {
  while (from < bits.size() && (bits[from] & tiers) != 0) ++from;
  return from;
}

// What one walk along a prompt finds of a rank or a pool, block by block.
class Walk {
 public:
  // `gaps`: blocks that are not held may stand between those that are, because others fill them.
  explicit Walk(bool gaps) : gaps_(gaps) {}

  // The holding counts for block `i`. False when the run of blocks ended before it.
  bool Add(size_t i, Tier tier, uint32_t span) {
    if (bits_.size() < i && !gaps_) return false;
    if (bits_.size() <= i) bits_.resize(i + 1);
    for (uint32_t k = 0; k < span; ++k) bits_[i - k] |= Bit(tier);
    return true;
  }

  [[nodiscard]] const std::vector<TierBits>& bits() const { return bits_; }

 private:
  bool gaps_;
  std::vector<TierBits> bits_;
};

// Both together.
std::vector<TierBits> Union(const std::vector<TierBits>& a, const std::vector<TierBits>& b) {
  std::vector<TierBits> both = a.size() < b.size() ? b : a;
  const std::vector<TierBits>& shorter = a.size() < b.size() ? a : b;
  for (size_t i = 0; i < shorter.size(); ++i) both[i] |= shorter[i];
  return both;
}

void Best(const MatchOptions& options, Matches& matches) {
  if (options.top == 0) return;
  std::ranges::sort(matches.ranks, [](const RankMatch& a, const RankMatch& b) {
    return std::tie(a.disk, a.cpu, a.gpu) > std::tie(b.disk, b.cpu, b.gpu);
  });
  if (matches.ranks.size() > options.top) matches.ranks.resize(options.top);
}

}  // namespace

// A prompt as far as any namespace has asked for it.
struct PrefixIndex::Impl::Prompt {
  // Both in terms of block numbers; nothing behind the prompt's end.
  std::function<std::optional<PrefixHash>(size_t)> prefix_at;
  NameSource name_at;  // empty: nobody gives names
};

void PrefixIndex::Impl::MatchNamespace(const NamespaceKey& key, const Namespace* name_space,
                                       const Domain* domain, const Prompt& prompt,
                                       Matches& matches) const {
  const std::vector<PoolId> no_pools;
  const std::vector<PoolId>& pool_ids = domain != nullptr ? domain->pools : no_pools;
  std::vector<const Pool*> of_domain;
  bool gaps = false;
  for (const PoolId id : pool_ids) {
    of_domain.push_back(&pools.at(id));
    gaps |= of_domain.back()->lookup == PoolLookup::kContinue;
  }
  std::vector<Walk> of_rank(name_space != nullptr ? name_space->groups.size() : 0, Walk(gaps));
  std::vector<Walk> of_pool(of_domain.size(), Walk(gaps));
  for (size_t i = 0;; ++i) {
    const auto prefix = prompt.prefix_at(i);
    if (!prefix) break;
    bool alive = false;
    const Block* block = nullptr;
    if (name_space != nullptr) {
      const auto found = name_space->blocks.find(*prefix);
      if (found != name_space->blocks.end()) block = found->second.get();
    }
    if (block != nullptr) {
      for (const Holding& holding : block->holdings) {
        const Holder& holder = holders.at(holding.holder);
        if (!holder.visible) continue;
        Walk* walk = nullptr;
        if (holder.group != nullptr) {
          walk = &of_rank[holder.group->ordinal];
        } else {
          const auto at = std::ranges::find(pool_ids, *holder.pool);
          walk = &of_pool[static_cast<size_t>(at - pool_ids.begin())];
        }
        alive |= walk->Add(i, holding.tier, holding.span);
      }
    }
    for (size_t p = 0; p < of_domain.size() && prompt.name_at; ++p) {
      if (!of_domain[p]->profile) continue;
      const auto name = prompt.name_at(*of_domain[p]->profile, i);
      if (!name) continue;
      const auto entry = domain->names.find(PoolName{0, *name});
      if (entry == domain->names.end()) continue;
      const auto claim = std::ranges::find(entry->second.claims, pool_ids[p], &Claim::pool);
      if (claim != entry->second.claims.end()) alive |= of_pool[p].Add(i, claim->tier, 1);
    }
    if (!alive) break;
  }
  const auto on_host = Bit(Tier::kCpu);
  const auto below_device = static_cast<uint8_t>(Bit(Tier::kCpu) | Bit(Tier::kDisk));
  for (size_t g = 0; g < of_rank.size(); ++g) {
    const std::vector<TierBits>& bits = of_rank[g].bits();
    RankMatch match{.rank = name_space->groups[g]->rank.get()};
    match.gpu = Extend(bits, 0, Bit(Tier::kGpu));
    match.cpu = Extend(bits, match.gpu, on_host);
    match.disk = Extend(bits, match.cpu, below_device);
    for (size_t p = 0; p < of_domain.size(); ++p) {
      if (of_domain[p]->lookup != PoolLookup::kContinue) continue;
      const auto both = Union(bits, of_pool[p].bits());
      const uint32_t cpu = Extend(both, match.gpu, on_host);
      const uint32_t disk = Extend(both, cpu, below_device);
      if (cpu > match.cpu || disk > match.disk) match.pool = of_domain[p]->name;
      match.cpu = std::max(match.cpu, cpu);
      match.disk = std::max(match.disk, disk);
    }
    if (match.disk == 0) continue;
    matches.memory_->ranks.push_back(name_space->groups[g]->rank);
    match.pool = matches.memory_->pools.emplace_back(match.pool);
    matches.ranks.push_back(match);
  }
  for (size_t p = 0; p < of_domain.size(); ++p) {
    const std::vector<TierBits>& bits = of_pool[p].bits();
    PoolMatch match{};
    match.cpu = Extend(bits, 0, on_host);
    match.disk = Extend(bits, match.cpu, below_device);
    if (match.disk == 0) continue;
    match.pool = matches.memory_->pools.emplace_back(of_domain[p]->name);
    match.name_space = &matches.memory_->name_spaces.emplace_back(key);
    matches.pools.push_back(match);
  }
}

Matches::Matches() : memory_(std::make_unique<Memory>()) {}
Matches::~Matches() = default;
Matches::Matches(Matches&&) noexcept = default;
Matches& Matches::operator=(Matches&&) noexcept = default;

Matches PrefixIndex::Match(const Scope& scope, PrefixSource& source,
                           const NameSource& names) const {
  Matches matches;
  Match(scope, source, MatchOptions{}, names, matches);
  return matches;
}

void PrefixIndex::Match(const Scope& scope, PrefixSource& source, const MatchOptions& options,
                        const NameSource& names, Matches& matches) const {
  matches = Matches();
  std::vector<PrefixHash> chain;
  bool ended = false;
  Impl::Prompt prompt;
  prompt.name_at = names;
  prompt.prefix_at = [&](size_t i) -> std::optional<PrefixHash> {
    while (chain.size() <= i && !ended) {
      PrefixHash next{};
      if (source.Next({&next, 1}) == 1) {
        chain.push_back(next);
        ++matches.walked;
      } else {
        ended = true;
      }
    }
    if (i >= chain.size()) return std::nullopt;
    return chain[i];
  };
  const std::shared_lock<FairSharedMutex> lock(impl_->mutex);
  const std::string salt(scope.additional_salt.value_or(""));
  // The maps are in order of the fields, the salt last.
  auto found = impl_->namespaces.lower_bound(NamespaceKey{.tenant = std::string(scope.tenant),
                                                          .model = std::string(scope.model),
                                                          .lora_name = std::string(scope.lora_name),
                                                          .block_size = scope.block_size,
                                                          .additional_salt = salt});
  std::vector<const Domain*> walked;
  for (; found != impl_->namespaces.end(); ++found) {
    const auto& [key, name_space] = *found;
    if (std::tie(key.tenant, key.model, key.lora_name, key.block_size) !=
        std::tie(scope.tenant, scope.model, scope.lora_name, scope.block_size)) {
      break;
    }
    if (scope.additional_salt && key.additional_salt != *scope.additional_salt) break;
    impl_->MatchNamespace(key, name_space.get(), name_space->domain, prompt, matches);
    if (name_space->domain != nullptr) walked.push_back(name_space->domain);
  }
  if (!names) return Best(options, matches);
  // What pools have of which no engine has announced anything.
  auto domain = impl_->domains.lower_bound(PoolDomain{.tenant = std::string(scope.tenant),
                                                      .model = std::string(scope.model),
                                                      .additional_salt = salt});
  for (; domain != impl_->domains.end(); ++domain) {
    const PoolDomain& key = domain->first;
    if (std::tie(key.tenant, key.model) != std::tie(scope.tenant, scope.model)) break;
    if (scope.additional_salt && key.additional_salt != *scope.additional_salt) break;
    if (std::ranges::find(walked, domain->second.get()) != walked.end()) continue;
    impl_->MatchNamespace({key.tenant, key.model, std::string(scope.lora_name), scope.block_size,
                           key.additional_salt},
                          nullptr, domain->second.get(), prompt, matches);
  }
  Best(options, matches);
}

}  // namespace conductor::index
