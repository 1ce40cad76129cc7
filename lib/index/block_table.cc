// PrefixIndex: blocks, their lifetime, their names.

#include "lib/index/prefix_index_impl.h"

#include <algorithm>
#include <utility>

namespace conductor::index {

Namespace* PrefixIndex::Impl::FindOrAddNamespace(const NamespaceKey& key) {
  auto& slot = namespaces[key];
  if (!slot) {
    slot = std::make_unique<Namespace>(Namespace{.key = key});
    const auto domain = domains.find({key.tenant, key.model, key.additional_salt});
    if (domain != domains.end()) slot->domain = domain->second.get();
  }
  return slot.get();
}

void PrefixIndex::Impl::ForgetIfEmpty(Namespace* name_space) {
  if (!name_space->blocks.empty() || !name_space->groups.empty()) return;
  if (name_space->pool_holders > 0) return;
  namespaces.erase(NamespaceKey(name_space->key));
}

Group* PrefixIndex::Impl::FindOrAddGroup(Namespace* name_space, const RankKey& rank) {
  Group*& slot = name_space->group_of[{rank.instance_id, rank.dp_rank}];
  if (slot == nullptr) {
    auto group = std::make_unique<Group>();
    group->rank = std::make_shared<const RankKey>(rank);
    group->ordinal = name_space->groups.size();
    slot = name_space->groups.emplace_back(std::move(group)).get();
  }
  return slot;
}

void PrefixIndex::Impl::LeaveGroup(Namespace* name_space, Group* group, HolderId id) {
  std::erase(group->holders, id);
  if (!group->holders.empty()) return;
  name_space->group_of.erase({group->rank->instance_id, group->rank->dp_rank});
  auto& groups = name_space->groups;
  const size_t ordinal = group->ordinal;
  std::swap(groups[ordinal], groups.back());
  groups[ordinal]->ordinal = ordinal;
  groups.pop_back();
}

PrefixHash PrefixIndex::Impl::Prefix(std::optional<PrefixHash> parent, LocalHash local) const {
  return parent ? hash::NextPrefix(*parent, local, options.hash_seed) : hash::FirstPrefix(local);
}

Block* PrefixIndex::Impl::FindOrAddBlock(Namespace* name_space, Block* parent, PrefixHash prefix) {
  auto& slot = name_space->blocks[prefix];
  if (!slot) {
    slot = std::make_unique<Block>();
    slot->name_space = name_space;
    slot->parent = parent;
    slot->prefix = prefix;
    if (parent != nullptr) ++parent->children;
    slot->released = true;
    slot->place = released.insert(released.end(), slot.get());
  }
  return slot.get();
}

Block* PrefixIndex::Impl::FindOrAddSpan(Namespace* name_space, Block* parent,
                                        std::span<const PrefixHash> prefixes) {
  for (const PrefixHash prefix : prefixes) parent = FindOrAddBlock(name_space, parent, prefix);
  return parent;
}

void PrefixIndex::Impl::Retain(Block* block) {
  for (; block != nullptr && block->released; block = block->parent) {
    released.erase(block->place);
    block->released = false;
    if (block->parent != nullptr) ++block->parent->retained_children;
  }
}

void PrefixIndex::Impl::ReleaseIfUnheld(Block* block) {
  while (block != nullptr && !block->released && !block->retained()) {
    block->released = true;
    block->place = released.insert(released.end(), block);
    block = block->parent;
    if (block != nullptr) --block->retained_children;
  }
}

void PrefixIndex::Impl::TrimReleased() {
  while (released.size() > options.released_limit) {
    Block* parent = released.front()->parent;
    Forget(released.front());
    ForgetNameless(parent);
  }
}

void PrefixIndex::Impl::Forget(Block* block) {
  for (const Alias& alias : block->aliases) {
    Space& space = spaces.at(alias.space);
    space.names.erase(alias.name);
    PartName(space, alias.name, block, /*moved=*/false);
  }
  released.erase(block->place);
  if (block->parent != nullptr) --block->parent->children;
  Namespace* name_space = block->name_space;
  name_space->blocks.erase(block->prefix);
  ForgetIfEmpty(name_space);
}

void PrefixIndex::Impl::ForgetNameless(Block* block) {
  while (block != nullptr && block->released && block->aliases.empty() && block->children == 0) {
    Block* parent = block->parent;
    Forget(block);
    block = parent;
  }
}

void PrefixIndex::Impl::ForgetNamelessLeaves(const absl::flat_hash_set<Block*>& blocks) {
  std::vector<Block*> leaves;
  for (Block* block : blocks) {
    if (block->children == 0) leaves.push_back(block);
  }
  for (Block* block : leaves) ForgetNameless(block);
}

void PrefixIndex::Impl::Bind(AliasSpace id, Space& space, EngineHash name, Block* block,
                             uint32_t span) {
  space.names[name] = Target{block, span};
  block->aliases.push_back(Alias{id, name});
  JoinName(space, name, Target{block, span});
}

void PrefixIndex::Impl::Unbind(AliasSpace id, Space& space, EngineHash name, Block* block) {
  space.names.erase(name);
  std::erase(block->aliases, Alias{id, name});
  PartName(space, name, block, /*moved=*/true);
}

Target PrefixIndex::Impl::Resolve(const StoreRequest& request, Namespace* name_space,
                                  EngineHash name, Block* parent,
                                  std::span<const PrefixHash> prefixes) {
  const AliasSpace id = request.space;
  Space& space = spaces.at(id);
  const auto span = static_cast<uint32_t>(prefixes.size());
  const auto found = space.names.find(name);
  if (found == space.names.end()) {
    Block* block = FindOrAddSpan(name_space, parent, prefixes);
    Bind(id, space, name, block, span);
    if (request.bound != nullptr) request.bound->push_back(name);
    return Target{block, span};
  }
  Target& known = found->second;
  const bool same_namespace = known.block->name_space == name_space;
  if (same_namespace && known.block->prefix == prefixes.back()) {
    if (std::exchange(known.span, span) != span) RespanName(space, name, known);
    return known;
  }
  if (same_namespace && request.tier != Tier::kGpu) return known;
  Block* old = known.block;
  if (EraseAllOf(space.publisher, old)) ++name_conflicts;
  Block* block = FindOrAddSpan(name_space, parent, prefixes);
  Unbind(id, space, name, old);
  Bind(id, space, name, block, span);
  if (request.bound != nullptr) request.bound->push_back(name);
  ForgetNameless(old);
  return Target{block, span};
}

}  // namespace conductor::index
