#include "tests/ingest/pool_model.h"

#include <algorithm>
#include <array>
#include <variant>

namespace conductor::ingest {
namespace {

// What tells components apart, as RanksOf has it.
constexpr size_t kTp = 0;
constexpr size_t kPp = 1;
constexpr size_t kLayer = 4;  // behind the two kinds of context-parallel ranks
constexpr size_t kPart = 5;
constexpr size_t kAxes = 6;

std::array<std::optional<uint32_t>, kPart> RanksOf(const wire::ObjectKey& key) {
  return {key.tp_rank, key.pp_rank, key.pcp_rank, key.dcp_rank, key.layer};
}

std::string LastPathComponent(const std::string& model) {
  return model.substr(model.rfind('/') + 1);
}

}  // namespace

// --- engines ---

void PoolModel::AddEngine(uint32_t id, const PublisherProfile& profile) {
  engines_[id].profile = profile;
}

void PoolModel::RemoveEngine(uint32_t id) {
  engines_.erase(id);
  Settle();
}

void PoolModel::NewLifeOfEngine(uint32_t id) {
  const PublisherProfile profile = engines_.at(id).profile;
  engines_[id] = Engine{.profile = profile, .said_other_rank = false, .names = {}, .held = {}};
  Settle();
}

bool PoolModel::Knows(uint32_t id, uint32_t group, EngineHash name) const {
  return engines_.at(id).names.contains({group, name});
}

void PoolModel::ApplyToEngine(uint32_t id, const wire::EventBatch& batch) {
  Engine& engine = engines_.at(id);
  if (batch.dp_rank && *batch.dp_rank != 0) engine.said_other_rank = true;
  uint32_t dp_rank = engine.profile.dp_rank;
  if (batch.dp_rank && (*batch.dp_rank != 0 || engine.said_other_rank)) {
    dp_rank = static_cast<uint32_t>(*batch.dp_rank);
  }
  for (const wire::KvEvent& event : batch.events) {
    if (const auto* stored = std::get_if<wire::BlockStored>(&event)) {
      Stored(engine, dp_rank, *stored);
    } else if (const auto* removed = std::get_if<wire::BlockRemoved>(&event)) {
      Removed(engine, dp_rank, *removed);
    } else if (std::holds_alternative<wire::AllBlocksCleared>(event)) {
      std::erase_if(engine.held, [dp_rank](const auto& held) {
        return held.first.dp_rank == dp_rank && held.first.tier == Tier::kGpu;
      });
    }
    Settle();
  }
}

void PoolModel::Hold(const Engine& engine, Holding& holding, Tier tier, uint32_t length) const {
  const bool counts = tier == Tier::kGpu && engine.profile.copies == index::CopyMode::kCount;
  holding.copies = counts ? holding.copies + 1 : 1;
  holding.length = length;
}

PoolModel::DomainName PoolModel::DomainOf(const Engine& engine, const Name& name) {
  return {engine.profile.tenant, engine.profile.model, engine.profile.additional_salt, name};
}

void PoolModel::Stored(Engine& engine, uint32_t dp_rank, const wire::BlockStored& event) {
  const Tier tier = TierOfMedium(event.medium.value_or("")).value();
  const auto group = static_cast<uint32_t>(event.group.index.value_or(0));
  if (event.tokens.empty()) {
    for (const EngineHash hash : event.hashes) {
      const auto known = engine.names.find({group, hash});
      if (known == engine.names.end()) {
        unsupported_ = true;
        continue;
      }
      Hold(engine, engine.held[{dp_rank, tier, known->second.last}], tier, known->second.length);
    }
    return;
  }
  if (tier != Tier::kGpu || event.block_size % engine.profile.block_size != 0) {
    unsupported_ = true;
    return;
  }

  const index::NamespaceKey name_space = {engine.profile.tenant, engine.profile.model,
                                          event.lora_name.value_or(engine.profile.lora_name),
                                          engine.profile.block_size,
                                          engine.profile.additional_salt};
  Tokens path;
  if (event.parent) {
    const auto parent = engine.names.find({group, *event.parent});
    if (parent == engine.names.end() || parent->second.last.name_space != name_space) {
      unsupported_ = true;
      return;
    }
    path = parent->second.last.path;
  }
  const uint32_t length = event.block_size / engine.profile.block_size;
  for (size_t i = 0; i < event.hashes.size(); ++i) {
    const auto from = event.tokens.begin() + static_cast<ptrdiff_t>(i * event.block_size);
    path.insert(path.end(), from, from + event.block_size);
    const Block block = {name_space, path};
    const Name name = {group, event.hashes[i]};
    const auto known = engine.names.find(name);
    if (known != engine.names.end() && known->second.last != block) {
      const Block old = known->second.last;
      if (old.name_space != name_space) unsupported_ = true;
      std::erase_if(engine.held, [&old](const auto& held) { return held.first.block == old; });
      engine.names.erase(known);
      const bool others = std::ranges::any_of(engines_, [&](const auto& other) {
        const auto named = other.second.names.find(name);
        return DomainOf(other.second, name) == DomainOf(engine, name) &&
               named != other.second.names.end() && named->second.last == old;
      });
      if (!others) joined_[DomainOf(engine, name)].erase(old);
    }
    engine.names[name] = {block, length};
    joined_[DomainOf(engine, name)][block] = length;
    Hold(engine, engine.held[{dp_rank, tier, block}], tier, length);
  }
}

void PoolModel::Removed(Engine& engine, uint32_t dp_rank, const wire::BlockRemoved& event) {
  const Tier tier = TierOfMedium(event.medium.value_or("")).value();
  for (const EngineHash hash : event.hashes) {
    const auto name =
        engine.names.find({static_cast<uint32_t>(event.group.index.value_or(0)), hash});
    if (name == engine.names.end()) continue;
    const auto held = engine.held.find({dp_rank, tier, name->second.last});
    if (held != engine.held.end() && --held->second.copies == 0) engine.held.erase(held);
  }
}

// --- pools ---

void PoolModel::AddPool(uint32_t id, const PoolProfile& profile) { pools_[id].profile = profile; }

void PoolModel::RemovePool(uint32_t id) {
  pools_.erase(id);
  Settle();
}

void PoolModel::NewLifeOfPool(uint32_t id) {
  const PoolProfile profile = pools_.at(id).profile;
  pools_[id] =
      Pool{.profile = profile, .objects = {}, .sizes = {}, .has_v = {}, .touched = {}, .has = {}};
  Settle();
}

std::optional<std::pair<PoolModel::ObjectId, PoolModel::Object>> PoolModel::Read(
    const Pool& pool, const std::string& key, const std::optional<std::string>& tenant,
    const std::optional<wire::ObjectKey>& described) const {
  const PoolProfile& profile = pool.profile;
  Object object;
  if (described) {
    object.key = *described;
  } else {
    const auto meaning = book_.find(key);
    if (meaning == book_.end()) return std::nullopt;
    object.key = meaning->second;
  }

  const std::string& model = object.key.model;
  if (profile.key_models.empty()) {
    const bool ours =
        model.empty() || model == profile.model || model == LastPathComponent(profile.model);
    if (!ours || !object.key.prefix.empty()) return std::nullopt;
    object.model = profile.model;
  } else {
    const std::string named = object.key.prefix.empty() ? model : object.key.prefix + "@" + model;
    const auto known = profile.key_models.find(named);
    if (known == profile.key_models.end()) return std::nullopt;
    object.model = known->second;
  }
  const bool registered = !tenant || tenant->empty() || *tenant == "default";
  return std::pair{ObjectId{registered ? profile.tenant : *tenant, key}, object};
}

PoolModel::Family PoolModel::FamilyOf(const ObjectId& id, const Object& object) {
  return {id.first,          object.model,       object.key.family,
          object.key.prefix, object.key.variant, object.key.group};
}

PoolModel::Component PoolModel::ComponentOf(const wire::ObjectKey& key) {
  Component component;
  for (const auto& rank : RanksOf(key)) component.push_back(rank.value_or(0));
  component.push_back(key.part == wire::ObjectKey::Part::kV ? 1 : 0);
  return component;
}

// Adds or replaces an object, and learns from its key.
void PoolModel::Put(Pool& pool, const ObjectId& id, const Object& object) {
  pool.objects[id] = object;
  const Family family = FamilyOf(id, object);
  Component& sizes = pool.sizes[family];
  sizes.resize(kAxes);
  const auto ranks = RanksOf(object.key);
  for (size_t axis = 0; axis < ranks.size(); ++axis) {
    if (ranks[axis]) sizes[axis] = std::max(sizes[axis], *ranks[axis] + 1);
  }
  if (object.key.tp_rank) {
    sizes[kTp] = std::max(sizes[kTp], object.key.tp_size.value_or(1));
  }
  if (object.key.part == wire::ObjectKey::Part::kV) pool.has_v.insert(family);
}

std::set<PoolModel::Component> PoolModel::Required(const Pool& pool, const Family& family) {
  Component sizes = pool.sizes.at(family);
  const auto at_least = [&sizes](size_t axis, std::optional<uint32_t> size) {
    if (sizes[axis] > 0) sizes[axis] = std::max(sizes[axis], size.value_or(1));
  };
  std::optional<uint32_t> tp_size = pool.profile.tp_size;
  if (tp_size && pool.profile.kv_heads) tp_size = std::min(*tp_size, *pool.profile.kv_heads);
  at_least(kTp, tp_size);
  at_least(kPp, pool.profile.pp_size);
  at_least(kLayer, pool.profile.layers);

  std::set<Component> required = {{}};
  for (size_t axis = 0; axis < kPart; ++axis) {
    std::set<Component> longer;
    for (const Component& component : required) {
      for (uint32_t rank = 0; rank < std::max(sizes[axis], 1u); ++rank) {
        Component next = component;
        next.push_back(rank);
        longer.insert(next);
      }
    }
    required = longer;
  }
  std::set<bool> parts = {false};
  if (pool.has_v.contains(family)) parts.insert(true);
  std::set<Component> all;
  for (const Component& component : required) {
    for (const bool is_v : parts) {
      Component next = component;
      next.push_back(is_v ? 1 : 0);
      all.insert(next);
    }
  }
  return all;
}

std::map<PoolModel::DomainName, Tier> PoolModel::Has(const Pool& pool) {
  struct Parts {
    std::set<Component> on_host;
    std::set<Component> on_either;
  };
  std::map<std::pair<Family, Name>, Parts> blocks;
  for (const auto& [id, object] : pool.objects) {
    Parts& parts = blocks[{FamilyOf(id, object), {object.key.group, object.key.hash}}];
    if (object.cpu) parts.on_host.insert(ComponentOf(object.key));
    parts.on_either.insert(ComponentOf(object.key));
  }
  std::map<DomainName, Tier> has;
  for (const auto& [block, parts] : blocks) {
    const auto& [family, name] = block;
    const std::set<Component> required = Required(pool, family);
    if (!std::ranges::includes(parts.on_either, required)) continue;
    const Tier tier = std::ranges::includes(parts.on_host, required) ? Tier::kCpu : Tier::kDisk;
    const DomainName key = {std::get<0>(family), std::get<1>(family), pool.profile.additional_salt,
                            name};
    const auto [at, fresh] = has.emplace(key, tier);
    if (!fresh && tier == Tier::kCpu) at->second = tier;
  }
  return has;
}

void PoolModel::ApplyToPool(uint32_t id, const wire::EventBatch& batch) {
  Pool& pool = pools_.at(id);
  const auto touch = [&pool](const ObjectId& object) {
    if (pool.touched) (*pool.touched)[object] = {};
  };
  for (const wire::KvEvent& event : batch.events) {
    if (const auto* stored = std::get_if<wire::ObjectStored>(&event)) {
      const auto read = Read(pool, stored->key, stored->tenant, stored->described);
      if (!read) continue;
      const auto known = pool.objects.find(read->first);
      Object object = known == pool.objects.end() ? read->second : known->second;
      if (stored->medium) {
        const auto tier = TierOfMedium(*stored->medium);
        if (tier != Tier::kCpu && tier != Tier::kDisk) continue;
        if (known == pool.objects.end()) object.tier_told = !pool.touched.has_value();
        if (tier == Tier::kCpu) object.cpu = true;
        if (tier == Tier::kDisk) object.disk = true;
        if (pool.touched) (*pool.touched)[read->first].insert(*tier);
      } else if (pool.touched) {
        (*pool.touched)[read->first];
      }
      if (stored->backend) object.backend = *stored->backend;
      Put(pool, read->first, object);
    } else if (const auto* removed = std::get_if<wire::ObjectRemoved>(&event)) {
      const bool registered =
          !removed->tenant || removed->tenant->empty() || *removed->tenant == "default";
      const ObjectId object = {registered ? pool.profile.tenant : *removed->tenant, removed->key};
      touch(object);
      pool.objects.erase(object);
    } else if (const auto* cleared = std::get_if<wire::ScopeCleared>(&event)) {
      const bool of_listed = !cleared->tenant || cleared->tenant->empty() ||
                             *cleared->tenant == "default" ||
                             *cleared->tenant == pool.profile.tenant;
      if (cleared->medium) {
        unsupported_ |= pool.touched.has_value();
      } else {
        pool.cleared |= of_listed;
      }
      for (auto at = pool.objects.begin(); at != pool.objects.end();) {
        auto& [object_id, object] = *at;
        const bool registered =
            !cleared->tenant || cleared->tenant->empty() || *cleared->tenant == "default";
        const bool covered =
            (!cleared->tenant ||
             object_id.first == (registered ? pool.profile.tenant : *cleared->tenant)) &&
            (!cleared->backend || object.backend.empty() || object.backend == *cleared->backend);
        if (!covered) {
          ++at;
          continue;
        }
        touch(object_id);
        const auto tier = cleared->medium ? TierOfMedium(*cleared->medium) : std::nullopt;
        if (!cleared->medium || tier == Tier::kCpu) object.cpu = false;
        if (!cleared->medium || tier == Tier::kDisk) object.disk = false;
        const bool left = object.cpu || object.disk;
        at = left ? std::next(at) : pool.objects.erase(at);
      }
    }
    Settle();
  }
}

void PoolModel::BeginListing(uint32_t id) {
  pools_.at(id).touched.emplace();
  pools_.at(id).cleared = false;
}

void PoolModel::AbandonListing(uint32_t id) { pools_.at(id).touched.reset(); }

void PoolModel::ApplyListing(uint32_t id, std::span<const ListedObject> objects) {
  Pool& pool = pools_.at(id);
  if (!pool.touched) return;
  std::set<ObjectId> listed;
  for (const ListedObject& entry : objects) {
    const auto read = Read(pool, entry.key, std::nullopt, std::nullopt);
    if (!read) continue;
    listed.insert(read->first);
    if (pool.touched->contains(read->first)) continue;
    const auto known = pool.objects.find(read->first);
    if (known == pool.objects.end() && pool.cleared) continue;
    Object object = known == pool.objects.end() ? read->second : known->second;
    object.cpu = entry.cpu;
    object.disk = entry.disk;
    object.tier_told = entry.cpu || entry.disk;
    Put(pool, read->first, object);
  }
  for (const auto& [touched, announced] : *pool.touched) {
    const auto known = pool.objects.find(touched);
    if (known == pool.objects.end()) continue;
    known->second.cpu = announced.contains(Tier::kCpu);
    known->second.disk = announced.contains(Tier::kDisk);
    known->second.tier_told = false;
  }
  std::erase_if(pool.objects, [&](const auto& object) {
    return !listed.contains(object.first) && !pool.touched->contains(object.first);
  });
  pool.touched.reset();
  Settle();
}

void PoolModel::TiersLearnt(uint32_t id, std::span<const ListedObject> objects) {
  Pool& pool = pools_.at(id);
  for (const ListedObject& entry : objects) {
    const auto known = pool.objects.find({pool.profile.tenant, entry.key});
    if (known == pool.objects.end() || known->second.tier_told) continue;
    known->second.cpu = entry.cpu;
    known->second.disk = entry.disk;
    known->second.tier_told = true;
    if (!entry.cpu && !entry.disk) pool.objects.erase(known);
  }
  Settle();
}

std::set<std::string> PoolModel::KeysWithoutTier(uint32_t pool) const {
  std::set<std::string> keys;
  for (const auto& [id, object] : pools_.at(pool).objects) {
    if (!object.tier_told && id.first == pools_.at(pool).profile.tenant) keys.insert(id.second);
  }
  return keys;
}

void PoolModel::Settle() {
  std::set<DomainName> had;
  for (auto& [id, pool] : pools_) {
    pool.has = Has(pool);
    for (const auto& [name, tier] : pool.has) had.insert(name);
  }
  for (auto& [name, blocks] : joined_) {
    if (had.contains(name)) continue;
    std::erase_if(blocks, [&, &of = name](const auto& block) {
      return std::ranges::none_of(engines_, [&](const auto& engine) {
        const auto named = engine.second.names.find(std::get<3>(of));
        return DomainOf(engine.second, std::get<3>(of)) == of &&
               named != engine.second.names.end() && named->second.last == block.first;
      });
    });
  }
  std::erase_if(joined_, [](const auto& entry) { return entry.second.empty(); });
}

// --- answers ---

namespace {

PoolModel::Tokens Beginning(const PoolModel::Tokens& prompt, size_t tokens) {
  return {prompt.begin(), prompt.begin() + static_cast<ptrdiff_t>(tokens)};
}

// How many blocks from block `from` on are on one of the tiers, counted from block 0.
uint32_t Run(const std::vector<std::set<Tier>>& blocks, uint32_t from,
             const std::set<Tier>& tiers) {
  const auto on_one = [&tiers](const std::set<Tier>& block) {
    return std::ranges::any_of(block, [&](Tier tier) { return tiers.contains(tier); });
  };
  while (from < blocks.size() && on_one(blocks[from])) ++from;
  return from;
}

}  // namespace

PoolModel::Tiers PoolModel::OwnTiers(const index::RankKey& rank, const Tokens& prompt) const {
  const uint32_t block_size = rank.name_space.block_size;
  Tiers tiers(prompt.size() / block_size);
  for (size_t i = 0; i < tiers.size(); ++i) {
    const Block block = {rank.name_space, Beginning(prompt, (i + 1) * block_size)};
    for (const auto& [id, engine] : engines_) {
      if (engine.profile.instance_id != rank.instance_id) continue;
      for (const Tier tier : kTiers) {
        const auto held = engine.held.find({rank.dp_rank, tier, block});
        if (held == engine.held.end()) continue;
        for (uint32_t k = 0; k < held->second.length; ++k) tiers[i - k].insert(tier);
      }
    }
  }
  return tiers;
}

PoolModel::Tiers PoolModel::PoolTiers(const Pool& pool, const index::NamespaceKey& name_space,
                                      const Tokens& prompt,
                                      const index::PrefixIndex::NameSource& names) const {
  Tiers tiers(prompt.size() / name_space.block_size);
  const auto& has = pool.has;
  for (size_t i = 0; i < tiers.size(); ++i) {
    const Block block = {name_space, Beginning(prompt, (i + 1) * name_space.block_size)};
    for (const auto& [name, tier] : has) {
      const auto joined = joined_.find(name);
      if (joined == joined_.end()) continue;
      const auto found = joined->second.find(block);
      if (found == joined->second.end()) continue;
      for (uint32_t k = 0; k < found->second; ++k) tiers[i - k].insert(tier);
    }
    if (!names || !pool.profile.hash_profile) continue;
    const auto name = names(*pool.profile.hash_profile, i);
    if (!name) continue;
    const auto found =
        has.find({name_space.tenant, name_space.model, name_space.additional_salt, Name{0, *name}});
    if (found != has.end()) tiers[i].insert(found->second);
  }
  return tiers;
}

std::map<std::string, PoolModel::PoolFigures> PoolModel::PoolsOf(
    const index::NamespaceKey& name_space, const Tokens& prompt,
    const index::PrefixIndex::NameSource& names) const {
  std::map<std::string, PoolFigures> answer;
  for (const auto& [id, pool] : pools_) {
    const Tiers tiers = PoolTiers(pool, name_space, prompt, names);
    PoolFigures figures;
    figures.cpu = Run(tiers, 0, {Tier::kCpu});
    figures.disk = Run(tiers, figures.cpu, {Tier::kCpu, Tier::kDisk});
    if (figures.disk > 0) answer[pool.profile.name] = figures;
  }
  return answer;
}

PoolModel::Figures PoolModel::FiguresOf(const index::RankKey& rank, const Tokens& prompt,
                                        const index::PrefixIndex::NameSource& names) const {
  const Tiers own = OwnTiers(rank, prompt);
  Figures figures;
  figures.gpu = Run(own, 0, {Tier::kGpu});
  figures.cpu = Run(own, figures.gpu, {Tier::kCpu});
  figures.disk = Run(own, figures.cpu, {Tier::kCpu, Tier::kDisk});
  for (const auto& [id, pool] : pools_) {
    const Tiers of_pool = PoolTiers(pool, rank.name_space, prompt, names);
    uint32_t cpu = 0;
    uint32_t disk = 0;
    if (pool.profile.lookup == index::PoolLookup::kFromStart) {
      cpu = Run(of_pool, 0, {Tier::kCpu});
      disk = Run(of_pool, cpu, {Tier::kCpu, Tier::kDisk});
    } else {
      Tiers both = own;
      for (size_t i = 0; i < both.size(); ++i) {
        both[i].insert(of_pool[i].begin(), of_pool[i].end());
      }
      cpu = Run(both, figures.gpu, {Tier::kCpu});
      disk = Run(both, cpu, {Tier::kCpu, Tier::kDisk});
    }
    figures.cpu = std::max(figures.cpu, cpu);
    figures.disk = std::max(figures.disk, disk);
  }
  return figures;
}

}  // namespace conductor::ingest
