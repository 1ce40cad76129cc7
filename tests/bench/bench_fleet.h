#ifndef CONDUCTOR_TESTS_BENCH_BENCH_FLEET_H_
#define CONDUCTOR_TESTS_BENCH_BENCH_FLEET_H_

#include <time.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "lib/base/tier.h"
#include "lib/hash/block_hash.h"
#include "lib/index/prefix_index.h"

// What the benchmarks of the index share: prompts, and holders that hold them.
namespace conductor::bench {

inline constexpr uint64_t kSeed = hash::kDefaultSeed;

inline index::NamespaceKey Namespace(uint32_t block_size = 16) {
  return {.tenant = "default", .model = "m", .lora_name = "", .block_size = block_size};
}
inline index::Scope ScopeOf(uint32_t block_size = 16) {
  return {.tenant = "default", .model = "m", .lora_name = "", .block_size = block_size};
}

// Random token ids of a vocabulary of 128,000.
inline std::vector<TokenId> Tokens(size_t count, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<TokenId> tokens(count);
  for (TokenId& token : tokens) token = static_cast<TokenId>(random() % 128000);
  return tokens;
}

// Names that mean nothing.
inline std::vector<EngineHash> Names(size_t count, uint64_t seed) {
  std::mt19937_64 random(~seed);
  std::vector<EngineHash> names(count);
  for (EngineHash& name : names) name = EngineHash{random()};
  return names;
}

// One rank of one engine: holder and names.
struct Member {
  index::HolderId holder{};
  index::AliasSpace space{};
};

inline Member Join(index::PrefixIndex& index, uint32_t number, uint32_t block_size = 16) {
  auto writer = index.Write();
  const index::RankKey rank{.name_space = Namespace(block_size),
                            .instance_id = "engine-" + std::to_string(number),
                            .dp_rank = 0};
  return {writer.AddHolder(rank, number, /*visible=*/true), writer.AddSpace(number)};
}

// Holds the chain, as one event.
inline bool Store(index::PrefixIndex& index, const Member& member,
                  const std::vector<LocalHash>& locals, const std::vector<EngineHash>& names,
                  Tier tier = Tier::kGpu, std::optional<EngineHash> parent = std::nullopt) {
  auto writer = index.Write();
  index::StoreRequest request{.holder = member.holder, .space = member.space, .tier = tier};
  request.parent = parent;
  request.hashes = names;
  request.locals = locals;
  return writer.Store(request) == index::StoreOutcome::kStored;
}

inline std::vector<LocalHash> Locals(const std::vector<TokenId>& tokens, uint32_t block_size = 16) {
  std::vector<LocalHash> locals(tokens.size() / block_size);
  hash::HashBlocks(tokens, block_size, kSeed, locals);
  return locals;
}

inline double Seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Of this thread's work alone: others on the machine do not count.
inline double CpuSeconds() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

// Durations one by one, for their percentiles.
class Durations {
 public:
  void Add(double seconds) { seconds_.push_back(seconds); }
  // In seconds, of what was added; `part` from 0 to 1.
  [[nodiscard]] double Percentile(double part) {
    if (seconds_.empty()) return 0;
    const auto at = static_cast<size_t>(part * static_cast<double>(seconds_.size() - 1));
    std::nth_element(seconds_.begin(), seconds_.begin() + static_cast<std::ptrdiff_t>(at),
                     seconds_.end());
    return seconds_[at];
  }

 private:
  std::vector<double> seconds_;
};

}  // namespace conductor::bench

#endif  // CONDUCTOR_TESTS_BENCH_BENCH_FLEET_H_
