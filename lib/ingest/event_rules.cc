#include "lib/ingest/event_rules.h"

#include <algorithm>
#include <span>

#include "lib/hash/extra_key.h"

namespace conductor::ingest {
namespace {

hash::ExtraKeys KeysOfBlock(const wire::BlockStored& event, size_t block,
                            const std::string& lora_key) {
  hash::ExtraKeys keys;
  if (!event.extra_keys.empty()) keys = event.extra_keys[block];
  if (!keys.empty() && !lora_key.empty() && keys.front() == lora_key) keys.erase(keys.begin());
  const bool first_of_prompt = block == 0 && !event.parent;
  if (first_of_prompt && event.cache_salt && !event.cache_salt->empty()) {
    keys.push_back(hash::TextKey(*event.cache_salt));
  }
  return keys;
}

}  // namespace

bool IsIndexedGroup(const wire::CacheGroup& group) {
  if (!group.spec_kind) return true;
  return *group.spec_kind == "full_attention" || *group.spec_kind == "mla_attention" ||
         *group.spec_kind == "sink_full_attention";
}

bool HasWholeBlocks(const wire::BlockStored& event) {
  return event.block_size > 0 && !event.hashes.empty() &&
         uint64_t{event.block_size} * event.hashes.size() == event.tokens.size();
}

std::string LoraNameOf(const wire::BlockStored& event, const std::string& registered) {
  if (event.lora_name) return *event.lora_name;
  if (event.lora_id && registered.empty()) return std::to_string(*event.lora_id);
  return registered;
}

bool IsSalted(const wire::BlockStored& event, const std::string& lora_name) {
  if (event.extra_keys.empty() && !event.cache_salt) return false;
  const std::string lora_key = lora_name.empty() ? std::string() : hash::TextKey(lora_name);
  return std::ranges::any_of(KeysOfBlock(event, 0, lora_key), [](const std::string& key) {
    const auto read = hash::ReadExtraKey(key);
    return read && read->kind == hash::ExtraKey::Kind::kText;
  });
}

void AddLocalHashes(const wire::BlockStored& event, uint32_t block_size,
                    const std::string& lora_name, uint64_t hash_seed,
                    std::vector<LocalHash>& locals) {
  const std::span<const TokenId> tokens = event.tokens;
  const size_t parts = event.block_size / block_size;
  const size_t first = locals.size();
  locals.resize(first + tokens.size() / block_size);
  const std::span<LocalHash> of_event = std::span(locals).subspan(first);
  hash::HashBlocks(tokens, block_size, hash_seed, of_event);
  if (event.extra_keys.empty() && !event.cache_salt) return;
  const std::string lora_key = lora_name.empty() ? std::string() : hash::TextKey(lora_name);
  for (size_t i = 0; i < of_event.size(); i += parts) {
    const hash::ExtraKeys keys = KeysOfBlock(event, i / parts, lora_key);
    if (keys.empty()) continue;
    of_event[i] = hash::HashBlock(tokens.subspan(i * block_size, block_size), keys, hash_seed);
  }
}

}  // namespace conductor::ingest
