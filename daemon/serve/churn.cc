#include "daemon/serve/churn.h"

#include <algorithm>
#include <chrono>

namespace conductor::serve {

void Churn::Look(MonoTime now, const BlockCounts& counts) {
  looks_.push_back({now, counts});
  // One from before the memory's beginning stays: the rate over all of it starts there.
  while (looks_.size() > 1 && looks_[1].time <= now - kChurnMemory) looks_.pop_front();
}

Churn::Rate Churn::Over(Duration window, MonoTime now, const BlockCounts& counts) const {
  // The last look that lies at least `window` back, or the oldest.
  const auto later = std::ranges::upper_bound(looks_, now - window, {}, &At::time);
  const At& from = later == looks_.begin() ? *later : *(later - 1);
  const double seconds = std::max(std::chrono::duration<double>(now - from.time).count(), 1.0);
  return {.stored = static_cast<double>(counts.stored - from.counts.stored) / seconds,
          .removed = static_cast<double>(counts.removed - from.counts.removed) / seconds};
}

}  // namespace conductor::serve
