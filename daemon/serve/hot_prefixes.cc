#include "daemon/serve/hot_prefixes.h"

#include <algorithm>
#include <atomic>
#include <utility>

namespace conductor::serve {

// Counted for each thread, so that queries share nothing for it. Threads begin at different
// moments of the round: a client that opens a connection for each query has a thread for each.
bool HotPrefixes::IsSampled() const {
  static std::atomic<uint32_t> threads = 0;  // any order: it only spreads them
  thread_local uint32_t turn = threads.fetch_add(1, std::memory_order_relaxed);
  return turn++ % options_.sample_every == 0;
}

void HotPrefixes::Count(const index::Matches& matches, std::span<const PrefixHash> prompt) {
  // The best rank of an instance stands for it.
  std::vector<const index::RankMatch*> ranks;
  ranks.reserve(matches.ranks.size());
  for (const index::RankMatch& match : matches.ranks) {
    if (match.disk > 0 && match.disk <= prompt.size()) ranks.push_back(&match);
  }
  const auto instance_of = [](const index::RankMatch* match) -> const std::string& {
    return match->rank->instance_id;
  };
  std::ranges::sort(ranks, [&](const auto* a, const auto* b) {
    const int order = instance_of(a).compare(instance_of(b));
    return order != 0 ? order < 0 : a->disk > b->disk;
  });

  const std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock) return;
  const std::string* last = nullptr;
  for (const index::RankMatch* match : ranks) {
    const std::string& instance = instance_of(match);
    if (last != nullptr && *last == instance) continue;
    last = &instance;
    auto& of_namespace = sketches_[match->rank->name_space];
    auto sketch = of_namespace.find(instance);
    if (sketch == of_namespace.end()) {
      if (sketch_count_ == options_.max_sketches) continue;
      sketch = of_namespace.emplace(instance, Sketch{}).first;
      ++sketch_count_;
    }
    Add(sketch->second, prompt[match->disk - 1], match->disk);
  }
}

void HotPrefixes::Add(Sketch& sketch, PrefixHash hash, uint32_t blocks) const {
  if (++sketch.counted > options_.halve_at) {
    sketch.counted /= 2;
    for (Entry& entry : sketch.entries) entry.count /= 2, entry.error /= 2;
    std::erase_if(sketch.entries, [](const Entry& entry) { return entry.count == 0; });
  }
  const auto found = std::ranges::find(sketch.entries, hash, &Entry::hash);
  if (found != sketch.entries.end()) {
    ++found->count;
  } else if (sketch.entries.size() < options_.entries) {
    sketch.entries.push_back({.hash = hash, .blocks = blocks, .count = 1});
  } else {
    Entry& least = *std::ranges::min_element(sketch.entries, {}, &Entry::count);
    least = {.hash = hash, .blocks = blocks, .count = least.count + 1, .error = least.count};
  }
}

HotPrefixes::Sketch HotPrefixes::Of(const index::NamespaceKey& name_space,
                                    std::string_view instance) const {
  Sketch sketch;
  {
    const std::lock_guard lock(mutex_);
    const auto of_namespace = sketches_.find(name_space);
    if (of_namespace == sketches_.end()) return sketch;
    const auto found = of_namespace->second.find(instance);
    if (found == of_namespace->second.end()) return sketch;
    sketch = found->second;
  }
  std::ranges::stable_sort(sketch.entries, std::greater(), &Entry::count);
  return sketch;
}

void HotPrefixes::Forget(std::string_view instance) {
  const std::lock_guard lock(mutex_);
  for (auto of_namespace = sketches_.begin(); of_namespace != sketches_.end();) {
    if (const auto found = of_namespace->second.find(instance);
        found != of_namespace->second.end()) {
      of_namespace->second.erase(found);
      --sketch_count_;
    }
    of_namespace =
        of_namespace->second.empty() ? sketches_.erase(of_namespace) : std::next(of_namespace);
  }
}

}  // namespace conductor::serve
