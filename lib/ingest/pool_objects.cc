#include "lib/ingest/pool_objects.h"

#include <algorithm>
#include <utility>

namespace conductor::ingest {
namespace {

size_t BytesOf(const ObjectId& id) {
  constexpr size_t kTables = 200;  // the object's, its component's and its share of a block's
  return kTables + id.key.size() + id.tenant.size();
}

}  // namespace

PoolObjects::Family* PoolObjects::FamilyOf(const ObjectId& id, const wire::ObjectKey& key,
                                           const std::string& model) {
  FamilyKey family_key{id.tenant, model, key.family, key.prefix, key.variant, key.group};
  const auto found = families_.find(family_key);
  if (found != families_.end()) return &found->second;
  if (families_.size() >= options_.max_families) return nullptr;
  const auto scope =
      scopes_.try_emplace(Scope{.tenant = id.tenant, .model = model, .group = key.group}).first;
  return &families_
              .emplace(std::move(family_key), Family{.scope = &scope->first,
                                                     .names = &scope->second,
                                                     .shape = BlockShape(options_.declared),
                                                     .blocks = {}})
              .first->second;
}

uint32_t PoolObjects::BackendOf(const std::string& backend) {
  const auto found = std::ranges::find(backends_, backend);
  const auto number = static_cast<uint32_t>(found - backends_.begin());
  if (found == backends_.end()) backends_.push_back(backend);
  return number;
}

bool PoolObjects::Add(const ObjectId& id, const wire::ObjectKey& key, const std::string& model,
                      const std::string& backend, ObjectTiers tiers, bool settled,
                      Changes& changes) {
  const size_t bytes = BytesOf(id);
  if (bytes_ + bytes > options_.max_bytes) return false;
  const bool new_backend = std::ranges::find(backends_, backend) == backends_.end();
  if (new_backend && backends_.size() >= options_.max_families) return false;
  Family* family = FamilyOf(id, key, model);
  if (family == nullptr) return false;
  bytes_ += bytes;
  auto& slot = family->blocks[key.hash];
  if (!slot) {
    slot = std::make_unique<Block>(Block{.family = family, .hash = key.hash});
    ++blocks_;
  }
  Object& object = objects_
                       .emplace(id, Object{.block = slot.get(),
                                           .component = BlockShape::Component(key),
                                           .known = {},
                                           .tiers = {},
                                           .settled = true,
                                           .asked = false,
                                           .backend = BackendOf(backend)})
                       .first->second;
  const bool grown = family->shape.Learn(key);
  Know(id, object, tiers, settled && tiers.any(), changes);
  if (grown) {
    for (const auto& [hash, block] : family->blocks) Judge(*block, changes);
  }
  return true;
}

size_t PoolObjects::Restore(const SavedPool& saved, Changes& changes) {
  std::vector<Family*> families;
  for (const SavedPool::Family& from : saved.families) {
    const wire::ObjectKey key{
        .family = from.form, .prefix = from.prefix, .variant = from.variant, .group = from.group};
    Family* family = FamilyOf(ObjectId{.tenant = from.tenant}, key, from.model);
    if (family != nullptr) family->shape.Restore(from.shape);
    families.push_back(family);
  }
  size_t lost = 0;
  for (const SavedPool::Object& from : saved.objects) {
    Family* family = families[from.family];
    const ObjectId id{saved.families[from.family].tenant, from.key};
    const size_t bytes = BytesOf(id);
    if (family == nullptr || bytes_ + bytes > options_.max_bytes || objects_.contains(id)) {
      ++lost;
      continue;
    }
    bytes_ += bytes;
    auto& slot = family->blocks[from.hash];
    if (!slot) {
      slot = std::make_unique<Block>(Block{.family = family, .hash = from.hash});
      ++blocks_;
    }
    Object& object = objects_
                         .emplace(id, Object{.block = slot.get(),
                                             .component = from.component,
                                             .known = {},
                                             .tiers = {},
                                             .settled = true,
                                             .asked = false,
                                             .backend = BackendOf(saved.backends[from.backend])})
                         .first->second;
    Know(id, object, ObjectTiers{.cpu = from.cpu, .disk = from.disk}, from.settled, changes);
  }
  return lost;
}

void PoolObjects::AddTiers(const ObjectId& id, ObjectTiers tiers, Changes& changes) {
  Object& object = objects_.at(id);
  tiers.cpu |= object.known.cpu;
  tiers.disk |= object.known.disk;
  Know(id, object, tiers, object.settled, changes);
}

void PoolObjects::SetTiers(const ObjectId& id, ObjectTiers tiers, Changes& changes) {
  Know(id, objects_.at(id), tiers, /*settled=*/true, changes);
}

void PoolObjects::Unsettle(const ObjectId& id, ObjectTiers tiers, Changes& changes) {
  Know(id, objects_.at(id), tiers, /*settled=*/false, changes);
}

void PoolObjects::Know(const ObjectId& id, Object& object, ObjectTiers known, bool settled,
                       Changes& changes) {
  object.known = known;
  object.asked = false;
  if (std::exchange(object.settled, settled) != settled) {
    if (settled) {
      unsettled_.erase(id);
    } else {
      unsettled_.insert(id);
    }
  }
  Move(object, known.any() ? known : ObjectTiers{.disk = true}, changes);
}

void PoolObjects::SetBackend(const ObjectId& id, const std::string& backend) {
  const bool is_new = std::ranges::find(backends_, backend) == backends_.end();
  if (is_new && backends_.size() >= options_.max_families) return;
  objects_.at(id).backend = BackendOf(backend);
}

void PoolObjects::RemoveTiers(const ObjectId& id, ObjectTiers tiers, Changes& changes) {
  const auto found = objects_.find(id);
  if (found == objects_.end()) return;
  ObjectTiers left = found->second.known;
  left.cpu &= !tiers.cpu;
  left.disk &= !tiers.disk;
  if (left.any()) {
    Know(id, found->second, left, found->second.settled, changes);
  } else {
    Remove(id, changes);
  }
}

bool PoolObjects::Remove(const ObjectId& id, Changes& changes) {
  const auto found = objects_.find(id);
  if (found == objects_.end()) return false;
  Block* block = found->second.block;
  Move(found->second, ObjectTiers{}, changes);
  if (!found->second.settled) unsettled_.erase(id);
  bytes_ -= BytesOf(id);
  objects_.erase(found);
  if (block->components.empty()) {
    --blocks_;
    auto& of_family = block->family->blocks;
    of_family.erase(block->hash);
  }
  return true;
}

void PoolObjects::Clear(Changes& changes) {
  std::vector<ObjectId> all;
  all.reserve(objects_.size());
  for (const auto& [id, object] : objects_) all.push_back(id);
  for (const ObjectId& id : all) Remove(id, changes);
  families_.clear();
  backends_.clear();
}

std::vector<std::string> PoolObjects::KeysWithoutTier(const std::string& tenant,
                                                      size_t most) const {
  std::vector<std::string> keys;
  for (const ObjectId& id : unsettled_) {
    if (keys.size() >= most) break;
    if (id.tenant == tenant) keys.push_back(id.key);
  }
  return keys;
}

std::vector<std::string> PoolObjects::AskForTiers(const std::string& tenant, size_t most) {
  std::vector<std::string> keys = KeysWithoutTier(tenant, most);
  for (const std::string& key : keys) objects_.at({tenant, key}).asked = true;
  return keys;
}

bool PoolObjects::Asked(const ObjectId& id) const {
  const auto found = objects_.find(id);
  return found != objects_.end() && found->second.asked;
}

void PoolObjects::ForEach(const std::function<void(const ObjectId&, const std::string& backend,
                                                   const ObjectTiers&)>& visit) const {
  for (const auto& [id, object] : objects_) visit(id, backends_[object.backend], object.tiers);
}

std::string PoolObjects::Unsettled(uint64_t enough) const {
  for (const auto& [key, family] : families_) {
    if (family.shape.unsettled(enough)) return family.shape.Guesses();
  }
  return {};
}

void PoolObjects::Move(Object& object, ObjectTiers to, Changes& changes) {
  const ObjectTiers from = std::exchange(object.tiers, to);
  if (from == to) return;
  Block& block = *object.block;
  auto at = std::ranges::find(block.components, object.component, &Component::id);
  if (at == block.components.end()) {
    block.components.push_back(Component{.id = object.component});
    at = std::prev(block.components.end());
  }
  const auto move = [](bool was, bool is, uint32_t& objects, uint64_t& components) {
    if (was == is) return;
    if (is && objects++ == 0) ++components;
    if (was && --objects == 0) --components;
  };
  move(from.cpu, to.cpu, at->on_cpu, block.on_cpu);
  move(from.any(), to.any(), at->on_any, block.on_any);
  if (at->on_any == 0) block.components.erase(at);
  Judge(block, changes);
}

void PoolObjects::Judge(Block& block, Changes& changes) {
  const uint64_t required = block.family->shape.required();
  std::optional<Tier> tier;
  if (block.on_any >= required) tier = Tier::kDisk;
  if (block.on_cpu >= required) tier = Tier::kCpu;
  if (tier == block.tier) return;
  if (!block.tier) ++whole_blocks_;
  if (!tier) --whole_blocks_;
  auto& all = block.family->names->whole;
  Whole& whole = all[block.hash];
  const std::optional<Tier> before = whole.best();
  if (block.tier == Tier::kCpu) --whole.on_cpu;
  if (block.tier == Tier::kDisk) --whole.on_disk;
  if (tier == Tier::kCpu) ++whole.on_cpu;
  if (tier == Tier::kDisk) ++whole.on_disk;
  block.tier = tier;
  const std::optional<Tier> after = whole.best();
  if (!after) all.erase(block.hash);
  if (after != before) changes.push_back({block.family->scope, block.hash, after});
}

}  // namespace conductor::ingest
