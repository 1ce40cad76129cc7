#ifndef CONDUCTOR_LIB_WIRE_MOONCAKE_EVENT_H_
#define CONDUCTOR_LIB_WIRE_MOONCAKE_EVENT_H_

#include "lib/wire/event_tag.h"
#include "lib/wire/field_reader.h"
#include "lib/wire/kv_event.h"

namespace conductor::wire {

// Reads an RFC 1527 map about an object of a pool, in either profile, with or without the legacy
// aliases:
//  * A Mooncake Store master names the object (`object_key`) and where it lies; what the standard
//    asks for beside that is nil. A master that was told to leave the key out sends only objects
//    whose key is a number, and that as the one item of seq_hashes (or of the legacy block_hashes):
//    its decimal is the key.
//  * The profile of Mooncake's own conductor says in fields what the key would: a stored object
//    that has a connector_block_hash (16 hex digits or more, of which the last 16 count) gets
//    ObjectStored::described, of family kDescribed.
// It becomes ObjectStored, ObjectRemoved or ScopeCleared; batch.last_event_id grows to its
// event_id. Fields that are not needed are not looked at. As ReadBlockEvent otherwise.
void ReadMooncakeEvent(FieldReader& reader, EventKind kind, EventBatch& batch);

}  // namespace conductor::wire

#endif  // CONDUCTOR_LIB_WIRE_MOONCAKE_EVENT_H_
