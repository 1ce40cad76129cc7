#ifndef CONDUCTOR_TESTS_BENCH_FLEET_RUN_H_
#define CONDUCTOR_TESTS_BENCH_FLEET_RUN_H_

#include <array>
#include <cstdint>
#include <vector>

#include "lib/base/result.h"
#include "schedule.h"
#include "target.h"

namespace conductor::bench {

// Lookups are told apart by how many holders they matched.
struct HolderClass {
  const char* name = "";
  uint32_t least = 0;  // that belong to it
};
inline constexpr std::array<HolderClass, 6> kHolderClasses = {
    {{"0", 0}, {"1", 1}, {"2-7", 2}, {"8-63", 8}, {"64-511", 64}, {"512+", 512}}};

struct Results {
  double taken_seconds = 0;     // from the start until all is asked, announced and in the index
  double drain_seconds = 0;     // of these, after the schedule's last moment
  uint64_t walked_blocks = 0;   // by lookups
  uint64_t matched_blocks = 0;  // by the best holder of each prompt
  uint64_t resident_bytes = 0;  // of the process with the index, at the end
  // Of each class, sorted. In seconds from the moment when the question was to be asked, so that
  // what waits behind a slow answer counts its waiting.
  std::array<std::vector<double>, kHolderClasses.size()> latencies;
};

// Puts the load on the target: open loop, each question asked by the next free of `clients` threads
// and all announcements made by one more. Only the announcement of a step whose answer is not there
// yet waits for it, and those after it wait too. Ends at the first error.
[[nodiscard]] Result<Results> Run(Target& target, const Schedule& schedule, uint32_t clients);

}  // namespace conductor::bench

#endif  // CONDUCTOR_TESTS_BENCH_FLEET_RUN_H_
