#ifndef CONDUCTOR_LIB_TRACE_SIMULATED_ENGINE_H_
#define CONDUCTOR_LIB_TRACE_SIMULATED_ENGINE_H_

#include <cstddef>
#include <cstdint>
#include <list>
#include <span>
#include <unordered_map>
#include <vector>

#include "lib/hash/block_hash.h"
#include "lib/wire/kv_event.h"

namespace conductor::trace {

// The prefix cache of one engine rank, as far as its KV events show it: whole blocks in least
// recently used order, device memory only, evicted from the tail of prompts first. Its block
// names come from a seed of its own, as engines' do, so that nothing can rely on them.
class SimulatedEngine {
 public:
  struct Options {
    uint64_t seed = 0;         // of the block names
    uint32_t block_size = 16;  // tokens, at least 1
    uint32_t capacity_blocks = 1024;
  };

  explicit SimulatedEngine(const Options& options);

  // Runs a prompt: what was stored and evicted for it, in order (evictions first, as an engine
  // frees before it allocates): a removed event for each evicted block, then one stored event.
  // Empty when the whole prompt was cached. Prompts longer than the cache keep their first
  // capacity_blocks blocks. Tokens after the last whole block are not cached.
  [[nodiscard]] std::vector<wire::KvEvent> Run(std::span<const TokenId> prompt);

  // Leading blocks of `prompt` that are cached now; touches nothing.
  [[nodiscard]] uint32_t CachedBlocks(std::span<const TokenId> prompt) const;

  // Drops everything: one AllBlocksCleared.
  [[nodiscard]] std::vector<wire::KvEvent> Reset();

  [[nodiscard]] size_t size_blocks() const { return blocks_.size(); }

 private:
  struct Block {
    std::list<EngineHash>::iterator use;
  };

  [[nodiscard]] std::vector<EngineHash> Names(std::span<const TokenId> prompt) const;
  // How many of `names` are cached before the first that is not.
  [[nodiscard]] size_t Leading(std::span<const EngineHash> names) const;
  // Makes a cached block the most recently used one.
  void Touch(EngineHash name);

  Options options_;
  std::list<EngineHash> uses_;  // least recently used first
  std::unordered_map<EngineHash, Block> blocks_;
};

}  // namespace conductor::trace

#endif  // CONDUCTOR_LIB_TRACE_SIMULATED_ENGINE_H_
