#include "daemon/serve/engine_table.h"

#include <algorithm>
#include <utility>

namespace conductor::serve {

std::optional<size_t> EngineTable::Instance::RankPlace(uint32_t dp_rank) const {
  if (dp_ranks.front() == dp_rank) return first_rank;  // most have one alone
  const auto at = std::ranges::lower_bound(dp_ranks, dp_rank);
  if (at == dp_ranks.end() || *at != dp_rank) return std::nullopt;
  return first_rank + static_cast<size_t>(at - dp_ranks.begin());
}

EngineTable::EngineTable(std::vector<EngineView> engines, uint64_t version)
    : engines_(std::move(engines)), version_(version) {
  std::map<std::string, std::map<std::string, Instance>> tenants;
  for (uint32_t i = 0; i < engines_.size(); ++i) {
    const Registration& registration = *engines_[i].registration;
    Instance& instance = tenants[registration.tenant][registration.instance_id];
    instance.engines.push_back(i);
    instance.dp_ranks.push_back(registration.dp_rank);
  }
  for (auto& [name, instances] : tenants) {
    Tenant& tenant = tenants_[name];
    for (auto& [id, instance] : instances) {
      instance.instance_id = id;
      std::ranges::sort(instance.dp_ranks);
      instance.dp_ranks.erase(std::unique(instance.dp_ranks.begin(), instance.dp_ranks.end()),
                              instance.dp_ranks.end());
      instance.first_rank = tenant.ranks;
      tenant.ranks += instance.dp_ranks.size();
      tenant.instances.push_back(std::move(instance));
    }
    for (uint32_t i = 0; i < tenant.instances.size(); ++i) {
      tenant.by_id.emplace(tenant.instances[i].instance_id, i);
    }
  }
  for (EngineView& engine : engines_) {
    Tenant& tenant = tenants_[engine.registration->tenant];
    const auto next_id = static_cast<uint32_t>(tenant.models.size());
    ModelSizes& model = tenant.models[engine.registration->model];
    if (!model.known) model.id = next_id;
    engine.model = model.id;
    model.known = true;
    if (engine.block_size == 0) {
      model.unknown = true;
    } else {
      model.sizes.insert(engine.block_size);
    }
  }
}

const ModelSizes& EngineTable::SizesOf(const std::string& tenant, std::string_view model) const {
  static const ModelSizes kNone;
  const Tenant* const of = Find(tenant);
  if (of == nullptr) return kNone;
  const auto found = of->models.find(model);
  return found == of->models.end() ? kNone : found->second;
}

const EngineTable::Tenant* EngineTable::Find(const std::string& tenant) const {
  const auto found = tenants_.find(tenant);
  return found == tenants_.end() ? nullptr : &found->second;
}

const EngineTable::Instance* EngineTable::Find(const std::string& tenant,
                                               std::string_view instance_id) const {
  const Tenant* const of = Find(tenant);
  if (of == nullptr) return nullptr;
  const auto found = of->by_id.find(instance_id);
  return found == of->by_id.end() ? nullptr : &of->instances[found->second];
}

}  // namespace conductor::serve
