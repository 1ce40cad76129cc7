#ifndef CONDUCTOR_LIB_WIRE_LOCALITY_H_
#define CONDUCTOR_LIB_WIRE_LOCALITY_H_

#include "lib/wire/field_reader.h"

namespace conductor::wire {

// Passes the event over unless its `locality` is nil, empty or LOCAL (in any case): REMOTE blocks
// lie where the announcing engine is not, so they are no holding of it, and what another word
// means is not known. Removals too, for the stores that they undo were passed over: a block that
// also lies locally has a removal of its own for that.
void ReadLocality(FieldReader& reader, MsgpackValue locality);

}  // namespace conductor::wire

#endif  // CONDUCTOR_LIB_WIRE_LOCALITY_H_
