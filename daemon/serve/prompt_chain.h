#ifndef CONDUCTOR_DAEMON_SERVE_PROMPT_CHAIN_H_
#define CONDUCTOR_DAEMON_SERVE_PROMPT_CHAIN_H_

#include <cstddef>
#include <cstdint>
#include <list>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "lib/hash/block_hash.h"
#include "lib/hash/hash_profile.h"

namespace conductor::serve {

// The prefix hashes of a prompt's whole blocks, computed as they are asked for.
class PromptChain {
 public:
  // `tokens` and `stop` must outlive it; block_size > 0.
  PromptChain(std::span<const TokenId> tokens, uint32_t block_size, const std::string& cache_salt,
              uint64_t hash_seed, const std::stop_token& stop)
      : tokens_(tokens), block_size_(block_size), hash_seed_(hash_seed), stop_(stop) {
    if (!cache_salt.empty()) first_keys_.push_back(hash::TextKey(cache_salt));
  }

  // Nothing at the prompt's end, and soon after a stop was requested.
  [[nodiscard]] std::optional<PrefixHash> Next() {
    constexpr uint64_t kBlocksBetweenLooks = 1024;
    if (++blocks_ % kBlocksBetweenLooks == 0 && stop_.stop_requested()) return std::nullopt;
    if (tokens_.size() < block_size_) return std::nullopt;
    const auto block = tokens_.first(block_size_);
    tokens_ = tokens_.subspan(block_size_);
    if (previous_) {
      previous_ = hash::NextPrefix(*previous_, hash::HashBlock(block, {}, hash_seed_), hash_seed_);
    } else {
      previous_ = hash::FirstPrefix(hash::HashBlock(block, first_keys_, hash_seed_));
    }
    return previous_;
  }

 private:
  std::span<const TokenId> tokens_;
  uint32_t block_size_;
  uint64_t hash_seed_;
  const std::stop_token& stop_;
  hash::ExtraKeys first_keys_;
  std::optional<PrefixHash> previous_;
  uint64_t blocks_ = 0;
};

// What a prompt's whole blocks are called under the profiles that pools declare, computed as it is
// asked for.
class PromptNames {
 public:
  // `tokens` must outlive it; block_size > 0.
  PromptNames(std::span<const TokenId> tokens, uint32_t block_size, const std::string& lora_name,
              const std::string& cache_salt);

  // Nothing behind the prompt's end, and where the profile's hash blocks do not divide a block.
  [[nodiscard]] std::optional<EngineHash> At(const hash::HashProfile& profile, size_t block);

 private:
  struct Chain {
    explicit Chain(const hash::HashProfile& of) : profile(of), hasher(of), digest(hasher.root()) {}

    hash::HashProfile profile;
    hash::VllmHasher hasher;
    std::string digest;  // of the last hash block
    size_t hashed = 0;   // tokens
    std::vector<EngineHash> names;
  };

  [[nodiscard]] Chain& ChainOf(const hash::HashProfile& profile);

  std::span<const TokenId> tokens_;
  uint32_t block_size_;
  hash::ExtraKeys first_keys_;  // of the first hash block
  hash::ExtraKeys other_keys_;
  std::list<Chain> chains_;  // one for each profile, few
};

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_PROMPT_CHAIN_H_
