#include "lib/ingest/reference_model.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <utility>
#include <variant>

namespace conductor::ingest {
namespace {

bool IsIndexedKind(const std::string& kind) {
  return kind == "full_attention" || kind == "mla_attention" || kind == "sink_full_attention";
}

std::optional<Tier> TierOf(const std::optional<std::string>& medium) {
  return TierOfMedium(medium.value_or(""));
}

std::string LoraOf(const PublisherProfile& profile, const wire::BlockStored& event) {
  if (event.lora_name && !event.lora_name->empty()) return *event.lora_name;
  if (!profile.lora_name.empty() || !event.lora_id) return profile.lora_name;
  return std::to_string(*event.lora_id);
}

}  // namespace

ReferenceModel::ReferenceModel(size_t released_limit) : released_limit_(released_limit) {}

void ReferenceModel::AddPublisher(uint32_t id, const PublisherProfile& profile) {
  Publisher& publisher = publishers_[id];
  publisher.profile = profile;
  publisher.visible.block_size = profile.block_size;
}

void ReferenceModel::RemovePublisher(uint32_t id) {
  Publisher& publisher = publishers_.at(id);
  DropLife(publisher.visible);
  if (publisher.hidden) DropLife(*publisher.hidden);
  publishers_.erase(id);
  KeepLimit();
}

void ReferenceModel::NewLife(uint32_t id) {
  Publisher& publisher = publishers_.at(id);
  DropLife(publisher.visible);
  publisher.visible.block_size = publisher.profile.block_size;
  if (publisher.hidden) {
    DropLife(*publisher.hidden);
    publisher.hidden->block_size = publisher.profile.block_size;
  }
  KeepLimit();
}

void ReferenceModel::BeginRebuild(uint32_t id) {
  AbandonRebuild(id);
  Publisher& publisher = publishers_.at(id);
  publisher.hidden = Life();
  publisher.hidden->block_size = publisher.profile.block_size;
}

void ReferenceModel::CommitRebuild(uint32_t id) {
  Publisher& publisher = publishers_.at(id);
  if (!publisher.hidden) return;
  DropLife(publisher.visible);
  publisher.visible = std::move(*publisher.hidden);
  publisher.hidden.reset();
  KeepLimit();
}

void ReferenceModel::AbandonRebuild(uint32_t id) {
  Publisher& publisher = publishers_.at(id);
  if (!publisher.hidden) return;
  DropLife(*publisher.hidden);
  publisher.hidden.reset();
  KeepLimit();
}

void ReferenceModel::Apply(uint32_t id, const wire::EventBatch& batch) {
  Publisher& publisher = publishers_.at(id);
  Life& life = publisher.hidden ? *publisher.hidden : publisher.visible;

  if (batch.dp_rank && *batch.dp_rank != 0) life.said_other_rank = true;
  uint32_t dp_rank = publisher.profile.dp_rank;
  if (batch.dp_rank && (*batch.dp_rank != 0 || life.said_other_rank)) {
    dp_rank = static_cast<uint32_t>(*batch.dp_rank);
  }

  for (const wire::KvEvent& event : batch.events) {
    if (const auto* stored = std::get_if<wire::BlockStored>(&event)) {
      ApplyStored(publisher, life, dp_rank, *stored);
    } else if (const auto* removed = std::get_if<wire::BlockRemoved>(&event)) {
      ApplyRemoved(publisher, life, dp_rank, *removed);
    } else {
      ApplyCleared(life, dp_rank);
    }
  }
  KeepLimit();
}

void ReferenceModel::ApplyStored(Publisher& publisher, Life& life, uint32_t dp_rank,
                                 const wire::BlockStored& event) {
  const auto tier = TierOf(event.medium);
  if (!tier) return;
  if (event.group.spec_kind && !IsIndexedKind(*event.group.spec_kind)) return;
  if (event.hashes.empty()) return;

  Stored stored;
  stored.group = event.group.index.value_or(0);
  stored.dp_rank = dp_rank;
  stored.tier = *tier;

  if (event.tokens.empty()) {
    for (const EngineHash hash : event.hashes) {
      stored.hashes = {hash};
      stored.removed = {false};
      life.waiting.push_back(stored);
    }
    JoinWaiting(publisher, life);
    return;
  }

  if (event.block_size == 0) return;
  if (event.tokens.size() != event.hashes.size() * event.block_size) return;
  if (!event.extra_keys.empty() && event.extra_keys.size() != event.hashes.size()) return;
  if (life.block_size == 0) life.block_size = event.block_size;
  if (event.block_size % life.block_size != 0) return;

  stored.span = event.block_size / life.block_size;
  stored.parent = event.parent;
  stored.begins = !event.parent && (*tier == Tier::kGpu || publisher.profile.root_on_any_tier);
  stored.hashes = event.hashes;
  stored.removed.assign(event.hashes.size(), false);
  stored.name_space = {publisher.profile.tenant, publisher.profile.model,
                       LoraOf(publisher.profile, event), life.block_size,
                       publisher.profile.additional_salt};

  for (size_t i = 0; i < event.hashes.size() * stored.span; ++i) {
    PromptBlock block;
    const auto from = event.tokens.begin() + static_cast<ptrdiff_t>(i * life.block_size);
    block.tokens.assign(from, from + life.block_size);
    if (!event.extra_keys.empty() && i % stored.span == 0) {
      block.extra_keys = event.extra_keys[i / stored.span];
      const std::string& lora = stored.name_space.lora_name;
      if (!lora.empty() && !block.extra_keys.empty() &&
          block.extra_keys.front() == hash::TextKey(lora)) {
        block.extra_keys.erase(block.extra_keys.begin());
      }
    }
    if (i == 0 && event.cache_salt && !event.cache_salt->empty() && !event.parent) {
      block.extra_keys.push_back(hash::TextKey(*event.cache_salt));
    }
    stored.blocks.push_back(std::move(block));
  }
  life.waiting.push_back(std::move(stored));
  JoinWaiting(publisher, life);
}

void ReferenceModel::ApplyRemoved(Publisher& publisher, Life& life, uint32_t dp_rank,
                                  const wire::BlockRemoved& event) {
  const auto tier = TierOf(event.medium);
  if (!tier) return;
  const bool copies_count =
      *tier == Tier::kGpu && publisher.profile.copies == index::CopyMode::kCount;

  for (const EngineHash hash : event.hashes) {
    bool done = false;
    const auto name = life.names.find({event.group.index.value_or(0), hash});
    if (name != life.names.end()) {
      const auto held = life.held.find({dp_rank, *tier, name->second.last});
      if (held != life.held.end()) {
        done = true;
        if (--held->second.copies == 0) Drop(life, held);
      }
    }
    if (done && copies_count) continue;

    for (auto waiting = life.waiting.begin(); waiting != life.waiting.end();) {
      bool drop = false;
      if (waiting->group == event.group.index.value_or(0) && waiting->dp_rank == dp_rank &&
          waiting->tier == *tier) {
        for (size_t i = 0; i < waiting->hashes.size() && !(done && copies_count); ++i) {
          if (waiting->hashes[i] != hash || waiting->removed[i]) continue;
          waiting->removed[i] = true;
          drop = waiting->blocks.empty();
          done = true;
        }
      }
      waiting = drop ? life.waiting.erase(waiting) : std::next(waiting);
      if (done && copies_count) break;
    }
  }
}

void ReferenceModel::ApplyCleared(Life& life, uint32_t dp_rank) {
  for (auto holding = life.held.begin(); holding != life.held.end();) {
    const auto next = std::next(holding);
    if (holding->first.dp_rank == dp_rank && holding->first.tier == Tier::kGpu) {
      Drop(life, holding);
    }
    holding = next;
  }
  life.waiting.remove_if([&](const Stored& waiting) {
    return waiting.dp_rank == dp_rank && waiting.tier == Tier::kGpu;
  });
}

bool ReferenceModel::CanJoin(const Life& life, const Stored& event) const {
  const auto knows = [&](EngineHash hash) {
    const auto name = life.names.find({event.group, hash});
    if (name == life.names.end()) return false;
    return event.blocks.empty() || NamespaceOf(name->second.last) == event.name_space;
  };
  if (event.blocks.empty()) return knows(event.hashes.front());
  if (event.parent) return knows(*event.parent);
  return event.begins || life.names.contains({event.group, event.hashes.front()});
}

void ReferenceModel::JoinWaiting(const Publisher& publisher, Life& life) {
  for (;;) {
    const auto first = std::find_if(life.waiting.begin(), life.waiting.end(),
                                    [&](const Stored& event) { return CanJoin(life, event); });
    if (first == life.waiting.end()) return;
    const Stored event = *first;
    life.waiting.erase(first);
    Join(publisher, life, event);
  }
}

void ReferenceModel::Join(const Publisher& publisher, Life& life, const Stored& event) {
  if (event.blocks.empty()) {
    Hold(publisher, life, event, life.names.at({event.group, event.hashes.front()}));
    return;
  }

  // A chain without a parent joins where its first name stands, in that namespace.
  const bool joins_by_name = !event.parent && !event.begins;
  const index::NamespaceKey name_space =
      joins_by_name ? NamespaceOf(life.names.at({event.group, event.hashes.front()}).last)
                    : event.name_space;
  Block last = event.parent ? life.names.at({event.group, *event.parent}).last : kNone;
  std::vector<Block> unheld;
  for (size_t i = 0; i < event.hashes.size(); ++i) {
    const Name name{event.group, event.hashes[i]};
    const auto known = life.names.find(name);
    const bool known_here =
        known != life.names.end() && NamespaceOf(known->second.last) == name_space;
    Span span;
    Block moved_from = kNone;
    if (i == 0 && joins_by_name) {
      span = known->second;
    } else {
      Block block = last;
      for (size_t k = i * event.span; k < (i + 1) * event.span; ++k) {
        block = Child(name_space, block, event.blocks[k]);
      }
      span = {block, event.span};
      if (known_here && event.tier != Tier::kGpu && known->second.last != block) {
        span = known->second;
      } else {
        if (known != life.names.end() && known->second.last != block) {
          moved_from = known->second.last;
        }
        Bind(life, name, span);
      }
    }
    last = span.last;

    if (event.removed[i]) {
      unheld.push_back(last);
    } else {
      Hold(publisher, life, event, span);
    }
    if (moved_from != kNone) {
      for (auto holding = life.held.begin(); holding != life.held.end();) {
        const auto next = std::next(holding);
        if (holding->first.block == moved_from) Drop(life, holding);
        holding = next;
      }
      ForgetNameless(moved_from);
    }
  }
  for (auto block = unheld.rbegin(); block != unheld.rend(); ++block) Release(*block);
}

void ReferenceModel::Hold(const Publisher& publisher, Life& life, const Stored& event, Span span) {
  const Place place{event.dp_rank, event.tier, span.last};
  Holding& holding = life.held[place];
  holding.length = span.length;
  const bool first = holding.copies == 0;
  const bool copies_count =
      event.tier == Tier::kGpu && publisher.profile.copies == index::CopyMode::kCount;
  holding.copies = copies_count ? holding.copies + 1 : 1;
  if (!first) return;
  for (Block block = span.last; block != kNone; block = At(block).parent) {
    Path& path = At(block);
    if (path.supported++ == 0) TakeFromReleased(block);
    SetExists(block, true);
  }
}

void ReferenceModel::Drop(Life& life, std::map<Place, Holding>::iterator holding) {
  const Block last = holding->first.block;
  life.held.erase(holding);
  for (Block block = last; block != kNone; block = At(block).parent) {
    --At(block).supported;
  }
  Release(last);
}

void ReferenceModel::SetExists(Block block, bool exists) {
  Path& path = At(block);
  if (path.exists == exists) return;
  path.exists = exists;
  if (path.parent == kNone) return;
  if (exists) {
    ++At(path.parent).children;
  } else {
    --At(path.parent).children;
  }
}

// Of `block` and its ancestors, those that nothing holds any more become released, leaf first. A
// parent that had been released before becomes younger than its new child.
void ReferenceModel::Release(Block block) {
  if (At(block).released != 0) return;
  for (Block b = block; b != kNone && At(b).supported == 0; b = At(b).parent) {
    SetExists(b, true);
    TakeFromReleased(b);
    At(b).released = ++last_released_;
    released_.emplace(last_released_, b);
  }
  ForgetNameless(block);
}

void ReferenceModel::TakeFromReleased(Block block) {
  Path& path = At(block);
  if (path.released == 0) return;
  released_.erase(path.released);
  path.released = 0;
}

void ReferenceModel::KeepLimit() {
  while (released_.size() > released_limit_) Forget(released_.begin()->second);
}

void ReferenceModel::ForgetNameless(Block block) {
  while (block != kNone && At(block).exists && At(block).supported == 0 && At(block).names == 0 &&
         At(block).children == 0) {
    const Block parent = At(block).parent;
    SetExists(block, false);
    TakeFromReleased(block);
    block = parent;
  }
}

void ReferenceModel::Forget(Block block) {
  const auto forget_names = [&](Life& life) {
    auto name = life.named.lower_bound({block, {std::numeric_limits<Group>::min(), EngineHash{}}});
    while (name != life.named.end() && name->first == block) {
      const Name known = name->second;
      ++name;
      Unbind(life, life.names.find(known));
    }
  };
  for (auto& [id, publisher] : publishers_) {
    forget_names(publisher.visible);
    if (publisher.hidden) forget_names(*publisher.hidden);
  }
  ForgetNameless(block);
}

void ReferenceModel::Bind(Life& life, const Name& name, Span span) {
  const auto [bound, is_new] = life.names.try_emplace(name, span);
  if (!is_new) {
    --At(bound->second.last).names;
    life.named.erase({bound->second.last, name});
  }
  bound->second = span;
  life.named.emplace(span.last, name);
  ++At(span.last).names;
}

void ReferenceModel::Unbind(Life& life, std::map<Name, Span>::iterator name) {
  --At(name->second.last).names;
  life.named.erase({name->second.last, name->first});
  life.names.erase(name);
}

void ReferenceModel::DropLife(Life& life) {
  life.waiting.clear();
  while (!life.held.empty()) Drop(life, life.held.begin());
  while (!life.names.empty()) {
    const Block block = life.names.begin()->second.last;
    Unbind(life, life.names.begin());
    ForgetNameless(block);
  }
  life.block_size = 0;
  life.said_other_rank = false;
}

ReferenceModel::Block ReferenceModel::Child(const index::NamespaceKey& name_space, Block parent,
                                            const PromptBlock& block) {
  const auto [number, is_new] = numbers_.try_emplace(
      {name_space, parent, block.tokens, block.extra_keys}, static_cast<Block>(paths_.size()));
  if (is_new) paths_.push_back({.identity = &number->first, .parent = parent});
  return number->second;
}

std::vector<ReferenceModel::Block> ReferenceModel::Find(
    const index::NamespaceKey& name_space, const std::vector<PromptBlock>& prompt) const {
  std::vector<Block> blocks;
  Block parent = kNone;
  for (const PromptBlock& block : prompt) {
    const auto number = numbers_.find({name_space, parent, block.tokens, block.extra_keys});
    if (number == numbers_.end()) break;
    parent = number->second;
    blocks.push_back(parent);
  }
  return blocks;
}

ReferenceModel::Answer ReferenceModel::Query(
    const std::function<bool(const index::NamespaceKey&)>& wanted,
    const std::vector<PromptBlock>& prompt) const {
  std::set<index::NamespaceKey> name_spaces;
  for (const auto& [identity, block] : numbers_) {
    const auto& name_space = std::get<index::NamespaceKey>(identity);
    if (wanted(name_space)) name_spaces.insert(name_space);
  }
  Answer answer;
  for (const index::NamespaceKey& name_space : name_spaces) {
    auto matches = Match(Find(name_space, prompt));
    answer.merge(matches);
  }
  return answer;
}

// A span is had when its last block is a block of the prompt, for then all of it is the prompt's.
std::map<index::RankKey, ReferenceModel::OnTiers> ReferenceModel::Had(
    const std::vector<Block>& chain) const {
  std::map<index::RankKey, OnTiers> had;
  for (const auto& [id, publisher] : publishers_) {
    const auto& held = publisher.visible.held;
    for (auto of_rank = held.begin(); of_rank != held.end();) {
      const uint32_t dp_rank = of_rank->first.dp_rank;
      for (const Tier tier : kTiers) {
        for (size_t i = 0; i < chain.size(); ++i) {
          const auto holding = held.find({dp_rank, tier, chain[i]});
          if (holding == held.end()) continue;
          OnTiers& tiers = had[{NamespaceOf(chain[i]), publisher.profile.instance_id, dp_rank}];
          auto& on_tier = tiers[static_cast<size_t>(tier)];
          on_tier.resize(chain.size());
          for (size_t k = i + 1 - holding->second.length; k <= i; ++k) on_tier[k] = true;
        }
      }
      of_rank = held.upper_bound({dp_rank, kTiers.back(), std::numeric_limits<Block>::max()});
    }
  }
  return had;
}

ReferenceModel::Answer ReferenceModel::Match(const std::vector<Block>& chain) const {
  Answer answer;
  for (const auto& [rank, tiers] : Had(chain)) {
    const auto on = [&tiers = tiers](Tier tier, size_t i) {
      const auto& on_tier = tiers[static_cast<size_t>(tier)];
      return i < on_tier.size() && on_tier[i];
    };
    size_t i = 0;
    Figures figures;
    while (i < chain.size() && on(Tier::kGpu, i)) ++i;
    figures.gpu = static_cast<uint32_t>(i);
    while (i < chain.size() && on(Tier::kCpu, i)) ++i;
    figures.cpu = static_cast<uint32_t>(i);
    while (i < chain.size() && (on(Tier::kCpu, i) || on(Tier::kDisk, i))) ++i;
    figures.disk = static_cast<uint32_t>(i);
    if (figures.disk > 0) answer[rank] = figures;
  }
  return answer;
}

std::optional<ReferenceModel::Block> ReferenceModel::BlockOf(uint32_t id, Group group,
                                                             EngineHash name) const {
  const auto& names = publishers_.at(id).visible.names;
  const auto found = names.find({group, name});
  if (found == names.end()) return std::nullopt;
  return found->second.last;
}

std::vector<ReferenceModel::Block> ReferenceModel::ChainOf(Block block) const {
  std::vector<Block> chain;
  for (Block b = block; b != kNone; b = At(b).parent) chain.push_back(b);
  std::reverse(chain.begin(), chain.end());
  return chain;
}

const index::NamespaceKey& ReferenceModel::NamespaceOf(Block block) const {
  return std::get<index::NamespaceKey>(*At(block).identity);
}

PromptBlock ReferenceModel::ContentOf(Block block) const {
  const auto& [name_space, parent, tokens, extra_keys] = *At(block).identity;
  return {tokens, extra_keys};
}

ReferenceModel::Holders ReferenceModel::HoldersOf(Block block) const {
  Holders holders;
  for (const auto& [id, publisher] : publishers_) {
    const auto& held = publisher.visible.held;
    for (auto of_rank = held.begin(); of_rank != held.end();) {
      const uint32_t dp_rank = of_rank->first.dp_rank;
      for (const Tier tier : kTiers) {
        if (!held.contains({dp_rank, tier, block})) continue;
        holders[{NamespaceOf(block), publisher.profile.instance_id, dp_rank}]
               [static_cast<size_t>(tier)] = true;
      }
      of_rank = held.upper_bound({dp_rank, kTiers.back(), std::numeric_limits<Block>::max()});
    }
  }
  return holders;
}

std::set<ReferenceModel::Block> ReferenceModel::HeldBlocks() const {
  std::set<Block> blocks;
  for (const auto& [id, publisher] : publishers_) {
    for (const auto& [place, holding] : publisher.visible.held) blocks.insert(place.block);
  }
  return blocks;
}

bool ReferenceModel::HoldsNothing(uint32_t id) const {
  const Life& life = publishers_.at(id).visible;
  return life.held.empty() && life.waiting.empty();
}

uint64_t ReferenceModel::WaitingEvents(uint32_t id) const {
  return publishers_.at(id).visible.waiting.size();
}

uint32_t ReferenceModel::BlockSize(uint32_t id) const {
  return publishers_.at(id).visible.block_size;
}

uint64_t ReferenceModel::Holdings() const {
  uint64_t holdings = 0;
  for (const auto& [id, publisher] : publishers_) {
    holdings += publisher.visible.held.size();
    if (publisher.hidden) holdings += publisher.hidden->held.size();
  }
  return holdings;
}

uint64_t ReferenceModel::Blocks() const {
  return static_cast<uint64_t>(
      std::count_if(paths_.begin(), paths_.end(), [](const Path& path) { return path.exists; }));
}

}  // namespace conductor::ingest
