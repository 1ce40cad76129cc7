#ifndef CONDUCTOR_LIB_WIRE_SGLANG_METADATA_H_
#define CONDUCTOR_LIB_WIRE_SGLANG_METADATA_H_

#include "lib/wire/field_reader.h"

namespace conductor::wire {

// SGLang's events are vLLM's (block_event.h) but for three things: digests give their first 8
// bytes, tokens may be bigrams (FieldReader::Tokens), and where a positional event of vLLM's has
// its lora_name stands a map of metadata, {"cache_salt": ...}, for salted requests only.

// Reads that map into cache_salt and lora_name. Requires value.is_map().
void ReadSglangMetadata(FieldReader& reader, MsgpackValue value, BlockStored& out);

}  // namespace conductor::wire

#endif  // CONDUCTOR_LIB_WIRE_SGLANG_METADATA_H_
