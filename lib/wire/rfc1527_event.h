#ifndef CONDUCTOR_LIB_WIRE_RFC1527_EVENT_H_
#define CONDUCTOR_LIB_WIRE_RFC1527_EVENT_H_

#include "lib/wire/digest.h"
#include "lib/wire/event_tag.h"
#include "lib/wire/field_reader.h"
#include "lib/wire/kv_event.h"

namespace conductor::wire {

// Reads an envelope of RFC 1527 that an engine sent ("stored", "removed", "cleared"): a map that
// says of itself which tenant, model, salt, backend, medium and rank it is of. It becomes a
// BlockStored or BlockRemoved with an origin, or a ScopeCleared; batch.last_event_id grows to its
// event_id. vLLM's names are taken as aliases: block_hashes for an absent or empty seq_hashes,
// parent_block_hash for parent_hash, and everything that the RFC has no name for (extra_keys,
// cache_salt, group_idx, kv_cache_spec_kind, locality).
//
// A stored event without tokens must speak of the standard's own hashes: it gets standard_hashes,
// if they came as seq_hashes. A block_size that it does not give follows from tokens and hashes.
//
// As ReadBlockEvent otherwise.
void ReadRfc1527Event(FieldReader& reader, EventKind kind, DigestEnd end, EventBatch& batch);

}  // namespace conductor::wire

#endif  // CONDUCTOR_LIB_WIRE_RFC1527_EVENT_H_
