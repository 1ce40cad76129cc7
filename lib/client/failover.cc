#include "lib/client/failover.h"

#include <algorithm>
#include <utility>

namespace conductor::client {

Failover::Failover(size_t conductors, const Options& options, std::function<double()> random)
    : options_(options), random_(std::move(random)), health_(conductors) {}

std::optional<size_t> Failover::Next(const std::vector<size_t>& candidates, MonoTime now) const {
  std::optional<size_t> soonest;
  for (const size_t candidate : candidates) {
    if (!IsLeftOut(candidate, now)) return candidate;
    if (!soonest || health_[candidate].back < health_[*soonest].back) soonest = candidate;
  }
  return soonest;
}

void Failover::Succeeded(size_t conductor) { health_[conductor].failures = 0; }

void Failover::Failed(size_t conductor, MonoTime now) {
  constexpr uint32_t kMostDoublings = 30;
  Health& health = health_[conductor];
  const auto factor = int64_t{1} << std::min(health.failures, kMostDoublings);
  ++health.failures;
  const Duration least = options_.backoff_min;
  const Duration wait =
      least.count() > options_.backoff_max.count() / factor ? options_.backoff_max : least * factor;
  // From half of it to the whole.
  health.back = now + std::chrono::duration_cast<Duration>(wait * (1 + random_()) / 2);
}

bool Failover::IsLeftOut(size_t conductor, MonoTime now) const {
  const Health& health = health_[conductor];
  return health.failures > 0 && now < health.back;
}

}  // namespace conductor::client
