#include "daemon/toolkit/rebuild_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <variant>

#include "daemon/serve/ingest_profile.h"
#include "daemon/toolkit/terminal.h"
#include "lib/base/number.h"
#include "lib/base/tier.h"
#include "lib/hash/block_hash.h"

namespace conductor::toolkit {
namespace {

using Answer = ingest::ReferenceModel::Answer;
using Holders = ingest::ReferenceModel::Holders;

constexpr size_t kMostNames = 4;  // of an event, on one line

std::string RankText(const index::RankKey& rank) {
  std::string text = fmt::format("{}/{}", Printable(rank.instance_id), rank.dp_rank);
  if (!rank.name_space.lora_name.empty()) text += "@" + Printable(rank.name_space.lora_name);
  return text;
}

std::string Text(const Answer& answer) {
  std::string text;
  for (const auto& [rank, figures] : answer) {
    text += fmt::format("{}{} gpu {} cpu {} disk {}", text.empty() ? "" : ", ", RankText(rank),
                        figures.gpu, figures.cpu, figures.disk);
  }
  return text.empty() ? "nobody has any of it" : text;
}

std::string Text(const Holders& holders) {
  std::string text;
  for (const auto& [rank, on] : holders) {
    text += fmt::format("{}{} on", text.empty() ? "" : ", ", RankText(rank));
    for (const Tier tier : kTiers) {
      if (on[static_cast<size_t>(tier)]) text += fmt::format(" {}", TierName(tier));
    }
  }
  return text.empty() ? "nobody holds it" : text;
}

std::string NamesText(const std::vector<EngineHash>& hashes) {
  std::string text;
  for (size_t i = 0; i < std::min(hashes.size(), kMostNames); ++i) {
    text += fmt::format(" {:#018x}", static_cast<uint64_t>(hashes[i]));
  }
  if (hashes.size() > kMostNames) text += fmt::format(" and {} more", hashes.size() - kMostNames);
  return text;
}

std::string MediumText(const std::optional<std::string>& medium) {
  return medium ? Printable(*medium) : "no medium";
}

// One event on one line.
std::string DescribeEvent(const wire::KvEvent& event) {
  if (const auto* stored = std::get_if<wire::BlockStored>(&event)) {
    std::string text = fmt::format("stored{}", NamesText(stored->hashes));
    if (stored->parent)
      text += fmt::format(" after {:#018x}", static_cast<uint64_t>(*stored->parent));
    if (stored->lora_name) text += fmt::format(" of LoRA {}", Printable(*stored->lora_name));
    return text + fmt::format(", {}, {}", Counted(stored->tokens.size(), "token"),
                              MediumText(stored->medium));
  }
  if (const auto* removed = std::get_if<wire::BlockRemoved>(&event)) {
    return fmt::format("removed{}, {}", NamesText(removed->hashes), MediumText(removed->medium));
  }
  if (std::holds_alternative<wire::AllBlocksCleared>(event)) return "all blocks cleared";
  if (const auto* object = std::get_if<wire::ObjectStored>(&event)) {
    return fmt::format("object stored {}, {}", Printable(object->key), MediumText(object->medium));
  }
  if (const auto* gone = std::get_if<wire::ObjectRemoved>(&event)) {
    return fmt::format("object removed {}", Printable(gone->key));
  }
  return "scope cleared";
}

// What the model has no rules for; empty: all of it is known.
std::string Unknown(const wire::KvEvent& event) {
  if (std::holds_alternative<wire::ScopeCleared>(event)) return "it clears scopes as RFC 1527 does";
  const auto* stored = std::get_if<wire::BlockStored>(&event);
  if (stored != nullptr && stored->standard_hashes) return "its hashes are the standard's own";
  if (stored != nullptr && (stored->origin || stored->base_block_idx)) {
    return "its events come in envelopes of RFC 1527";
  }
  const auto* removed = std::get_if<wire::BlockRemoved>(&event);
  if (removed != nullptr && removed->origin) return "its events come in envelopes of RFC 1527";
  return {};
}

}  // namespace

Answer PlainIndex::Match(const index::NamespaceKey& name_space,
                         const std::vector<PrefixHash>& chain) const {
  size_t next = 0;
  index::FunctionSource source([&]() -> std::optional<PrefixHash> {
    if (next == chain.size()) return std::nullopt;
    return chain[next++];
  });
  const index::Scope scope{name_space.tenant, name_space.model, name_space.lora_name,
                           name_space.block_size, name_space.additional_salt};
  Answer answer;
  const index::Matches matches = index_.Match(scope, source);
  for (const index::RankMatch& match : matches.ranks) {
    answer[*match.rank] = {match.gpu, match.cpu, match.disk};
  }
  return answer;
}

Holders PlainIndex::HoldersOf(const index::NamespaceKey& name_space,
                              const std::vector<PrefixHash>& chain) const {
  Holders holders;
  for (const auto& holding : index_.Look(name_space, chain).holdings) {
    holders[*holding.rank] = holding.on;
  }
  return holders;
}

uint64_t PlainIndex::Holdings() const { return index_.Stats().holdings; }

std::string RebuildCheck::Difference::Describe() const {
  return fmt::format("{}\n  {}\n  index: {}\n  model: {}\n", where, what, actual, expected);
}

void RebuildCheck::Begin(uint32_t number, const SourcePublisher& publisher) {
  const serve::Registration& as = publisher.read_as;
  if (serve::IsPool(as.type)) {
    pools_.insert(publisher.name);
    return;
  }
  engines_[number] = {publisher.name, as.instance_id};
  model_.AddPublisher(number, serve::EngineProfile(as));
}

void RebuildCheck::Before(uint32_t number, stream::Sequence, const wire::EventBatch& batch) {
  if (difference_ || !engines_.contains(number)) return;
  const Engine& engine = engines_.at(number);
  for (const wire::KvEvent& event : batch.events) {
    if (const std::string why = Unknown(event); !why.empty()) {
      left_out_.try_emplace(engine.instance, fmt::format("{}: {}", engine.name, why));
    }
  }
  touched_.clear();
  // What is removed may have lost its name afterwards.
  if (!left_out_.contains(engine.instance)) Touch(number, batch);
}

void RebuildCheck::After(uint32_t number, stream::Sequence sequence,
                         const wire::EventBatch& batch) {
  if (difference_ || !engines_.contains(number)) return;
  // The model does not tell objects, and clearings of scopes, from AllBlocksCleared.
  wire::EventBatch known = batch;
  std::erase_if(known.events, [](const wire::KvEvent& event) {
    return !std::holds_alternative<wire::BlockStored>(event) &&
           !std::holds_alternative<wire::BlockRemoved>(event) &&
           !std::holds_alternative<wire::AllBlocksCleared>(event);
  });
  model_.Apply(number, known);
  if (left_out_.contains(engines_.at(number).instance)) return;
  Touch(number, batch);
  CompareTouched(number, sequence, batch);
  ++batches_;
}

void RebuildCheck::NewLife(uint32_t number) {
  if (engines_.contains(number)) model_.NewLife(number);
}

void RebuildCheck::Touch(uint32_t number, const wire::EventBatch& batch) {
  for (size_t i = 0; i < batch.events.size(); ++i) {
    if (const auto* stored = std::get_if<wire::BlockStored>(&batch.events[i])) {
      for (const EngineHash name : stored->hashes) Touch(number, stored->group, name, i);
    } else if (const auto* removed = std::get_if<wire::BlockRemoved>(&batch.events[i])) {
      for (const EngineHash name : removed->hashes) Touch(number, removed->group, name, i);
    }
  }
}

void RebuildCheck::Touch(uint32_t number, const wire::CacheGroup& group, EngineHash name,
                         size_t event) {
  if (const auto block = model_.BlockOf(number, group.index.value_or(0), name)) {
    touched_[*block] = event;
  }
}

void RebuildCheck::CompareTouched(uint32_t number, stream::Sequence sequence,
                                  const wire::EventBatch& batch) {
  // Of blocks of one prompt the last stands for the others.
  std::set<Block> inner;
  for (const auto& [block, event] : touched_) {
    for (Block b = model_.ParentOf(block); b >= 0 && inner.insert(b).second;) {
      b = model_.ParentOf(b);
    }
  }
  std::optional<size_t> event;
  size_t looks = 0;
  for (const auto& [block, named_by] : touched_) {
    event = named_by;
    if (!inner.contains(block) && !CompareMatch(block)) break;
    if (looks++ < kMostLooks && !CompareHolders(block)) break;
    event.reset();
  }
  if (!difference_ && CompareHoldings()) return;
  difference_->where = fmt::format("{}, sequence {}", Printable(engines_.at(number).name),
                                   static_cast<uint64_t>(sequence));
  if (event) {
    difference_->where +=
        fmt::format(", event {}: {}", *event, DescribeEvent(batch.events[*event]));
  } else if (batch.events.size() == 1) {
    difference_->where += fmt::format(", event 0: {}", DescribeEvent(batch.events[0]));
  } else {
    difference_->where += fmt::format(", one of its {} events", batch.events.size());
  }
}

void RebuildCheck::Finish() {
  if (difference_) return;
  const std::set<Block> held = model_.HeldBlocks();
  std::set<Block> inner;
  for (const Block block : held) {
    for (Block b = model_.ParentOf(block); b >= 0 && inner.insert(b).second;) {
      b = model_.ParentOf(b);
    }
  }
  bool same = CompareHoldings();
  for (const Block block : held) {
    if (!same) break;
    same = CompareHolders(block) && (inner.contains(block) || CompareMatch(block));
  }
  if (!same) difference_->where = "at the end";
}

bool RebuildCheck::CompareMatch(Block block) {
  const std::vector<Block> chain = model_.ChainOf(block);
  Answer expected = model_.Match(chain);
  Answer actual = index_.Match(model_.NamespaceOf(block), HashesOf(chain));
  const auto left_out = [&](const auto& entry) { return LeftOut(entry.first); };
  std::erase_if(expected, left_out);
  std::erase_if(actual, left_out);
  ++compared_;
  if (expected == actual) return true;
  Differ(fmt::format("a prompt that ends with {}", Describe(block)), Text(expected), Text(actual));
  return false;
}

bool RebuildCheck::CompareHolders(Block block) {
  const std::vector<Block> chain = model_.ChainOf(block);
  Holders expected = model_.HoldersOf(block);
  Holders actual = index_.HoldersOf(model_.NamespaceOf(block), HashesOf(chain));
  const auto left_out = [&](const auto& entry) {
    return LeftOut(entry.first) || entry.second == Holders::mapped_type{};
  };
  std::erase_if(expected, left_out);
  std::erase_if(actual, left_out);
  ++compared_;
  if (expected == actual) return true;
  Differ(Describe(block), Text(expected), Text(actual));
  return false;
}

// Pools hold blocks too, and what is left out is not the model's.
bool RebuildCheck::CompareHoldings() {
  if (!pools_.empty() || !left_out_.empty()) return true;
  const uint64_t expected = model_.Holdings();
  const uint64_t actual = index_.Holdings();
  ++compared_;
  if (expected == actual) return true;
  Differ("blocks that are held, on every rank and tier", fmt::format("{}", expected),
         fmt::format("{}", actual));
  return false;
}

bool RebuildCheck::LeftOut(const index::RankKey& rank) const {
  return left_out_.contains(rank.instance_id);
}

void RebuildCheck::Differ(std::string what, std::string expected, std::string actual) {
  difference_ = {
      .what = std::move(what), .expected = std::move(expected), .actual = std::move(actual)};
}

std::vector<PrefixHash> RebuildCheck::HashesOf(const std::vector<Block>& chain) {
  std::vector<PrefixHash> hashes;
  for (const Block block : chain) {
    const auto at = static_cast<size_t>(block);
    if (at >= hashes_.size()) hashes_.resize(at + 1);
    if (!hashes_[at]) {
      const ingest::PromptBlock content = model_.ContentOf(block);
      const LocalHash local = hash::HashBlock(content.tokens, content.extra_keys, seed_);
      hashes_[at] =
          hashes.empty() ? hash::FirstPrefix(local) : hash::NextPrefix(hashes.back(), local, seed_);
    }
    hashes.push_back(*hashes_[at]);
  }
  return hashes;
}

std::string RebuildCheck::Describe(Block block) {
  const std::vector<Block> chain = model_.ChainOf(block);
  return fmt::format("block {} of its prompt, {:#018x}", chain.size() - 1,
                     static_cast<uint64_t>(HashesOf(chain).back()));
}

std::vector<std::string> RebuildCheck::Notes() const {
  std::vector<std::string> notes;
  for (const std::string& pool : pools_) {
    notes.push_back(fmt::format("{}: a pool's objects are not compared", pool));
  }
  for (const auto& [instance, why] : left_out_) {
    notes.push_back(fmt::format("instance {} is not compared: {}", instance, why));
  }
  return notes;
}

}  // namespace conductor::toolkit
