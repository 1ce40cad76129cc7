// PrefixIndex: what lookups know of namespaces, ranks and pools.

#include <mutex>

#include "lib/index/prefix_index_impl.h"

namespace conductor::index {
namespace {

RosterPool EntryOf(PoolId id, const Pool& pool) {
  return {.id = id, .name = pool.name, .lookup = pool.lookup, .profile = pool.profile};
}

}  // namespace

void PrefixIndex::Impl::PublishRosters() {
  if (unpublished.empty() && !domains_unpublished) return;
  std::vector<std::shared_ptr<const Roster>> made;
  for (const Namespace* name_space : unpublished) {
    auto roster = std::make_shared<Roster>();
    roster->key = name_space->key;
    roster->name_space = name_space->number;
    roster->max_span = name_space->max_span;
    std::vector<std::pair<uint32_t, uint32_t>> visible;
    for (const auto& [key, group] : name_space->groups) {
      const auto place = static_cast<uint32_t>(roster->ranks.size());
      roster->ranks.push_back(group.rank);
      for (const HolderId id : group.holders) {
        if (holders.at(id).visible) visible.emplace_back(static_cast<uint32_t>(id), place);
      }
    }
    if (name_space->domain != nullptr) {
      roster->domain = name_space->domain->key;
      for (const PoolId id : name_space->domain->pools) {
        const auto place = static_cast<uint32_t>(roster->places());
        roster->pools.push_back(EntryOf(id, pools.at(id)));
        const auto holder = name_space->pool_holders.find(id);
        if (holder != name_space->pool_holders.end()) {
          visible.emplace_back(static_cast<uint32_t>(holder->second), place);
        }
      }
    }
    roster->SetHolders(visible);
    made.push_back(std::move(roster));
  }
  std::map<PoolDomain, std::shared_ptr<const Roster>, ScopeOrder> of_domains;
  if (domains_unpublished) {
    for (const auto& [key, domain] : domains) {
      auto roster = std::make_shared<Roster>();
      roster->domain = key;
      bool profiled = false;
      for (const PoolId id : domain->pools) {
        roster->pools.push_back(EntryOf(id, pools.at(id)));
        profiled |= roster->pools.back().profile.has_value();
      }
      if (profiled) of_domains.emplace(key, std::move(roster));
    }
  }
  {
    const std::unique_lock lock(roster_mutex);
    for (auto& roster : made) std::swap(rosters.namespaces[*roster->key], roster);
    if (domains_unpublished) rosters.domains.swap(of_domains);
    ++roster_version;
  }
  unpublished.clear();
  appeared = false;
  domains_unpublished = false;
}

}  // namespace conductor::index
