#include "lib/trace/simulated_engine.h"

#include <algorithm>
#include <optional>

namespace conductor::trace {
namespace {

constexpr std::string_view kDevice = "GPU";
constexpr std::string_view kAttention = "full_attention";

}  // namespace

SimulatedEngine::SimulatedEngine(const Options& options) : options_(options) {
  options_.block_size = std::max(options_.block_size, 1u);
}

std::vector<wire::KvEvent> SimulatedEngine::Run(std::span<const TokenId> prompt) {
  std::vector<EngineHash> names = Names(prompt);
  names.resize(std::min<size_t>(names.size(), options_.capacity_blocks));
  const size_t cached = Leading(names);

  // The first block of a prompt is used last: what is evicted first is always a tail, so that a
  // block is never cached without those before it.
  for (size_t i = cached; i-- > 0;) Touch(names[i]);

  std::vector<wire::KvEvent> events;
  const size_t wanted = names.size() - cached;
  while (blocks_.size() + wanted > options_.capacity_blocks) {
    const EngineHash oldest = uses_.front();
    uses_.pop_front();
    blocks_.erase(oldest);
    wire::BlockRemoved removed;
    removed.hashes = {oldest};
    removed.medium = kDevice;
    removed.group.index = 0;
    events.emplace_back(std::move(removed));
  }
  if (wanted == 0) return events;

  for (size_t i = names.size(); i-- > cached;) {
    blocks_[names[i]] = Block{uses_.insert(uses_.end(), names[i])};
  }
  for (size_t i = cached; i-- > 0;) Touch(names[i]);

  wire::BlockStored stored;
  stored.hashes.assign(names.begin() + static_cast<ptrdiff_t>(cached), names.end());
  if (cached > 0) stored.parent = names[cached - 1];
  const auto tokens = prompt.subspan(cached * options_.block_size, wanted * options_.block_size);
  stored.tokens.assign(tokens.begin(), tokens.end());
  stored.block_size = options_.block_size;
  stored.medium = kDevice;
  stored.extra_keys.resize(wanted);
  stored.group = {0, std::string(kAttention)};
  events.emplace_back(std::move(stored));
  return events;
}

uint32_t SimulatedEngine::CachedBlocks(std::span<const TokenId> prompt) const {
  return static_cast<uint32_t>(Leading(Names(prompt)));
}

std::vector<wire::KvEvent> SimulatedEngine::Reset() {
  uses_.clear();
  blocks_.clear();
  return {wire::AllBlocksCleared{}};
}

std::vector<EngineHash> SimulatedEngine::Names(std::span<const TokenId> prompt) const {
  // Any seed but the one that Conductor hashes with.
  const uint64_t seed = ~options_.seed == hash::kDefaultSeed ? 0 : ~options_.seed;
  std::vector<EngineHash> names;
  names.reserve(prompt.size() / options_.block_size);
  std::optional<PrefixHash> prefix;
  for (; prompt.size() >= options_.block_size; prompt = prompt.subspan(options_.block_size)) {
    const LocalHash local = hash::HashBlock(prompt.first(options_.block_size), {}, seed);
    prefix = prefix ? hash::NextPrefix(*prefix, local, seed) : hash::FirstPrefix(local);
    names.push_back(EngineHash{static_cast<uint64_t>(*prefix)});
  }
  return names;
}

size_t SimulatedEngine::Leading(std::span<const EngineHash> names) const {
  const auto missing =
      std::ranges::find_if(names, [&](EngineHash name) { return !blocks_.contains(name); });
  return static_cast<size_t>(missing - names.begin());
}

void SimulatedEngine::Touch(EngineHash name) {
  uses_.splice(uses_.end(), uses_, blocks_.at(name).use);
}

}  // namespace conductor::trace
