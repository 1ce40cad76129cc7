#ifndef CONDUCTOR_LIB_WIRE_VLLM_ENCODER_H_
#define CONDUCTOR_LIB_WIRE_VLLM_ENCODER_H_

#include <string>

#include "lib/wire/kv_event.h"

namespace conductor::wire {

// The payload that vLLM from v0.24.0 on sends for `batch`: a positional batch of three (a missing
// rank as nil), events as tagged maps in declaration order, fields equal to their default left
// out. Integer hashes, unsigned. Only `timestamp`, `dp_rank` and `events` are written.
// The simulated fleet and tests publish with it.
[[nodiscard]] std::string EncodeVllmBatch(const EventBatch& batch);

}  // namespace conductor::wire

#endif  // CONDUCTOR_LIB_WIRE_VLLM_ENCODER_H_
