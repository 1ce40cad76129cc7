#include "daemon/proxy/policy.h"

#include <algorithm>
#include <array>
#include <tuple>
#include <utility>
#include <vector>

namespace conductor::proxy {
namespace {

constexpr std::array<std::pair<std::string_view, Policy>, 4> kPolicies = {{
    {"round-robin", Policy::kRoundRobin},
    {"least-loaded", Policy::kLeastLoaded},
    {"longest-prefix", Policy::kLongestPrefix},
    {"score", Policy::kScore},
}};

// The best by `order`, a tuple of which less is better.
template <typename Order>
size_t Best(std::span<const Candidate> candidates, uint64_t turn, Order order) {
  const size_t count = candidates.size();
  size_t best = turn % count;
  for (size_t step = 1; step < count; ++step) {
    const size_t other = (turn + step) % count;
    if (order(candidates[other]) < order(candidates[best])) best = other;
  }
  return best;
}

Choice LeastLoaded(std::span<const Candidate> candidates, uint64_t turn) {
  return {
      Best(candidates, turn, [](const Candidate& one) { return std::tuple(one.load, one.served); }),
      Reason::kLeastLoaded};
}

Choice LongestPrefix(std::span<const Candidate> candidates, uint64_t turn) {
  const auto longest = [](const Candidate& one) { return one.held ? one.held->longest() : 0; };
  const size_t best = Best(candidates, turn, [&](const Candidate& one) {
    return std::tuple(~longest(one), one.load, one.served);
  });
  const bool is_held = longest(candidates[best]) > 0;
  return {best, is_held ? Reason::kLongestPrefix : Reason::kLeastLoaded};
}

Choice ByScore(std::span<const Candidate> candidates, uint64_t prompt_tokens,
               const index::ScoreWeights& weights, uint64_t turn) {
  const bool is_held = std::ranges::any_of(
      candidates, [](const Candidate& one) { return one.held && one.held->longest() > 0; });
  if (!is_held) return LeastLoaded(candidates, turn);
  std::vector<index::ScoreInput> inputs;
  for (const Candidate& one : candidates) {
    index::ScoreInput input{.waiting = one.load};
    if (one.held)
      std::tie(input.gpu, input.cpu, input.disk) =
          std::tie(one.held->gpu, one.held->cpu, one.held->disk);
    inputs.push_back(input);
  }
  return {index::Rank(inputs, prompt_tokens, weights, turn).front().input, Reason::kScore};
}

}  // namespace

std::string_view PolicyName(Policy policy) {
  return std::ranges::find(kPolicies, policy, &std::pair<std::string_view, Policy>::second)->first;
}

Result<Policy> ParsePolicy(std::string_view text) {
  const auto* const found =
      std::ranges::find(kPolicies, text, &std::pair<std::string_view, Policy>::first);
  if (found == kPolicies.end()) {
    return Fail("'" + std::string(text) + "' is no policy", {},
                "round-robin, least-loaded, longest-prefix or score");
  }
  return found->second;
}

std::string_view ReasonName(Reason reason) {
  switch (reason) {
    case Reason::kOnly:
      return "only";
    case Reason::kRoundRobin:
      return "round-robin";
    case Reason::kLeastLoaded:
      return "least-loaded";
    case Reason::kLongestPrefix:
      return "longest-prefix";
    case Reason::kScore:
      return "score";
  }
  return {};
}

Choice Choose(Policy policy, std::span<const Candidate> candidates, uint64_t prompt_tokens,
              const index::ScoreWeights& weights, uint64_t turn) {
  if (candidates.size() == 1) return {0, Reason::kOnly};
  switch (policy) {
    case Policy::kRoundRobin:
      return {turn % candidates.size(), Reason::kRoundRobin};
    case Policy::kLeastLoaded:
      return LeastLoaded(candidates, turn);
    case Policy::kLongestPrefix:
      return LongestPrefix(candidates, turn);
    case Policy::kScore:
      return ByScore(candidates, prompt_tokens, weights, turn);
  }
  return {};
}

}  // namespace conductor::proxy
