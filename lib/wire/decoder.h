#ifndef CONDUCTOR_LIB_WIRE_DECODER_H_
#define CONDUCTOR_LIB_WIRE_DECODER_H_

#include <string_view>

#include "lib/base/result.h"
#include "lib/wire/dialect.h"
#include "lib/wire/kv_event.h"
#include "lib/wire/msgpack_tape.h"

namespace conductor::wire {

// Reads the payloads of every publisher of KV events that is known: batches [ts, events] and [ts,
// events, data_parallel_rank] (or a map of these names) of events in one of three forms, decided
// event by event, whatever dialect was registered:
//
//   vLLM's       arrays of any known length and maps tagged BlockStored, BlockRemoved,
//                AllBlocksCleared (block_event.h)
//   RFC 1527's   maps with event_type stored, removed, cleared, or with a key of the RFC's
//                (rfc1527_event.h)
//   a pool's     such maps that name an object (mooncake_event.h)
//
// The registered dialect decides what the form cannot show: which end of a digest is a block's name
// (SGLang and LMCache: the first 8 bytes), and that a Mooncake master speaks of objects even where
// it does not name them. docs/wire-formats.md describes them all. A nil and an absent field mean
// the same.
//
// An event that cannot be read, or of a type that is not known, is skipped and told in
// EventBatch::skips; the others of its batch stand. Only a payload that is no batch at all is an
// error, which says at which byte or field. Memory is bounded by the payload's size, whatever its
// headers claim.
//
// Holds buffers for reuse, no state: one per thread.
class Decoder {
 public:
  explicit Decoder(Dialect dialect) : dialect_(dialect) {}

  [[nodiscard]] Result<EventBatch> Decode(std::string_view payload);

 private:
  Dialect dialect_;
  MsgpackTape tape_;
};

}  // namespace conductor::wire

#endif  // CONDUCTOR_LIB_WIRE_DECODER_H_
