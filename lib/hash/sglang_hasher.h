#ifndef CONDUCTOR_LIB_HASH_SGLANG_HASHER_H_
#define CONDUCTOR_LIB_HASH_SGLANG_HASHER_H_

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "lib/hash/block_hash.h"
#include "lib/hash/sha256.h"

namespace conductor::hash {

// SGLang's chain of page digests, by which HiCache names pool objects and events name pages:
//
//   digest[-1] = root(): nothing, or SHA-256("sglang-cache-salt-v1" 00 salt) of a salted request
//   digest[i]  = SHA-256(digest[i-1] ‖ tokens of page i as little-endian u32)
//
// There is no seed, and no LoRA name in it. Of a page of the tokens 1000, 1037, 1074, 1111:
//
//   e8030000 0d040000 32040000 57040000
//   digest 58477e0f96dd7262..f7cb5605, in events 0x58477e0f96dd7262 as a signed integer
//
// NameOf may be called from anywhere; Next uses a context of its own: one hasher a thread.
class SglangHasher {
 public:
  // With the cache salt of the request, if it has one; "" is a salt too.
  explicit SglangHasher(std::optional<std::string_view> cache_salt = std::nullopt);

  // Empty without a salt, otherwise 32 bytes.
  [[nodiscard]] const std::string& root() const { return root_; }

  // The digest of the page of `tokens` that follows the page `parent`, root() for the first.
  [[nodiscard]] std::string Next(std::string_view parent, std::span<const TokenId> tokens);

  // What events call a page: the first 8 bytes of its digest, big-endian; SGLang writes it as a
  // signed integer, and an EngineHash is that one's two's complement. Requires digest.size() >= 8.
  [[nodiscard]] static EngineHash NameOf(std::string_view digest);

 private:
  Sha256 sha256_;
  std::string root_;
};

}  // namespace conductor::hash

#endif  // CONDUCTOR_LIB_HASH_SGLANG_HASHER_H_
