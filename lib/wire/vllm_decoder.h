#ifndef CONDUCTOR_LIB_WIRE_VLLM_DECODER_H_
#define CONDUCTOR_LIB_WIRE_VLLM_DECODER_H_

#include <optional>
#include <string_view>

#include "lib/base/result.h"
#include "lib/wire/kv_event.h"
#include "lib/wire/msgpack_tape.h"

namespace conductor::wire {

// Reads the payloads of vLLM's ZMQ event publisher, every release, and of those that follow it
// (SGLang, LMCache): batches [ts, events] and [ts, events, data_parallel_rank] (or a map of these
// names), events as positional arrays of any known length and as tagged maps, decided per event;
// hashes as integers of either sign or bytes; see docs/wire-formats.md. A nil and an absent field
// mean the same.
//
// An event that cannot be read, or of a type that is not known, is skipped and told in
// EventBatch::skips; the others of its batch stand. Only a payload that is no batch at all is an
// error, which says at which byte or field. Memory is bounded by the payload's size, whatever its
// headers claim.
//
// Holds buffers for reuse, no state: one per thread.
class VllmDecoder {
 public:
  [[nodiscard]] Result<EventBatch> Decode(std::string_view payload);

 private:
  MsgpackTape tape_;
};

// The batch's timestamp in Unix seconds without decoding its events. A float is seconds; an
// integer is milliseconds from 10^11 on (the year 5138 in seconds, 1973 in milliseconds) and
// seconds below. Nothing when the payload does not begin as a batch does.
[[nodiscard]] std::optional<double> PeekTimestamp(std::string_view payload);

}  // namespace conductor::wire

#endif  // CONDUCTOR_LIB_WIRE_VLLM_DECODER_H_
