#include "router.h"

#include <algorithm>

namespace conductor::bench {
namespace {

// A name for each beginning of a prompt.
std::vector<uint64_t> Prefixes(std::span<const uint64_t> block_ids) {
  std::vector<uint64_t> prefixes;
  prefixes.reserve(block_ids.size());
  uint64_t prefix = 0;
  for (const uint64_t id : block_ids) {
    prefix = (prefix ^ id) * 0x9e3779b97f4a7c15u + 1;
    prefixes.push_back(prefix);
  }
  return prefixes;
}

}  // namespace

Router::Router(Placement placement, uint32_t engines, uint64_t seed)
    : placement_(placement), random_(seed), loads_(engines) {}

uint32_t Router::Place(std::span<const uint64_t> block_ids, uint64_t tokens) {
  if (placement_ == Placement::kRandom) return static_cast<uint32_t>(random_() % loads_.size());
  const std::vector<uint64_t> prefixes = Prefixes(block_ids);
  const uint32_t engine = PlaceByPrefix(prefixes, tokens);
  for (const uint64_t prefix : prefixes) Remember(prefix, engine);
  Count(engine, tokens);
  return engine;
}

uint32_t Router::PlaceByPrefix(std::span<const uint64_t> prefixes, uint64_t tokens) {
  for (size_t i = prefixes.size(); i-- > 0;) {
    if (const auto engine = KnownOn(prefixes[i], tokens)) return *engine;
  }
  return LeastLoaded();
}

std::optional<uint32_t> Router::KnownOn(uint64_t prefix, uint64_t tokens) const {
  const auto known = known_.find(prefix);
  if (known == known_.end() || known->second.size() == kEnginesPerPrefix) return std::nullopt;
  const uint32_t engine =
      *std::ranges::min_element(known->second, {}, [this](uint32_t each) { return loads_[each]; });
  const double mean = static_cast<double>(load_ + tokens) / static_cast<double>(loads_.size());
  if (static_cast<double>(loads_[engine]) > kLoadBound * mean) return std::nullopt;
  return engine;
}

uint32_t Router::LeastLoaded() {
  const size_t first = random_() % loads_.size();
  size_t least = first;
  for (size_t i = 1; i < loads_.size(); ++i) {
    const size_t each = (first + i) % loads_.size();
    if (loads_[each] < loads_[least]) least = each;
  }
  return static_cast<uint32_t>(least);
}

void Router::Remember(uint64_t prefix, uint32_t engine) {
  std::vector<uint32_t>& engines = known_[prefix];
  if (engines.size() == kEnginesPerPrefix) return;
  if (std::ranges::find(engines, engine) == engines.end()) engines.push_back(engine);
}

void Router::Count(uint32_t engine, uint64_t tokens) {
  sent_.push_back({engine, tokens});
  loads_[engine] += tokens;
  load_ += tokens;
  if (sent_.size() <= kWindowPerEngine * loads_.size()) return;
  const Sent oldest = sent_.front();
  sent_.pop_front();
  loads_[oldest.engine] -= oldest.tokens;
  load_ -= oldest.tokens;
}

}  // namespace conductor::bench
