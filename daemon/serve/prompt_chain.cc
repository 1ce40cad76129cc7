#include "daemon/serve/prompt_chain.h"

#include <utility>

namespace conductor::serve {

PromptNames::PromptNames(std::span<const TokenId> tokens, uint32_t block_size,
                         const std::string& lora_name, const std::string& cache_salt)
    : tokens_(tokens), block_size_(block_size) {
  if (!lora_name.empty()) other_keys_.push_back(hash::TextKey(lora_name));
  first_keys_ = other_keys_;
  if (!cache_salt.empty()) first_keys_.push_back(hash::TextKey(cache_salt));
}

std::optional<EngineHash> PromptNames::At(const hash::HashProfile& profile, size_t block) {
  const size_t step = profile.hash_block_size != 0 ? profile.hash_block_size : block_size_;
  if (block_size_ % step != 0 || (block + 1) * block_size_ > tokens_.size()) return std::nullopt;
  Chain& chain = ChainOf(profile);
  while (chain.names.size() <= block) {
    for (size_t end = chain.hashed + block_size_; chain.hashed < end; chain.hashed += step) {
      auto digest = chain.hasher.Next(chain.digest, tokens_.subspan(chain.hashed, step),
                                      chain.hashed == 0 ? first_keys_ : other_keys_);
      if (!digest) return std::nullopt;
      chain.digest = std::move(*digest);
    }
    chain.names.push_back(hash::VllmHasher::NameOf(chain.digest));
  }
  return chain.names[block];
}

PromptNames::Chain& PromptNames::ChainOf(const hash::HashProfile& profile) {
  for (Chain& chain : chains_) {
    if (chain.profile == profile) return chain;
  }
  return chains_.emplace_back(profile);
}

}  // namespace conductor::serve
