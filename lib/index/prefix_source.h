#ifndef CONDUCTOR_LIB_INDEX_PREFIX_SOURCE_H_
#define CONDUCTOR_LIB_INDEX_PREFIX_SOURCE_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>

#include "lib/hash/block_hash.h"

namespace conductor::index {

// The prefix hashes of a prompt's blocks, in order, computed as far as a lookup asks: it asks for
// the first block alone, and later for no more than kMaxAhead blocks at a time, so that hashing
// stops soon after the walk does.
class PrefixSource {
 public:
  static constexpr size_t kMaxAhead = 32;

  virtual ~PrefixSource() = default;

  // The next hashes, from the front of `out` on; how many. Fewer than asked for at the prompt's end
  // alone. May be called again after the end. `out` is not empty.
  [[nodiscard]] virtual size_t Next(std::span<PrefixHash> out) = 0;

 protected:
  PrefixSource() = default;
  PrefixSource(const PrefixSource&) = default;
  PrefixSource& operator=(const PrefixSource&) = default;
};

// Hashes that are there already.
class PrefixList final : public PrefixSource {
 public:
  // `prefixes` must outlive it.
  explicit PrefixList(std::span<const PrefixHash> prefixes) : prefixes_(prefixes) {}

  [[nodiscard]] size_t Next(std::span<PrefixHash> out) override {
    const size_t count = std::min(out.size(), prefixes_.size());
    std::ranges::copy(prefixes_.first(count), out.begin());
    prefixes_ = prefixes_.subspan(count);
    return count;
  }

 private:
  std::span<const PrefixHash> prefixes_;
};

// Hashes that a function gives one by one; nothing at the end.
template <typename Function>
class FunctionSource final : public PrefixSource {
 public:
  explicit FunctionSource(Function function) : function_(std::move(function)) {}

  [[nodiscard]] size_t Next(std::span<PrefixHash> out) override {
    size_t count = 0;
    while (count < out.size()) {
      const std::optional<PrefixHash> next = function_();
      if (!next) break;
      out[count++] = *next;
    }
    return count;
  }

 private:
  Function function_;
};

// The chain over a prompt's tokens, whole blocks only.
class TokenChain final : public PrefixSource {
 public:
  // `tokens` and `first_keys` (the extra keys of the first block) must outlive it; block_size > 0.
  TokenChain(std::span<const TokenId> tokens, uint32_t block_size, uint64_t hash_seed,
             const hash::ExtraKeys& first_keys = kNoKeys)
      : tokens_(tokens), block_size_(block_size), hash_seed_(hash_seed), first_keys_(first_keys) {}

  [[nodiscard]] size_t Next(std::span<PrefixHash> out) override {
    const size_t count = std::min(out.size(), tokens_.size() / block_size_);
    size_t done = 0;
    if (!begun_ && !first_keys_.empty() && count > 0) {
      last_ =
          hash::FirstPrefix(hash::HashBlock(tokens_.first(block_size_), first_keys_, hash_seed_));
      out[done++] = last_;
      begun_ = true;
    }
    if (done == count) return Took(count);
    hash::HashChain(tokens_.subspan(done * block_size_), block_size_, begun_ ? &last_ : nullptr,
                    hash_seed_, out.subspan(done, count - done));
    last_ = out[count - 1];
    begun_ = true;
    return Took(count);
  }

 private:
  static inline const hash::ExtraKeys kNoKeys;

  [[nodiscard]] size_t Took(size_t blocks) {
    tokens_ = tokens_.subspan(blocks * block_size_);
    return blocks;
  }

  std::span<const TokenId> tokens_;
  uint32_t block_size_;
  uint64_t hash_seed_;
  const hash::ExtraKeys& first_keys_;
  PrefixHash last_{};
  bool begun_ = false;
};

}  // namespace conductor::index

#endif  // CONDUCTOR_LIB_INDEX_PREFIX_SOURCE_H_
