#ifndef CONDUCTOR_LIB_WIRE_DIGEST_H_
#define CONDUCTOR_LIB_WIRE_DIGEST_H_

#include <cstdint>
#include <optional>
#include <string_view>

#include "lib/hash/block_hash.h"
#include "lib/wire/msgpack_tape.h"

namespace conductor::wire {

// Which 8 bytes of a digest an engine takes, big-endian, for the integer in its events. One fleet
// may spell the same block as digest here and as integer there, so it matters.
enum class DigestEnd : uint8_t {
  kFirst,  // SGLang, LMCache
  kLast,   // vLLM and everybody else
};

// The name that a block has on the wire:
//   an integer        itself, negative ones as two's complement
//   bytes             a digest of 8, 16 or a multiple of 32: 8 bytes of it
//   text              "0x" and up to 16 hex digits; a decimal of 64 bits and either sign; or a
//                     digest in 16, 32 or a multiple of 64 hex digits
// Nothing for anything else.
[[nodiscard]] std::optional<EngineHash> HashOf(MsgpackValue value, DigestEnd end);

// What HashOf takes, for messages.
inline constexpr std::string_view kHashExpected =
    "an integer of 64 bits, a digest of 8, 16 or a multiple of 32 bytes, or its hex text";

// The number that up to 16 hex digits are; of more, the 16 at that end. Nothing for no digits or
// when any is none.
[[nodiscard]] std::optional<EngineHash> HashOfHex(std::string_view digits, DigestEnd end);

}  // namespace conductor::wire

#endif  // CONDUCTOR_LIB_WIRE_DIGEST_H_
