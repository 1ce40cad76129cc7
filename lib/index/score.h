#ifndef CONDUCTOR_LIB_INDEX_SCORE_H_
#define CONDUCTOR_LIB_INDEX_SCORE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace conductor::index {

// Where to send a prompt: by the prefill work that an instance saves, less the wait in its queue.
// A pure function, in tokens of prefill:
//
//   saved   = trust * (gpu_weight * gpu + cpu_weight * (cpu - gpu) + disk_weight * (disk - cpu))
//   queue   = waiting_weight * prompt * (waiting - least) / (1 + mean)
//   memory  = kv_weight * prompt * (kv_use - least)
//   score   = saved - queue - memory
//
// gpu <= cpu <= disk are the figures of a lookup (index::RankMatch) in tokens. A token on the host
// or on disk is worth less than one on the device, for it has to be loaded. `trust` is 1, or what
// the weights say where figures may be too high; figures that can only be too low are not
// discounted. `waiting` is the number of requests that wait or run, `kv_use` the part of its KV
// memory that is in use; both count relative to the least loaded instance, so that a load which is
// the same everywhere changes nothing, and `mean` is that over the instances: one request more
// matters where there are two, and not where there are two hundred. Where a load is not known, that
// of the mean is assumed.
//
// So a prompt that nobody holds goes to the least loaded instance, and one that somebody holds goes
// there until the wait costs more than the work that is saved.

struct ScoreWeights {
  double gpu = 1.0;
  double cpu = 0.8;
  double disk = 0.5;
  double waiting = 0.5;   // of the prompt, for a queue that is longer by the mean
  double kv = 0.2;        // of the prompt, for memory that is full against memory that is empty
  double doubtful = 0.5;  // trust in figures that may be too high
  double stale = 0.25;    // trust in figures that nobody has confirmed

  friend bool operator==(const ScoreWeights&, const ScoreWeights&) = default;
};

enum class FigureTrust : uint8_t { kSound, kDoubtful, kStale };

struct ScoreInput {
  uint64_t gpu = 0;  // tokens; gpu <= cpu <= disk
  uint64_t cpu = 0;
  uint64_t disk = 0;
  FigureTrust trust = FigureTrust::kSound;
  std::optional<double> waiting;  // requests, 0 or more
  std::optional<double> kv_use;   // 0 to 1
};

// What a score is made of, in tokens of prefill.
struct Score {
  size_t input = 0;      // which of the inputs
  double saved_gpu = 0;  // before the trust
  double saved_cpu = 0;
  double saved_disk = 0;
  double trust = 1;   // factor
  double queue = 0;   // taken off
  double memory = 0;  // taken off
  double total = 0;
};

// All inputs, the best first. Of those that are equal the ones of the best trust are first, in
// their order, begun at the `rotation`-th of them: who counts it up sends them equally often. An
// instance whose score differs from the best by less than a millionth of the prompt is equal to it.
//   prompt_tokens: what a prefill without any hit would compute.
[[nodiscard]] std::vector<Score> Rank(std::span<const ScoreInput> inputs, uint64_t prompt_tokens,
                                      const ScoreWeights& weights, uint64_t rotation = 0);

}  // namespace conductor::index

#endif  // CONDUCTOR_LIB_INDEX_SCORE_H_
