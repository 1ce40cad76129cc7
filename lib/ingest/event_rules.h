#ifndef CONDUCTOR_LIB_INGEST_EVENT_RULES_H_
#define CONDUCTOR_LIB_INGEST_EVENT_RULES_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "lib/hash/block_hash.h"
#include "lib/wire/kv_event.h"

namespace conductor::ingest {

// What decides over one event, without any state.

// Whether blocks of this KV-cache group make a prefix: groups without a kind, and those of full,
// MLA and sink attention. The others (sliding window, mamba, ...) list only the blocks that they
// retain.
[[nodiscard]] bool IsIndexedGroup(const wire::CacheGroup& group);

// hashes.size() * block_size == tokens.size(), and neither is zero.
[[nodiscard]] bool HasWholeBlocks(const wire::BlockStored& event);

// The adapter whose namespace the event belongs to: its lora_name; for an event that has only an
// integer id `registered`, or the id in decimal when that is empty; otherwise `registered`.
[[nodiscard]] std::string LoraNameOf(const wire::BlockStored& event, const std::string& registered);

// Whether the event's first block has a cache salt among its keys: a text beside `lora_name`.
[[nodiscard]] bool IsSalted(const wire::BlockStored& event, const std::string& lora_name);

// Adds to `locals` the local hashes of the event's tokens cut to `block_size`, of which
// event.block_size is a multiple; HasWholeBlocks(event). The extra keys of an event's block go to
// the first of the blocks that it is cut to, without a leading one that equals `lora_name`;
// event.cache_salt to the first block of all when the event begins a prompt.
//   event.tokens.size() / block_size of them
void AddLocalHashes(const wire::BlockStored& event, uint32_t block_size,
                    const std::string& lora_name, uint64_t hash_seed,
                    std::vector<LocalHash>& locals);

}  // namespace conductor::ingest

#endif  // CONDUCTOR_LIB_INGEST_EVENT_RULES_H_
