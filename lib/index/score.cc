#include "lib/index/score.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace conductor::index {
namespace {

// One kind of load over all instances.
struct LoadScale {
  double least = 0;
  double mean = 0;
  bool known = false;
};

LoadScale ScaleOf(std::span<const ScoreInput> inputs, std::optional<double> ScoreInput::*load) {
  LoadScale scale;
  double sum = 0;
  size_t count = 0;
  for (const ScoreInput& input : inputs) {
    const auto& value = input.*load;
    if (!value) continue;
    scale.least = count == 0 ? *value : std::min(scale.least, *value);
    sum += *value;
    ++count;
  }
  scale.known = count > 0;
  if (scale.known) scale.mean = sum / static_cast<double>(count);
  return scale;
}

double AboveLeast(const std::optional<double>& value, const LoadScale& scale) {
  return scale.known ? value.value_or(scale.mean) - scale.least : 0;
}

double TrustOf(FigureTrust trust, const ScoreWeights& weights) {
  switch (trust) {
    case FigureTrust::kSound:
      return 1;
    case FigureTrust::kDoubtful:
      return weights.doubtful;
    case FigureTrust::kStale:
      return weights.stale;
  }
  return 1;
}

Score ScoreOf(const ScoreInput& input, double prompt, const ScoreWeights& weights,
              const LoadScale& waiting, const LoadScale& kv_use) {
  Score score;
  score.saved_gpu = weights.gpu * static_cast<double>(input.gpu);
  score.saved_cpu = weights.cpu * static_cast<double>(input.cpu - input.gpu);
  score.saved_disk = weights.disk * static_cast<double>(input.disk - input.cpu);
  score.trust = TrustOf(input.trust, weights);
  score.queue = weights.waiting * prompt * AboveLeast(input.waiting, waiting) / (1 + waiting.mean);
  score.memory = weights.kv * prompt * AboveLeast(input.kv_use, kv_use);
  score.total = score.trust * (score.saved_gpu + score.saved_cpu + score.saved_disk) - score.queue -
                score.memory;
  return score;
}

}  // namespace

std::vector<Score> Rank(std::span<const ScoreInput> inputs, uint64_t prompt_tokens,
                        const ScoreWeights& weights, uint64_t rotation) {
  const LoadScale waiting = ScaleOf(inputs, &ScoreInput::waiting);
  const LoadScale kv_use = ScaleOf(inputs, &ScoreInput::kv_use);
  // An empty prompt has a queue before it too.
  const double prompt = std::max(static_cast<double>(prompt_tokens), 1.0);
  std::vector<Score> scores;
  scores.reserve(inputs.size());
  for (const ScoreInput& input : inputs) {
    scores.push_back(ScoreOf(input, prompt, weights, waiting, kv_use));
    scores.back().input = scores.size() - 1;
  }
  std::ranges::stable_sort(scores,
                           [](const Score& a, const Score& b) { return a.total > b.total; });
  if (scores.empty()) return scores;
  const double least = scores.front().total - prompt * 1e-6;
  const auto equals_end =
      std::ranges::find_if(scores, [least](const Score& score) { return score.total < least; });
  // Of those that are equal to the best the order is by trust, then that of the inputs, whatever
  // their last digits.
  const auto trust = [&inputs](const Score& score) { return inputs[score.input].trust; };
  std::sort(scores.begin(), equals_end, [&trust](const Score& a, const Score& b) {
    return std::pair(trust(a), a.input) < std::pair(trust(b), b.input);
  });
  const auto end = std::find_if(scores.begin(), equals_end, [&](const Score& score) {
    return trust(score) != trust(scores.front());
  });
  const auto equal = static_cast<uint64_t>(end - scores.begin());
  std::rotate(scores.begin(), scores.begin() + static_cast<std::ptrdiff_t>(rotation % equal), end);
  return scores;
}

}  // namespace conductor::index
