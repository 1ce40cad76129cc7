#include "daemon/serve/prompt_chain.h"

#include <algorithm>
#include <utility>

#include "lib/hash/extra_key.h"

namespace conductor::serve {

std::vector<hash::ExtraKeys> WithSalt(std::vector<hash::ExtraKeys> given,
                                      const std::string& cache_salt) {
  if (cache_salt.empty()) return given;
  if (given.empty()) given.emplace_back();
  hash::ExtraKeys& first = given.front();
  const auto embeds = std::ranges::find_if(first, [](const std::string& key) {
    const auto read = hash::ReadExtraKey(key);
    return read && read->kind == hash::ExtraKey::Kind::kBytes;
  });
  first.insert(embeds, hash::TextKey(cache_salt));
  return given;
}

PromptChain::PromptChain(const PromptView& prompt, uint32_t block_size, uint64_t hash_seed)
    : keys_(prompt.extra_keys),
      tokens_(prompt.tokens),
      block_size_(block_size),
      hash_seed_(hash_seed) {}

size_t PromptChain::Next(std::span<PrefixHash> out) {
  const size_t count = std::min(out.size(), tokens_.size() / block_size_);
  size_t done = 0;
  for (; done < count && !keys_.empty(); ++done) {
    const LocalHash local = hash::HashBlock(tokens_.first(block_size_), keys_.front(), hash_seed_);
    last_ = begun_ ? hash::NextPrefix(last_, local, hash_seed_) : hash::FirstPrefix(local);
    begun_ = true;
    out[done] = last_;
    keys_ = keys_.subspan(1);
    tokens_ = tokens_.subspan(block_size_);
  }
  if (done == count) return count;
  hash::HashChain(tokens_, block_size_, begun_ ? &last_ : nullptr, hash_seed_,
                  out.subspan(done, count - done));
  last_ = out[count - 1];
  begun_ = true;
  tokens_ = tokens_.subspan((count - done) * block_size_);
  return count;
}

PromptNames::PromptNames(const PromptView& prompt, uint32_t block_size, std::string_view lora_name)
    : prompt_(prompt), block_size_(block_size) {
  if (!lora_name.empty()) lora_keys_.push_back(hash::TextKey(lora_name));
}

std::optional<EngineHash> PromptNames::At(const hash::HashProfile& profile, size_t block) {
  const size_t step = profile.hash_block_size != 0 ? profile.hash_block_size : block_size_;
  if (block_size_ % step != 0 || (block + 1) * block_size_ > prompt_.tokens.size()) {
    return std::nullopt;
  }
  if (step != block_size_ && prompt_.extra_keys.size() > 1) return std::nullopt;
  Chain& chain = ChainOf(profile);
  while (chain.names.size() <= block) {
    for (size_t end = chain.hashed + block_size_; chain.hashed < end; chain.hashed += step) {
      auto digest = chain.hasher.Next(chain.digest, prompt_.tokens.subspan(chain.hashed, step),
                                      KeysAt(chain.hashed));
      if (!digest) return std::nullopt;
      chain.digest = std::move(*digest);
    }
    chain.names.push_back(hash::VllmHasher::NameOf(chain.digest));
  }
  return chain.names[block];
}

hash::ExtraKeys PromptNames::KeysAt(size_t token) const {
  hash::ExtraKeys keys = lora_keys_;
  const size_t block = token / block_size_;
  if (token % block_size_ == 0 && block < prompt_.extra_keys.size()) {
    const hash::ExtraKeys& of_block = prompt_.extra_keys[block];
    keys.insert(keys.end(), of_block.begin(), of_block.end());
  }
  return keys;
}

PromptNames::Chain& PromptNames::ChainOf(const hash::HashProfile& profile) {
  for (Chain& chain : chains_) {
    if (chain.profile == profile) return chain;
  }
  return chains_.emplace_back(profile);
}

}  // namespace conductor::serve
