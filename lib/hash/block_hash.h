#ifndef CONDUCTOR_LIB_HASH_BLOCK_HASH_H_
#define CONDUCTOR_LIB_HASH_BLOCK_HASH_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace conductor {

// A token id as engines number their vocabulary.
using TokenId = uint32_t;

// Hash of one block's tokens and extra keys, whatever stands before it.
enum class LocalHash : uint64_t {};

// Rolling hash of a block and all blocks before it: Conductor's own identity of a block.
enum class PrefixHash : uint64_t {};

// What an engine calls a block. Opaque: a name to be looked up, never compared with ours.
// Signed integers are taken by their two's complement, digests by those 8 of their bytes,
// big-endian, that the engine itself takes for an integer (vLLM the last, SGLang the first).
enum class EngineHash : uint64_t {};

}  // namespace conductor

namespace conductor::hash {

// The seed that RFC 1527's users share; one setting for a whole daemon.
inline constexpr uint64_t kDefaultSeed = 1337;

// The extra keys of one block, in the engine's order: LoRA name, multimodal items, cache salt,
// prompt-embeds digest. Each is one MessagePack value in its shortest form. A block's tokens alone
// do not name it when there are any.
using ExtraKeys = std::vector<std::string>;

// A text key (a cache salt, a LoRA name, a bare multimodal identifier).
[[nodiscard]] std::string TextKey(std::string_view text);

// A multimodal item: an array of identifier and offset.
[[nodiscard]] std::string ItemKey(std::string_view identifier, int64_t offset);

// A LoRA id, as engines had before they hashed its name.
[[nodiscard]] std::string IntegerKey(int64_t number);

// A digest of prompt embeds.
[[nodiscard]] std::string BytesKey(std::string_view bytes);

// XXH3-64 of the tokens as little-endian u32, followed, where there are extra keys, by the
// MessagePack array of them. Without extra keys this is `local_i` of RFC 1527.
[[nodiscard]] LocalHash HashBlock(std::span<const TokenId> tokens, const ExtraKeys& extra_keys,
                                  uint64_t seed);

// prefix[0] = local[0].
[[nodiscard]] PrefixHash FirstPrefix(LocalHash local);

// prefix[i] = XXH3-64(prefix[i-1] as LE u64 ‖ local[i] as LE u64): `seq_i` of RFC 1527.
[[nodiscard]] PrefixHash NextPrefix(PrefixHash parent, LocalHash local, uint64_t seed);

// The chain over blocks without extra keys: out[i] is the prefix hash of the i-th of them.
//   tokens.size() >= out.size() * block_size; block_size > 0
// `last`: the prefix hash of the block before them; nothing: they begin a prompt.
void HashChain(std::span<const TokenId> tokens, uint32_t block_size, const PrefixHash* last,
               uint64_t seed, std::span<PrefixHash> out);

// The local hashes of blocks without extra keys.
//   tokens.size() >= out.size() * block_size; block_size > 0
void HashBlocks(std::span<const TokenId> tokens, uint32_t block_size, uint64_t seed,
                std::span<LocalHash> out);

}  // namespace conductor::hash

#endif  // CONDUCTOR_LIB_HASH_BLOCK_HASH_H_
