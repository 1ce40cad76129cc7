#ifndef CONDUCTOR_LIB_HASH_HASH_PROFILE_H_
#define CONDUCTOR_LIB_HASH_HASH_PROFILE_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "lib/base/result.h"
#include "lib/hash/block_hash.h"
#include "lib/hash/sha256.h"

namespace conductor::hash {

// vLLM's --prefix-caching-hash-algo, as far as it can be computed outside of it.
enum class HashAlgorithm : uint8_t {
  kSha256,      // SHA-256 over pickle protocol 5
  kSha256Cbor,  // SHA-256 over canonical CBOR
  kXxhash,      // XXH3-128 over pickle protocol 5
  kXxhashCbor,  // XXH3-128 over canonical CBOR
};
// "sha256", "sha256_cbor", "xxhash", "xxhash_cbor".
[[nodiscard]] std::string_view HashAlgorithmName(HashAlgorithm algorithm);
[[nodiscard]] Result<HashAlgorithm> ParseHashAlgorithm(std::string_view text);

// How an engine hashes its blocks (strategy vllm_v1): declared at registration, never needed for
// an answer from events alone.
struct HashProfile {
  HashAlgorithm algorithm = HashAlgorithm::kSha256;
  // PYTHONHASHSEED as it is written ("0" and "00" differ), or what vLLM takes without one.
  std::string seed = "vllm-none-hash";
  uint32_t hash_block_size = 0;  // tokens; 0: the block size

  friend bool operator==(const HashProfile&, const HashProfile&) = default;
};

// vLLM's chain of block digests under one profile (vllm/v1/core/kv_cache_utils.py):
//
//   digest[-1] = root()    = H(serialise(seed text))
//   digest[i]              = H(serialise((digest[i-1], tokens of block i, extras or None)))
//
// pickle_block.h and cbor_block.h show the bytes. With seed "0", sha256_cbor, tokens 5, 300, 70000,
// 2 and the extras "ad" (a LoRA name) and "salt":
//
//   seed      61 30                                            root      4e1195df..2e61c3
//   block 0   83 5820 4e1195df..2e61c3 84 05 19012c 1a00011170 02 82 626164 6473616c74
//             digest 02a02783..98c08ff5a24, in events 3555145006022875684
//
// NameOf may be called from anywhere; everything else uses buffers of its own: one hasher a thread.
class VllmHasher {
 public:
  explicit VllmHasher(const HashProfile& profile);

  // 32 bytes, 16 for the xxhash pair.
  [[nodiscard]] const std::string& root() const { return root_; }

  // The digest of the block of `tokens` that follows the block `parent`, root() for the first.
  // `extras` as hash::ExtraKeys holds them (MessagePack values): the LoRA name first, on every
  // block; multimodal items; the cache salt, on block 0 only; prompt-embeds digests. Allocates
  // nothing but the digest once its buffer has grown. An error, which names the key, for an extra
  // key of a form that no engine hashes (lib/hash/extra_key.h): such a block has no digest.
  [[nodiscard]] Result<std::string> Next(std::string_view parent, std::span<const TokenId> tokens,
                                         const ExtraKeys& extras = {});

  // What events call a block: the last 8 bytes of its digest, big-endian. Requires
  // digest.size() >= 8.
  [[nodiscard]] static EngineHash NameOf(std::string_view digest);

 private:
  // Of what buffer_ holds.
  [[nodiscard]] std::string Digest();

  HashAlgorithm algorithm_;
  Sha256 sha256_;
  std::string root_;
  std::string buffer_;
};

}  // namespace conductor::hash

#endif  // CONDUCTOR_LIB_HASH_HASH_PROFILE_H_
