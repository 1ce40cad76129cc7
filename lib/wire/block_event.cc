#include "lib/wire/block_event.h"

#include <array>

#include "lib/wire/locality.h"
#include "lib/wire/sglang_metadata.h"
#include "lib/wire/tensorrt_llm_keys.h"

namespace conductor::wire {
namespace {

// Field names in declaration order, which is that of the slots of a positional event (slot 0 is
// the tag, slot 1 the first of these) and of the keys of a map. The first `positional` of them
// have a slot; later ones were added when events were maps already.

enum StoredField : size_t {
  kBlockHashes,
  kParentBlockHash,
  kTokenIds,
  kBlockSize,
  kLoraId,
  kMedium,
  kLoraName,  // or SGLang's metadata
  kExtraKeys,
  kGroupIdx,
  kSpecKind,
  kSlidingWindow,  // known and not used, as ownership and session_id
  kLocality,
  kOwnership,
  kSessionId,
  kCacheSalt,  // SGLang
  kMmKeys,     // TensorRT-LLM
  kStoredFieldCount,
};
constexpr std::array<std::string_view, kStoredFieldCount> kStoredNames = {
    "block_hashes",
    "parent_block_hash",
    "token_ids",
    "block_size",
    "lora_id",
    "medium",
    "lora_name",
    "extra_keys",
    "group_idx",
    "kv_cache_spec_kind",
    "kv_cache_spec_sliding_window",
    "locality",
    "ownership",
    "session_id",
    "cache_salt",
    "mm_keys",
};
constexpr size_t kStoredPositional = kSlidingWindow + 1;

enum RemovedField : size_t {
  kRemovedHashes,
  kRemovedMedium,
  kRemovedGroupIdx,
  kRemovedLocality,
  kRemovedOwnership,
  kRemovedFieldCount,
};
constexpr std::array<std::string_view, kRemovedFieldCount> kRemovedNames = {
    "block_hashes", "medium", "group_idx", "locality", "ownership",
};
constexpr size_t kRemovedPositional = kRemovedGroupIdx + 1;

void ReadStored(FieldReader& reader, DigestEnd end, BlockStored& out) {
  std::array<MsgpackValue, kStoredFieldCount> fields;
  reader.Gather(kStoredNames, kStoredPositional, fields);
  ReadLocality(reader, fields[kLocality]);
  if (reader.passed_over()) return;

  reader.Hashes(fields[kBlockHashes], kStoredNames[kBlockHashes], end, out.hashes);
  reader.Hash(fields[kParentBlockHash], kStoredNames[kParentBlockHash], end, out.parent);
  reader.Tokens(fields[kTokenIds], kStoredNames[kTokenIds], out.tokens);
  std::optional<uint32_t> block_size;
  reader.Uint32(fields[kBlockSize], kStoredNames[kBlockSize], block_size);
  out.block_size = block_size.value_or(0);
  reader.Int(fields[kLoraId], kStoredNames[kLoraId], out.lora_id);
  reader.Text(fields[kMedium], kStoredNames[kMedium], out.medium);
  if (fields[kLoraName].is_map()) {
    ReadSglangMetadata(reader, fields[kLoraName], out);
  } else {
    reader.Text(fields[kLoraName], kStoredNames[kLoraName], out.lora_name);
  }
  reader.ExtraKeys(fields[kExtraKeys], kStoredNames[kExtraKeys], out.hashes.size(), out.extra_keys);
  reader.Int(fields[kGroupIdx], kStoredNames[kGroupIdx], out.group.index);
  reader.Text(fields[kSpecKind], kStoredNames[kSpecKind], out.group.spec_kind);
  reader.Text(fields[kCacheSalt], kStoredNames[kCacheSalt], out.cache_salt);
  ReadMmKeys(reader, fields[kMmKeys], out);
}

void ReadRemoved(FieldReader& reader, DigestEnd end, BlockRemoved& out) {
  std::array<MsgpackValue, kRemovedFieldCount> fields;
  reader.Gather(kRemovedNames, kRemovedPositional, fields);
  ReadLocality(reader, fields[kRemovedLocality]);
  if (reader.passed_over()) return;

  reader.Hashes(fields[kRemovedHashes], kRemovedNames[kRemovedHashes], end, out.hashes);
  reader.Text(fields[kRemovedMedium], kRemovedNames[kRemovedMedium], out.medium);
  reader.Int(fields[kRemovedGroupIdx], kRemovedNames[kRemovedGroupIdx], out.group.index);
}

}  // namespace

void ReadBlockEvent(FieldReader& reader, EventKind kind, DigestEnd end,
                    std::vector<KvEvent>& events) {
  switch (kind) {
    case EventKind::kStored:
      return ReadStored(reader, end, std::get<BlockStored>(events.emplace_back(BlockStored())));
    case EventKind::kRemoved:
      return ReadRemoved(reader, end, std::get<BlockRemoved>(events.emplace_back(BlockRemoved())));
    case EventKind::kCleared:
      reader.Gather({}, 0, {});
      events.emplace_back(AllBlocksCleared());
  }
}

}  // namespace conductor::wire
