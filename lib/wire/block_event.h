#ifndef CONDUCTOR_LIB_WIRE_BLOCK_EVENT_H_
#define CONDUCTOR_LIB_WIRE_BLOCK_EVENT_H_

#include <vector>

#include "lib/wire/digest.h"
#include "lib/wire/event_tag.h"
#include "lib/wire/field_reader.h"

namespace conductor::wire {

// Reads an event in the form that vLLM began and vLLM-Ascend, SGLang, LMCache and TensorRT-LLM took
// over (BlockStored, BlockRemoved, AllBlocksCleared), positional or a map, and appends it to
// `events`. What only one of them sends is read from any of them. When reader.error() or
// passed_over() is set afterwards, what was appended is not to be used.
void ReadBlockEvent(FieldReader& reader, EventKind kind, DigestEnd end,
                    std::vector<KvEvent>& events);

}  // namespace conductor::wire

#endif  // CONDUCTOR_LIB_WIRE_BLOCK_EVENT_H_
