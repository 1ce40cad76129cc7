#ifndef CONDUCTOR_LIB_HASH_PICKLE_BLOCK_H_
#define CONDUCTOR_LIB_HASH_PICKLE_BLOCK_H_

#include <span>
#include <string>
#include <string_view>

#include "lib/base/result.h"
#include "lib/hash/block_hash.h"

namespace conductor::hash {

// What CPython's pickle.dumps(value, protocol=5) writes for the values that vLLM hashes, byte for
// byte, frames included. For ("p" * 32 as bytes, (5, 300, 70000, 2), ("ad", ("img", 3))):
//
//   80 05                        PROTO 5
//   95 46 00 00 00 00 00 00 00   FRAME: 70 bytes follow
//   43 20 70..70 94              SHORT_BINBYTES of 32, MEMOIZE          (42 u32 above 255 bytes)
//   28                           MARK: a tuple of more than three begins
//   4b 05                        BININT1                                (0 .. 255)
//   4d 2c 01                     BININT2, little-endian                 (.. 65535)
//   4a 70 11 01 00               BININT                                 (other 32-bit signed)
//   4b 02                        (8a 05 .. LONG1 for what is wider: tokens from 2^31 on)
//   74 94                        TUPLE, MEMOIZE      (85, 86, 87 for one to three items; 29 for
//   none) 8c 02 61 64 94               SHORT_BINUNICODE, MEMOIZE              (58 u32 above 255
//   bytes) 8c 03 69 6d 67 94 4b 03      the item's identifier and offset 86 94 TUPLE2, MEMOIZE: the
//   item 86 94                        TUPLE2, MEMOIZE: the extra keys        (4e, None, without
//   any) 87 94 2e                     TUPLE3, MEMOIZE, STOP
//
// A frame ends at the first value that begins 64 KiB or more into it; text or bytes of 64 KiB or
// more stand between frames.
//
// pickle writes an object that it has met before as a reference (68 <its number>), and goes by
// identity, not by equality. CPython keeps one object for each text of at most one Latin-1
// character and for bytes of at most one, so these are written as references here too. Whether an
// engine holds one object or two for other equal texts (a LoRA name that is also the salt, one
// image twice in a block) cannot be known from outside: two are assumed.

// Appends the pickle of (parent, tokens, extras) to `out`. An error, which names the key, when an
// extra key is none of those of lib/hash/extra_key.h; `out` is then of no use.
[[nodiscard]] Status PickleBlock(std::string_view parent, std::span<const TokenId> tokens,
                                 const ExtraKeys& extras, std::string& out);

// Appends the pickle of one text, a seed.
void PickleText(std::string_view text, std::string& out);

}  // namespace conductor::hash

#endif  // CONDUCTOR_LIB_HASH_PICKLE_BLOCK_H_
