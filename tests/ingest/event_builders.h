#ifndef CONDUCTOR_TESTS_INGEST_EVENT_BUILDERS_H_
#define CONDUCTOR_TESTS_INGEST_EVENT_BUILDERS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lib/ingest/reference_model.h"
#include "lib/wire/kv_event.h"

namespace conductor::ingest {

// Events and prompts as short as they can be read. Tokens are digits, a blank ends a block: "11 12"
// are two blocks of two tokens.

inline std::vector<PromptBlock> Prompt(std::string_view text) {
  std::vector<PromptBlock> blocks(1);
  for (const char c : text) {
    if (c == ' ') {
      blocks.emplace_back();
    } else {
      blocks.back().tokens.push_back(static_cast<TokenId>(c - '0'));
    }
  }
  return blocks;
}

inline std::vector<PromptBlock> Salted(std::vector<PromptBlock> prompt, std::string_view salt) {
  prompt.front().extra_keys.push_back(hash::TextKey(salt));
  return prompt;
}

using Names = std::vector<uint64_t>;
using Parent = std::optional<uint64_t>;

inline std::vector<EngineHash> Hashes(const Names& names) {
  std::vector<EngineHash> hashes;
  for (const uint64_t name : names) hashes.push_back(EngineHash{name});
  return hashes;
}

// On the device, in blocks as `tokens` shows them.
inline wire::BlockStored Stored(const Names& names, std::string_view tokens, Parent parent = {}) {
  wire::BlockStored event;
  event.hashes = Hashes(names);
  if (parent) event.parent = EngineHash{*parent};
  for (const PromptBlock& block : Prompt(tokens)) {
    event.tokens.insert(event.tokens.end(), block.tokens.begin(), block.tokens.end());
    event.block_size = static_cast<uint32_t>(block.tokens.size());
  }
  event.medium = "GPU";
  return event;
}

// Without tokens, as an offload connector announces what the engine has named before.
inline wire::BlockStored Offloaded(const Names& names, std::string medium = "CPU") {
  wire::BlockStored event;
  event.hashes = Hashes(names);
  event.medium = std::move(medium);
  return event;
}

inline wire::BlockRemoved Removed(const Names& names, std::string medium = "GPU") {
  return {.hashes = Hashes(names), .medium = std::move(medium), .group = {}};
}

inline wire::AllBlocksCleared Cleared() { return {}; }

template <typename Event>
Event On(std::string medium, Event event) {
  event.medium = std::move(medium);
  return event;
}

template <typename Event>
Event InGroup(int64_t index, std::optional<std::string> kind, Event event) {
  event.group = {index, std::move(kind)};
  return event;
}

inline wire::BlockStored WithLora(std::string name, wire::BlockStored event) {
  event.lora_name = std::move(name);
  return event;
}

inline wire::BlockStored WithExtraKeys(std::vector<hash::ExtraKeys> keys, wire::BlockStored event) {
  event.extra_keys = std::move(keys);
  return event;
}

template <typename... Events>
wire::EventBatch Batch(Events... events) {
  wire::EventBatch batch;
  (batch.events.emplace_back(std::move(events)), ...);
  return batch;
}

template <typename... Events>
wire::EventBatch BatchOfRank(int64_t dp_rank, Events... events) {
  wire::EventBatch batch = Batch(std::move(events)...);
  batch.dp_rank = dp_rank;
  return batch;
}

}  // namespace conductor::ingest

#endif  // CONDUCTOR_TESTS_INGEST_EVENT_BUILDERS_H_
