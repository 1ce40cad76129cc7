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
#include "lib/index/prefix_source.h"

namespace conductor::serve {

// The prefix hashes of a prompt's whole blocks, until a stop is requested.
class PromptChain final : public index::PrefixSource {
 public:
  // `tokens` and `stop` must outlive it; block_size > 0.
  PromptChain(std::span<const TokenId> tokens, uint32_t block_size, const std::string& cache_salt,
              uint64_t hash_seed, const std::stop_token& stop)
      : first_keys_(KeysOf(cache_salt)),
        chain_(tokens, block_size, hash_seed, first_keys_),
        stop_(stop) {}
  PromptChain(const PromptChain&) = delete;
  PromptChain& operator=(const PromptChain&) = delete;

  [[nodiscard]] size_t Next(std::span<PrefixHash> out) override {
    return stop_.stop_requested() ? 0 : chain_.Next(out);
  }

 private:
  [[nodiscard]] static hash::ExtraKeys KeysOf(const std::string& cache_salt) {
    if (cache_salt.empty()) return {};
    return {hash::TextKey(cache_salt)};
  }

  const hash::ExtraKeys first_keys_;
  index::TokenChain chain_;
  const std::stop_token& stop_;
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
