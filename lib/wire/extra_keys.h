#ifndef CONDUCTOR_LIB_WIRE_EXTRA_KEYS_H_
#define CONDUCTOR_LIB_WIRE_EXTRA_KEYS_H_

#include "lib/base/result.h"
#include "lib/hash/block_hash.h"
#include "lib/wire/msgpack_tape.h"

namespace conductor::wire {

// The extra keys of one block from its entry in an event's extra_keys: nil is none, an array is
// its items, and a single text or bytes value is one key. Each item is encoded again in the form
// that lib/hash hashes: shortest heads, floats in double precision, arrays item by item. So equal
// keys are equal bytes, whatever the sender's encoder chose. A map or an extension is refused: no
// release sends one, and its order would be part of the hash.
[[nodiscard]] Result<hash::ExtraKeys> ReadExtraKeys(MsgpackValue entry);

}  // namespace conductor::wire

#endif  // CONDUCTOR_LIB_WIRE_EXTRA_KEYS_H_
