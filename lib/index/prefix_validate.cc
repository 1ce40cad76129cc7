// PrefixIndex: every invariant, for tests.

#include "lib/index/prefix_index_impl.h"

#include <fmt/format.h>

#include <shared_mutex>

namespace conductor::index {

Status PrefixIndex::Impl::ValidateBlock(const Namespace& name_space, const Block& block) const {
  const auto fail = [&](std::string what) {
    return Fail(std::move(what), fmt::format("block {:016x}", static_cast<uint64_t>(block.prefix)));
  };
  if (block.name_space != &name_space) return fail("stands in another namespace's table");
  if (block.released == block.retained()) return fail("is released and retained, or neither");
  for (size_t i = 0; i < block.holdings.size(); ++i) {
    const Holding& holding = block.holdings[i];
    const auto holder = holders.find(holding.holder);
    if (holder == holders.end()) return fail("is held by a holder that left");
    if (holding.count == 0) return fail("has a holding without copies");
    if (holder->second.name_space != &name_space) return fail("is held from another namespace");
    if (!holder->second.blocks[static_cast<size_t>(holding.tier)].contains(&block)) {
      return fail("is missing in its holder's list");
    }
    for (size_t j = 0; j < i; ++j) {
      const Holding& other = block.holdings[j];
      if (other.holder == holding.holder && other.tier == holding.tier &&
          (other.span == kInner) == (holding.span == kInner)) {
        return fail("has the same holding twice");
      }
    }
  }
  for (const Alias& alias : block.aliases) {
    const auto space = spaces.find(alias.space);
    if (space == spaces.end()) return fail("has a name in a space that left");
    const auto name = space->second.names.find(alias.name);
    if (name == space->second.names.end() || name->second.block != &block) {
      return fail("has a name that means something else");
    }
  }
  return {};
}

Status PrefixIndex::Validate() const {
  const std::shared_lock<FairSharedMutex> lock(impl_->mutex);
  size_t released = 0;
  size_t aliases = 0;
  absl::flat_hash_map<const Block*, std::pair<uint32_t, uint32_t>> children;  // all, retained
  for (const auto& [key, name_space] : impl_->namespaces) {
    for (const auto& [prefix, block] : name_space->blocks) {
      if (prefix != block->prefix) return Fail("a block stands under another prefix hash");
      if (auto status = impl_->ValidateBlock(*name_space, *block); !status) return status;
      released += block->released ? 1 : 0;
      aliases += block->aliases.size();
      if (block->parent != nullptr) {
        auto& [all, retained] = children[block->parent];
        ++all;
        retained += block->released ? 0 : 1;
      }
    }
  }
  for (const auto& [key, name_space] : impl_->namespaces) {
    for (const auto& [prefix, block] : name_space->blocks) {
      const auto found = children.find(block.get());
      const auto counted = found == children.end() ? std::pair(0u, 0u) : found->second;
      if (counted != std::pair(block->children, block->retained_children)) {
        return Fail("a block's children are counted wrongly");
      }
    }
  }
  if (released != impl_->released.size()) return Fail("the list of released blocks is wrong");
  absl::flat_hash_set<const Block*> older;
  for (const Block* block : impl_->released) {
    if (block->parent != nullptr && older.contains(block->parent)) {
      return Fail("a parent was released before its child");
    }
    older.insert(block);
  }
  size_t names = 0;
  for (const auto& [id, space] : impl_->spaces) names += space.names.size();
  if (names != aliases) return Fail("a name points to a block that does not know it");
  for (const auto& [id, holder] : impl_->holders) {
    for (const Tier tier : kTiers) {
      const size_t t = static_cast<size_t>(tier);
      uint64_t whole = 0;
      for (const Block* block : holder.blocks[t]) {
        for (const Holding& holding : block->holdings) {
          if (holding.holder == id && holding.tier == tier && holding.span != kInner) ++whole;
        }
      }
      if (whole != holder.whole[t]) return Fail("a holder's blocks are counted wrongly");
    }
  }
  return {};
}

}  // namespace conductor::index
