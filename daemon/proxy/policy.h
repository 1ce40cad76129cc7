#ifndef CONDUCTOR_DAEMON_PROXY_POLICY_H_
#define CONDUCTOR_DAEMON_PROXY_POLICY_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "lib/base/result.h"
#include "lib/index/score.h"

namespace conductor::proxy {

// How an engine is chosen among those that could take a request.
enum class Policy : uint8_t {
  kRoundRobin,
  kLeastLoaded,
  // Whoever holds the longest prefix of the prompt; nobody does: the least loaded.
  kLongestPrefix,
  // What a held prefix saves, less the wait behind others' requests (lib/index/score.h).
  kScore,
};

// "round-robin", "least-loaded", "longest-prefix", "score".
[[nodiscard]] std::string_view PolicyName(Policy policy);
[[nodiscard]] Result<Policy> ParsePolicy(std::string_view text);
// Whether it needs to know who holds what.
[[nodiscard]] constexpr bool AsksConductor(Policy policy) {
  return policy == Policy::kLongestPrefix || policy == Policy::kScore;
}

// How much of a prompt somebody holds, in tokens, on the tiers one after the other.
struct Held {
  uint64_t gpu = 0;  // gpu <= cpu <= disk
  uint64_t cpu = 0;
  uint64_t disk = 0;
  // The rank that holds it; none: not said, or any.
  std::optional<uint32_t> rank;
  uint32_t ranks = 0;  // how many there are, where `rank` is said

  [[nodiscard]] uint64_t longest() const { return disk; }
};

struct Candidate {
  double load = 0;  // in requests of usual size that it has in hand
  uint64_t served = 0;
  std::optional<Held> held;  // none: not known, or not to be trusted
};

// Why one was chosen: what the response header, the log and the metrics say.
enum class Reason : uint8_t { kOnly, kRoundRobin, kLeastLoaded, kLongestPrefix, kScore };

[[nodiscard]] std::string_view ReasonName(Reason reason);

struct Choice {
  size_t candidate = 0;
  Reason reason = Reason::kOnly;
};

// Of candidates that are equal, the one that has served least, and of those in turns: `turn` is
// counted up by the caller. Where nothing is known of any held prefix, the last two policies choose
// by load. Pure.
//   !candidates.empty()
[[nodiscard]] Choice Choose(Policy policy, std::span<const Candidate> candidates,
                            uint64_t prompt_tokens, const index::ScoreWeights& weights,
                            uint64_t turn);

}  // namespace conductor::proxy

#endif  // CONDUCTOR_DAEMON_PROXY_POLICY_H_
