#ifndef CONDUCTOR_LIB_HASH_CBOR_BLOCK_H_
#define CONDUCTOR_LIB_HASH_CBOR_BLOCK_H_

#include <span>
#include <string>
#include <string_view>

#include "lib/base/result.h"
#include "lib/hash/block_hash.h"

namespace conductor::hash {

// Canonical CBOR (RFC 8949 section 4.2, Python's cbor2.dumps(value, canonical=True)) of the values
// that vLLM hashes: shortest heads, definite lengths. For
// ("p" * 32 as bytes, (5, 300, 70000, 2), ("ad", ("img", 3))):
//
//   83                           array of 3
//   58 20 70..70                 bytes, 32 of them
//   84 05 19 012c 1a 00011170 02 array of 4 integers      (0..23; 18 u8; 19 u16; 1a u32; 20.. below
//   0) 82                           array of 2 extra keys    (f6, null, without any) 62 61 64 text
//   of 2 bytes 82 63 69 6d 67 03            array of the item's identifier and offset

// Appends (parent, tokens, extras) to `out`. An error, which names the key, when an extra key is
// none of those of lib/hash/extra_key.h; `out` is then of no use.
[[nodiscard]] Status CborBlock(std::string_view parent, std::span<const TokenId> tokens,
                               const ExtraKeys& extras, std::string& out);

// Appends one text, a seed.
void CborText(std::string_view text, std::string& out);

}  // namespace conductor::hash

#endif  // CONDUCTOR_LIB_HASH_CBOR_BLOCK_H_
