#ifndef CONDUCTOR_LIB_SIMULATE_FLEET_MODEL_H_
#define CONDUCTOR_LIB_SIMULATE_FLEET_MODEL_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "lib/base/clock.h"
#include "lib/base/tier.h"

namespace conductor::simulate {

// What a simulated fleet is made of: `engines` alike, each of `ranks` data-parallel ranks. A rank
// has a cache, a queue and a batch of its own, and is what a request is sent to.
//
// How a rank works, and so what a simulation can say (docs/simulation.md has the limits too):
//
//   * Requests wait in the order of their arrival. The first of them starts as soon as no other is
//     in prefill, the batch has room, and the device has room for all blocks of its prompt and its
//     answer, which are its own until its end: nothing is ever preempted.
//   * The leading blocks that are cached on the device, from there on those on the host, from there
//     on those on host or disk are hits: gpu, cpu, disk as index::RankMatch counts them. The last
//     token of a prompt is always computed, as engines need its output.
//   * prefill = prefill_overhead + loads of hits on host and disk, a block at a time
//               + the rest of the prompt / prefill_speed
//     It does not slow the decoding of others, nor they it.
//   * The first token comes with the prefill's end, each further one 1 / decode_speed later,
//     however many others are in the batch.
//   * Blocks of the prompt can be hit from the end of its prefill on, those of the answer from the
//     request's end on. Blocks of running requests stay; of others the least recently used one
//     goes when there is no room, those at the end of a prompt before those at its start: from the
//     device to the host, from there to disk, from there for good; a tier without blocks is left
//     out. A block is on one tier at a time: a hit moves it to the device. What moves down costs
//     no time.
struct FleetModel {
  uint32_t engines = 8;      // 1 to 1024
  uint32_t ranks = 1;        // of each engine, 1 to 64
  uint32_t block_size = 16;  // tokens, 1 to 65536
  // Blocks of one rank by Tier; at least 1 on the device.
  std::array<uint32_t, kTierCount> blocks = {16384, 0, 0};
  double prefill_speed = 10000;  // tokens a second of one rank
  Duration prefill_overhead = std::chrono::milliseconds(10);
  double decode_speed = 40;  // tokens a second of one request
  uint32_t max_batch = 64;   // requests of a rank that are in prefill or decoding
  // To load a block, by Tier; the device's is not used.
  std::array<Duration, kTierCount> load = {Duration{}, std::chrono::microseconds(100),
                                           std::chrono::milliseconds(1)};

  [[nodiscard]] size_t targets() const { return size_t{engines} * ranks; }
};

// A rank of the fleet as policies and figures number it. Neighbours are of different engines: 0 is
// rank 0 of the first engine, 1 rank 0 of the second.
struct Target {
  uint32_t engine = 0;
  uint32_t rank = 0;
};
[[nodiscard]] inline Target TargetOf(const FleetModel& fleet, size_t number) {
  return {static_cast<uint32_t>(number % fleet.engines),
          static_cast<uint32_t>(number / fleet.engines)};
}
[[nodiscard]] inline size_t NumberOf(const FleetModel& fleet, Target target) {
  return size_t{target.rank} * fleet.engines + target.engine;
}

}  // namespace conductor::simulate

#endif  // CONDUCTOR_LIB_SIMULATE_FLEET_MODEL_H_
