#include "lib/index/chain_copy.h"

#include <algorithm>
#include <array>
#include <bit>
#include <shared_mutex>
#include <tuple>
#include <utility>

#include "lib/index/prefix_index_impl.h"

namespace conductor::index {
namespace {

// A piece takes a tenth of a millisecond.
constexpr size_t kRunsAPiece = 64;

// One name of a block of a run.
struct NameAt {
  uint32_t offset;
  EngineHash name;
};

// Names of one run and space, sorted by their blocks, as PackedChains has them.
void Pack(uint32_t run, uint32_t space, std::vector<NameAt>& names, PackedChains& chains) {
  while (!names.empty()) {
    PackedChains::Names packed{.run = run, .space = space, .blocks = 0};
    std::vector<NameAt> more;  // of blocks that have another already
    for (const NameAt& at : names) {
      const uint64_t bit = RunStore::Bit(at.offset);
      if ((packed.blocks & bit) != 0) {
        more.push_back(at);
        continue;
      }
      packed.blocks |= bit;
      chains.names.push_back(at.name);
    }
    chains.named.push_back(packed);
    names.swap(more);
  }
}

}  // namespace

ChainCopy::ChainCopy(const PrefixIndex& index, std::span<const HolderId> holders,
                     std::span<const AliasSpace> spaces)
    : index_(index), spaces_(spaces.begin(), spaces.end()) {
  const PrefixIndex::Impl& impl = *index_.impl_;
  const std::shared_lock<FairSharedMutex> lock(impl.mutex);
  const auto add = [&](const RunList& list) {
    const std::vector<uint32_t> more = list.Copy();
    runs_.insert(runs_.end(), more.begin(), more.end());
  };
  for (uint32_t i = 0; i < holders.size(); ++i) {
    const auto holder = impl.holders.find(holders[i]);
    if (holder == impl.holders.end()) continue;
    holders_[holder->second.name_space->number].push_back({holders[i], i});
    for (const RunList& of_tier : holder->second.runs) add(of_tier);
  }
  for (const AliasSpace space : spaces_) {
    const auto found = impl.spaces.find(space);
    if (found != impl.spaces.end()) add(found->second.runs);
  }
  std::ranges::sort(runs_);
  runs_.erase(std::unique(runs_.begin(), runs_.end()), runs_.end());
  // Address space only, until it is written to.
  chains_.runs.reserve(runs_.size());
  chains_.prefixes.reserve(runs_.size() * RunStore::kMaxLength);
  if (!spaces_.empty()) chains_.names.reserve(runs_.size() * RunStore::kMaxLength);
  chains_.holdings.reserve(runs_.size());
  chains_.named.reserve(runs_.size());
}

bool ChainCopy::Step() {
  if (next_ == runs_.size()) return false;
  const std::shared_lock<FairSharedMutex> lock(index_.impl_->mutex);
  const RunStore& store = index_.impl_->store;
  for (size_t i = 0; i < kRunsAPiece && next_ < runs_.size(); ++i, ++next_) {
    if (next_ + 8 < runs_.size()) store.PrefetchRun(runs_[next_ + 8]);
    CopyRun(runs_[next_]);
  }
  return next_ < runs_.size();
}

bool ChainCopy::IsCopied(uint32_t run, uint32_t blocks) const {
  const auto found = copied_.find(run);
  if (found == copied_.end()) return false;
  const PackedChains::Run& copy = chains_.runs[found->second.position];
  if (copy.length < blocks) return false;
  const PrefixIndex::Impl& impl = *index_.impl_;
  const uint32_t number = impl.store.run(run).name_space;
  const auto met = name_space_of_.find(number);
  if (met == name_space_of_.end() || met->second.key != impl.by_number[number]->key ||
      met->second.position != copy.name_space) {
    return false;
  }
  // A hash stands for all blocks before it.
  return chains_.prefixes[found->second.first_prefix + blocks - 1] ==
         impl.store.prefix(BlockRef(run, blocks - 1));
}

uint32_t ChainCopy::Copy(uint32_t run_id, uint32_t blocks) {
  const PrefixIndex::Impl& impl = *index_.impl_;
  const RunStore& store = impl.store;
  std::vector<uint32_t> missing;  // it and its ancestors, up to one that is there
  for (uint32_t at = run_id, needed = blocks; !IsCopied(at, needed);) {
    missing.push_back(at);
    const BlockRef parent(store.run(at).parent);
    if (!parent.is_block()) break;
    at = parent.run();
    needed = parent.offset() + 1;
  }
  for (; !missing.empty(); missing.pop_back()) {
    const uint32_t id = missing.back();
    const Run& run = store.run(id);
    const uint32_t number = run.name_space;
    Met& met = name_space_of_[number];
    if (const auto& key = impl.by_number[number]->key; met.key != key) {
      met = {key, static_cast<uint32_t>(chains_.name_spaces.size())};
      chains_.name_spaces.push_back(*key);
    }
    PackedChains::Run copy{.name_space = met.position,
                           .parent = PackedChains::kNoRun,
                           .parent_block = 0,
                           .length = run.length};
    if (const BlockRef parent(run.parent); parent.is_block()) {
      copy.parent = copied_.at(parent.run()).position;
      copy.parent_block = static_cast<uint8_t>(parent.offset());
    }
    copied_[id] = {static_cast<uint32_t>(chains_.runs.size()), chains_.prefixes.size()};
    chains_.runs.push_back(copy);
    for (uint32_t i = 0; i < copy.length; ++i) {
      chains_.prefixes.push_back(store.prefix(BlockRef(id, i)));
    }
  }
  return copied_.at(run_id).position;
}

void ChainCopy::CopyRun(uint32_t run_id) {
  const PrefixIndex::Impl& impl = *index_.impl_;
  const RunStore& store = impl.store;
  const Run& run = store.run(run_id);
  if ((run.flags & Run::kUsed) == 0) return;
  const auto holders = holders_.find(run.name_space);
  const bool named = std::ranges::any_of(spaces_, [&](AliasSpace space) {
    return store.HasNamesOf(static_cast<uint32_t>(space), run_id);
  });
  uint32_t position = PackedChains::kNoRun;
  const auto here = [&] {
    if (position == PackedChains::kNoRun) position = Copy(run_id, run.length);
    return position;
  };
  if (named) {
    (void)here();
    CopyNames(run_id);
  }
  if (holders == holders_.end()) return;
  for (const auto& [id, number] : holders->second) {
    std::array<uint64_t, kTierCount> held{};
    store.ForEach(
        run, RunStore::Set::kHolders,
        [&](uint64_t key, uint64_t mask) {
          if (RunStore::Upper(key) >> 2 != static_cast<uint32_t>(id)) return false;
          const auto tier = static_cast<Tier>(RunStore::Upper(key) & 3);
          const uint32_t span = RunStore::Lower(key);
          held[static_cast<size_t>(tier)] |= mask;
          if (span == 1 && impl.copies.empty()) return true;
          for (; mask != 0; mask &= mask - 1) {
            const auto offset = static_cast<uint32_t>(std::countr_zero(mask));
            const auto more =
                impl.copies.find(PrefixIndex::Impl::CopyKey(BlockRef(run_id, offset), id, tier));
            const uint32_t copies = more == impl.copies.end() ? 1 : 1 + more->second;
            if (copies == 1 && span == 1) continue;
            chains_.special.push_back(
                {here(), number, static_cast<uint8_t>(offset), tier, span, copies});
          }
          return true;
        },
        RunStore::Key(static_cast<uint32_t>(id) << 2, 0));
    for (const Tier tier : kTiers) {
      const uint64_t mask = held[static_cast<size_t>(tier)];
      if (mask != 0) chains_.holdings.push_back({here(), number, tier, mask});
    }
  }
}

void ChainCopy::CopyNames(uint32_t run_id) {
  const PrefixIndex::Impl& impl = *index_.impl_;
  const uint32_t position = copied_.at(run_id).position;
  std::vector<NameAt> names;
  for (uint32_t i = 0; i < spaces_.size(); ++i) {
    const auto space = impl.spaces.find(spaces_[i]);
    if (space == impl.spaces.end()) continue;
    names.clear();
    impl.store.ForEachNameOf(
        static_cast<uint32_t>(spaces_[i]), run_id, [&](uint32_t offset, EngineHash name) {
          names.push_back({offset, name});
          const auto span = space->second.spans.find(name);
          if (span == space->second.spans.end()) return;
          chains_.spans.push_back({position, i, static_cast<uint8_t>(offset), name, span->second});
        });
    std::ranges::stable_sort(names, {}, &NameAt::offset);
    Pack(position, i, names, chains_);
  }
}

void ChainCopy::CopyJoined(const PoolNames& of) {
  const PrefixIndex::Impl& impl = *index_.impl_;
  const std::shared_lock<FairSharedMutex> lock(impl.mutex);
  const auto domain = impl.domains.find(of.domain);
  if (domain == impl.domains.end()) return;
  for (const PoolName& name : of.names) {
    const auto entry = domain->second->names.find(name);
    if (entry == domain->second->names.end()) continue;
    for (const index::Joined& joined : entry->second.blocks) {
      const BlockRef block = joined.target.block;
      const uint32_t run = Copy(block.run(), block.offset() + 1);
      const auto offset = static_cast<uint8_t>(block.offset());
      joined_.push_back({run, of.space, offset, name.hash});
      if (joined.target.span > 1) {
        chains_.spans.push_back({run, of.space, offset, name.hash, joined.target.span});
      }
    }
  }
}

PackedChains ChainCopy::Take() {
  std::ranges::sort(joined_, {}, [](const Joined& joined) {
    return std::tuple(joined.run, joined.space, joined.block);
  });
  std::vector<NameAt> names;
  for (size_t i = 0; i < joined_.size();) {
    const Joined& first = joined_[i];
    names.clear();
    for (; i < joined_.size() && joined_[i].run == first.run && joined_[i].space == first.space;
         ++i) {
      names.push_back({joined_[i].block, joined_[i].name});
    }
    Pack(first.run, first.space, names, chains_);
  }
  joined_.clear();
  return std::move(chains_);
}

}  // namespace conductor::index
