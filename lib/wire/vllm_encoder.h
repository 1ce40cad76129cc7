#ifndef CONDUCTOR_LIB_WIRE_VLLM_ENCODER_H_
#define CONDUCTOR_LIB_WIRE_VLLM_ENCODER_H_

#include <cstdint>
#include <string>

#include "lib/wire/kv_event.h"

namespace conductor::wire {

// What vLLM sends for `batch`. The simulated fleet, replay and tests publish with it.
//
// Only `timestamp`, `dp_rank` and `events` are written, hashes as unsigned integers. Events that
// vLLM has no form for (a pool's objects, RFC 1527's clearing of a scope) are left out, and so is
// what an RFC 1527 envelope says beside the blocks.

// From v0.24.0 on: a positional batch of three (a missing rank as nil), events as tagged maps in
// declaration order, fields equal to their default left out. A cache_salt follows as SGLang's key.
[[nodiscard]] std::string EncodeVllmBatch(const EventBatch& batch);

// The positional events before that.
enum class VllmSlots : uint8_t {
  kV0_9_0,  // stored of 6 slots, removed of 2; a batch of two, without a rank
  kV0_11,   // stored of 7, removed of 3: medium; a batch of three, as from v0.9.1 on
  kV0_23,   // stored of 12, removed of 4: to the sliding window (always nil) and the group
};
// Fields without a slot are left out.
[[nodiscard]] std::string EncodeVllmPositionalBatch(const EventBatch& batch, VllmSlots slots);

}  // namespace conductor::wire

#endif  // CONDUCTOR_LIB_WIRE_VLLM_ENCODER_H_
