#ifndef CONDUCTOR_LIB_HASH_HASH_PROFILE_H_
#define CONDUCTOR_LIB_HASH_HASH_PROFILE_H_

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "lib/base/result.h"
#include "lib/hash/block_hash.h"

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

// vLLM's chain of block digests under one profile: digest[i] = H((digest[i-1], tokens, extras)),
// digest[-1] = root(). Pure; thread-safe but for Next, which uses a buffer of its own.
class VllmHasher {
 public:
  explicit VllmHasher(const HashProfile& profile);

  // 32 bytes, 16 for the xxhash pair.
  [[nodiscard]] const std::string& root() const { return root_; }

  // `extras` as hash::ExtraKeys holds them (MessagePack values): the LoRA name first, on every
  // block; multimodal items; the cache salt, on block 0 only; prompt-embeds digests.
  [[nodiscard]] std::string Next(std::string_view parent, std::span<const TokenId> tokens,
                                 const ExtraKeys& extras = {});

  // What events call a block: the last 8 bytes of its digest, big-endian.
  [[nodiscard]] static EngineHash NameOf(std::string_view digest);

 private:
  HashAlgorithm algorithm_;
  std::string root_;
  std::string buffer_;
};

}  // namespace conductor::hash

#endif  // CONDUCTOR_LIB_HASH_HASH_PROFILE_H_
