#ifndef CONDUCTOR_LIB_INDEX_ROSTER_H_
#define CONDUCTOR_LIB_INDEX_ROSTER_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "lib/hash/hash_profile.h"
#include "lib/index/prefix_index.h"

// What lookups know of namespaces, ranks and pools: never changed, replaced when something of it
// does. A lookup keeps the one that it began with.
namespace conductor::index {

struct RosterPool {
  PoolId id{};
  std::shared_ptr<const std::string> name;
  PoolLookup lookup = PoolLookup::kFromStart;
  std::optional<hash::HashProfile> profile;
};

class Roster {
 public:
  static constexpr uint32_t kNobody = ~0u;

  std::shared_ptr<const NamespaceKey> key;
  uint32_t name_space = kNobody;  // number; kNobody: only pools speak of it
  std::optional<PoolDomain> domain;
  std::vector<std::shared_ptr<const RankKey>> ranks;
  std::vector<RosterPool> pools;  // of the domain
  uint32_t max_span = 1;          // that anybody ever held

  // A lookup has a place for each rank, then one for each pool.
  [[nodiscard]] size_t places() const { return ranks.size() + pools.size(); }
  // The place for which what the holder holds counts; kNobody: it is not to be seen.
  [[nodiscard]] uint32_t PlaceOf(uint32_t holder) const {
    if (slots_.empty()) return kNobody;
    for (size_t i = SlotOf(holder);; i = (i + 1) & (slots_.size() - 1)) {
      if (slots_[i].holder == holder) return slots_[i].place;
      if (slots_[i].holder == kNobody) return kNobody;
    }
  }

  // Before it is published: the visible holders, and the places for which they count.
  void SetHolders(const std::vector<std::pair<uint32_t, uint32_t>>& holders) {
    size_t size = 4;
    while (size < 2 * holders.size()) size *= 2;
    slots_.assign(size, Slot{kNobody, kNobody});
    for (const auto& [holder, place] : holders) {
      size_t i = SlotOf(holder);
      while (slots_[i].holder != kNobody) i = (i + 1) & (size - 1);
      slots_[i] = Slot{holder, place};
    }
  }

 private:
  struct Slot {
    uint32_t holder;
    uint32_t place;
  };

  [[nodiscard]] size_t SlotOf(uint32_t holder) const {
    return (holder * uint64_t{0x9e3779b97f4a7c15}) >> 32 & (slots_.size() - 1);
  }

  std::vector<Slot> slots_;
};

// A namespace or a domain as a key of views, to be looked for without making strings.
struct ScopeOrder {
  using is_transparent = void;
  using Fields =
      std::tuple<std::string_view, std::string_view, std::string_view, uint32_t, std::string_view>;

  static Fields Of(const NamespaceKey& key) {
    return {key.tenant, key.model, key.lora_name, key.block_size, key.additional_salt};
  }
  static Fields Of(const Scope& scope) {
    return {scope.tenant, scope.model, scope.lora_name, scope.block_size,
            scope.additional_salt.value_or("")};
  }
  static Fields Of(const PoolDomain& domain) {
    return {domain.tenant, domain.model, "", 0, domain.additional_salt};
  }
  template <typename A, typename B>
  bool operator()(const A& a, const B& b) const {
    return Of(a) < Of(b);
  }
};

struct Rosters {
  std::map<NamespaceKey, std::shared_ptr<const Roster>, ScopeOrder> namespaces;
  // Those that a pool with a profile speaks of: `name_space` and `ranks` are empty.
  std::map<PoolDomain, std::shared_ptr<const Roster>, ScopeOrder> domains;
};

}  // namespace conductor::index

#endif  // CONDUCTOR_LIB_INDEX_ROSTER_H_
