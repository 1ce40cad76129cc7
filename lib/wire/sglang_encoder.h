#ifndef CONDUCTOR_LIB_WIRE_SGLANG_ENCODER_H_
#define CONDUCTOR_LIB_WIRE_SGLANG_ENCODER_H_

#include <string>

#include "lib/wire/kv_event.h"

namespace conductor::wire {

// What SGLang sends for `batch`: a batch of three, a missing rank as nil; hashes as signed
// integers. Only `timestamp`, `dp_rank` and, of the events, what SGLang has a field for is written;
// events that it has no form for are left out.

// Until September 2026: stored of 7 slots, and of 8 where there is a cache_salt, which stands in a
// map of metadata in the last; removed of 3.
[[nodiscard]] std::string EncodeSglangPositionalBatch(const EventBatch& batch);

// Since then: tagged maps, with cache_salt where there is one.
[[nodiscard]] std::string EncodeSglangBatch(const EventBatch& batch);

}  // namespace conductor::wire

#endif  // CONDUCTOR_LIB_WIRE_SGLANG_ENCODER_H_
