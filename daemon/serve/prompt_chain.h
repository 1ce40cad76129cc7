#ifndef CONDUCTOR_DAEMON_SERVE_PROMPT_CHAIN_H_
#define CONDUCTOR_DAEMON_SERVE_PROMPT_CHAIN_H_

#include <cstddef>
#include <cstdint>
#include <list>
#include <optional>
#include <span>
#include <stop_token>
#include <string_view>
#include <utility>
#include <vector>

#include "lib/base/clock.h"
#include "lib/hash/block_hash.h"
#include "lib/hash/hash_profile.h"
#include "lib/index/prefix_source.h"

namespace conductor::serve {

// A prompt's tokens with what engines hash beside them.
struct PromptView {
  std::span<const TokenId> tokens;
  // Of the first blocks, the request's salt among them; blocks behind the last have none.
  std::span<const hash::ExtraKeys> extra_keys;
};

// The extra keys of a prompt's blocks from what its request says: `given` of its first blocks, and
// the salt, which stands in the first block behind all but a digest of prompt embeds.
[[nodiscard]] std::vector<hash::ExtraKeys> WithSalt(std::vector<hash::ExtraKeys> given,
                                                    const std::string& cache_salt);

// The prefix hashes of a prompt's whole blocks.
class PromptChain final : public index::PrefixSource {
 public:
  // The prompt must outlive it; block_size > 0.
  PromptChain(const PromptView& prompt, uint32_t block_size, uint64_t hash_seed);
  PromptChain(const PromptChain&) = delete;
  PromptChain& operator=(const PromptChain&) = delete;

  [[nodiscard]] size_t Next(std::span<PrefixHash> out) override;

 private:
  std::span<const hash::ExtraKeys> keys_;  // of the next blocks
  std::span<const TokenId> tokens_;        // not hashed yet
  const uint32_t block_size_;
  const uint64_t hash_seed_;
  PrefixHash last_{};
  bool begun_ = false;
};

// When a walk has to end before its prompt does, and how long a prompt may be.
struct QueryBounds {
  QueryBounds(std::stop_token given_stop = {},  // NOLINT: a stop is a bound
              MonoTime given_until = MonoTime::max(), uint64_t given_max_blocks = UINT64_MAX)
      : stop(std::move(given_stop)), until(given_until), max_blocks(given_max_blocks) {}

  std::stop_token stop;
  MonoTime until;
  uint64_t max_blocks;  // of one prompt

  [[nodiscard]] bool reached() const {
    return stop.stop_requested() || (until != MonoTime::max() && MonoNow() >= until);
  }
};

// Another source, which ends early when a bound is reached.
class BoundedSource final : public index::PrefixSource {
 public:
  // Both must outlive it.
  BoundedSource(index::PrefixSource& source, const QueryBounds& bounds)
      : source_(source), bounds_(bounds) {}

  [[nodiscard]] size_t Next(std::span<PrefixHash> out) override {
    // The clock costs as much as some blocks do.
    if (++asked_ % kBetweenLooks == 0) ended_ |= bounds_.reached();
    return ended_ || bounds_.stop.stop_requested() ? 0 : source_.Next(out);
  }

 private:
  static constexpr uint32_t kBetweenLooks = 16;

  index::PrefixSource& source_;
  const QueryBounds& bounds_;
  uint32_t asked_ = 0;
  bool ended_ = false;
};

// What a prompt's whole blocks are called under the profiles that pools declare, computed as it is
// asked for.
class PromptNames {
 public:
  // The prompt must outlive it; block_size > 0.
  PromptNames(const PromptView& prompt, uint32_t block_size, std::string_view lora_name);

  // Nothing behind the prompt's end, and where the profile's hash blocks do not divide a block, or
  // are smaller than one and the extra keys of more than the first are given.
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
  // Of the hash block that begins at this token.
  [[nodiscard]] hash::ExtraKeys KeysAt(size_t token) const;

  PromptView prompt_;
  uint32_t block_size_;
  hash::ExtraKeys lora_keys_;
  std::list<Chain> chains_;  // one for each profile, few
};

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_PROMPT_CHAIN_H_
