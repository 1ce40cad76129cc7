#ifndef CONDUCTOR_LIB_WIRE_TENSORRT_LLM_KEYS_H_
#define CONDUCTOR_LIB_WIRE_TENSORRT_LLM_KEYS_H_

#include "lib/wire/field_reader.h"

namespace conductor::wire {

// TensorRT-LLM's events are vLLM's maps (block_event.h), with token ids that may be text and, in
// place of extra_keys, `mm_keys`: an entry for each block, nil or an array of
// {"type": "mm_key", "hash", "start_offset", "uuid"}, one for each image that the block overlaps.

// Appends them to the extra keys of their blocks as vLLM's items [identifier, offset], so that one
// prompt is one chain whichever engine announces it. The identifier is the uuid where the request
// gave one, else the hash (as text; bytes become hex). TensorRT-LLM's start_offset is how much of
// the image lies before the block, 0 if it begins in it; vLLM's offset is where the image begins,
// counted from the block: -start_offset. For an image that begins inside the block, and not with
// it, the two differ: TensorRT-LLM does not say where.
void ReadMmKeys(FieldReader& reader, MsgpackValue value, BlockStored& out);

}  // namespace conductor::wire

#endif  // CONDUCTOR_LIB_WIRE_TENSORRT_LLM_KEYS_H_
