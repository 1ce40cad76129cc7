#ifndef CONDUCTOR_TESTS_BENCH_FLEET_ROUTER_H_
#define CONDUCTOR_TESTS_BENCH_FLEET_ROUTER_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <random>
#include <span>
#include <unordered_map>
#include <vector>

namespace conductor::bench {

enum class Placement : uint8_t { kRandom, kCacheAware };

// Sends prompts to engines, as a router does that remembers where it sent which beginnings. It is
// told nothing of what engines evict.
//
// Cache-aware placement is bounded by load: without that, all chats of a system prompt would follow
// the first one to its engine. A prompt goes where its longest known beginning went, if that engine
// may take more; else where a shorter one went, and so on; else to the least loaded engine. An
// engine may take more while the tokens of the prompts that it was sent lately are at most
// kLoadBound times the mean of all engines. A beginning that is known on kEnginesPerPrefix engines
// is the whole fleet's and decides nothing, or engines that are free would stay so. So a chat stays
// where it is, and a popular system prompt comes to be held by as many engines as its chats need.
class Router {
 public:
  static constexpr double kLoadBound = 1.25;
  // "Lately": among the last so many prompts for each engine there is.
  static constexpr size_t kWindowPerEngine = 16;
  static constexpr size_t kEnginesPerPrefix = 8;

  Router(Placement placement, uint32_t engines, uint64_t seed);

  // The engine for a prompt of `tokens` tokens; equal leading `block_ids` are a shared beginning.
  // It counts as sent there from now on.
  [[nodiscard]] uint32_t Place(std::span<const uint64_t> block_ids, uint64_t tokens);

 private:
  struct Sent {
    uint32_t engine = 0;
    uint64_t tokens = 0;
  };

  [[nodiscard]] uint32_t PlaceByPrefix(std::span<const uint64_t> prefixes, uint64_t tokens);
  // Of the engines that a beginning is known on, the least loaded that may take `tokens` more.
  [[nodiscard]] std::optional<uint32_t> KnownOn(uint64_t prefix, uint64_t tokens) const;
  // Equal ones by lot.
  [[nodiscard]] uint32_t LeastLoaded();
  void Remember(uint64_t prefix, uint32_t engine);
  void Count(uint32_t engine, uint64_t tokens);

  Placement placement_;
  std::mt19937_64 random_;
  std::vector<uint64_t> loads_;  // tokens in sent_, by engine
  uint64_t load_ = 0;            // of all engines
  std::deque<Sent> sent_;        // lately, the oldest first
  // Where prompts with this beginning went: the first kEnginesPerPrefix engines.
  std::unordered_map<uint64_t, std::vector<uint32_t>> known_;
};

}  // namespace conductor::bench

#endif  // CONDUCTOR_TESTS_BENCH_FLEET_ROUTER_H_
