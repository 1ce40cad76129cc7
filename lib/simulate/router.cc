#include "lib/simulate/router.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <string>
#include <tuple>
#include <utility>

namespace conductor::simulate {
namespace {

constexpr std::array<std::pair<std::string_view, double index::ScoreWeights::*>, 5> kWeights = {{
    {"gpu", &index::ScoreWeights::gpu},
    {"cpu", &index::ScoreWeights::cpu},
    {"disk", &index::ScoreWeights::disk},
    {"waiting", &index::ScoreWeights::waiting},
    {"kv", &index::ScoreWeights::kv},
}};

constexpr const char* kWeightNames = "gpu, cpu, disk, waiting, kv";

Status SetWeight(std::string_view part, index::ScoreWeights& weights) {
  const size_t equals = part.find('=');
  const std::string_view name = part.substr(0, equals);
  for (const auto& [known, weight] : kWeights) {
    if (known != name) continue;
    const std::string_view value =
        equals == std::string_view::npos ? std::string_view() : part.substr(equals + 1);
    double number = -1;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
    if (error != std::errc() || end != value.data() + value.size() || !std::isfinite(number) ||
        number < 0) {
      return Fail(fmt::format("'{}' is no weight", value), std::string(name),
                  "a number of 0 or more");
    }
    weights.*weight = number;
    return {};
  }
  return Fail(fmt::format("'{}' is no part of a score", name), {},
              fmt::format("{}, each with =NUMBER, parted by commas", kWeightNames));
}

}  // namespace

std::string_view PolicyName(Policy policy) {
  switch (policy) {
    case Policy::kRoundRobin:
      return "round-robin";
    case Policy::kLeastLoaded:
      return "least-loaded";
    case Policy::kLongestPrefix:
      return "longest-prefix";
    case Policy::kScore:
      return "score";
  }
  return "unknown";
}

Result<Policy> ParsePolicy(std::string_view name) {
  for (const Policy policy : kPolicies) {
    if (name == PolicyName(policy)) return policy;
  }
  return Fail(fmt::format("'{}' is no policy", name), {},
              "round-robin, least-loaded, longest-prefix or score");
}

Result<index::ScoreWeights> ParseScoreWeights(std::string_view text) {
  index::ScoreWeights weights;
  while (true) {
    const size_t comma = text.find(',');
    if (auto set = SetWeight(text.substr(0, comma), weights); !set) {
      return tl::unexpected(std::move(set).error());
    }
    if (comma == std::string_view::npos) return weights;
    text.remove_prefix(comma + 1);
  }
}

Router::Router(Policy policy, const index::ScoreWeights& weights, const FleetModel& fleet,
               uint64_t seed, RouterView& view)
    : policy_(policy), weights_(weights), fleet_(fleet), view_(view), random_(seed) {}

size_t Router::Choose(const PreparedRequest& request, Duration now,
                      std::span<const RankLoad> loads) {
  switch (policy_) {
    case Policy::kRoundRobin:
      return turn_++ % loads.size();
    case Policy::kLeastLoaded:
      return LeastLoaded(loads);
    case Policy::kLongestPrefix:
      return LongestPrefix(view_.Look(now, request.chain), loads);
    case Policy::kScore:
      return BestScore(request, view_.Look(now, request.chain), loads);
  }
  return 0;
}

size_t Router::LeastLoaded(std::span<const RankLoad> loads) {
  std::vector<size_t> best;
  for (size_t target = 0; target < loads.size(); ++target) {
    if (!best.empty() && loads[target].requests > loads[best.front()].requests) continue;
    if (!best.empty() && loads[target].requests < loads[best.front()].requests) best.clear();
    best.push_back(target);
  }
  return Draw(best);
}

size_t Router::LongestPrefix(std::span<const index::RankMatch> held,
                             std::span<const RankLoad> loads) {
  // More blocks are better, fewer requests are.
  const auto rank = [&](size_t target) {
    return std::tuple(-static_cast<int64_t>(held[target].disk), loads[target].requests);
  };
  std::vector<size_t> best;
  for (size_t target = 0; target < held.size(); ++target) {
    if (!best.empty() && rank(target) > rank(best.front())) continue;
    if (!best.empty() && rank(target) < rank(best.front())) best.clear();
    best.push_back(target);
  }
  return Draw(best);
}

size_t Router::BestScore(const PreparedRequest& request, std::span<const index::RankMatch> held,
                         std::span<const RankLoad> loads) {
  std::vector<index::ScoreInput> inputs(held.size());
  for (size_t target = 0; target < held.size(); ++target) {
    index::ScoreInput& input = inputs[target];
    input.gpu = uint64_t{held[target].gpu} * fleet_.block_size;
    input.cpu = uint64_t{held[target].cpu} * fleet_.block_size;
    input.disk = uint64_t{held[target].disk} * fleet_.block_size;
    input.waiting = static_cast<double>(loads[target].requests);
    input.kv_use = loads[target].kv_use;
  }
  return index::Rank(inputs, request.request.input, weights_, random_()).front().input;
}

// The standard distributions give other numbers on other machines; this does not.
size_t Router::Draw(std::span<const size_t> equals) { return equals[random_() % equals.size()]; }

}  // namespace conductor::simulate
