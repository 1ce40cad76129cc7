#include "lib/wire/rfc1527_event.h"

#include <algorithm>
#include <array>

#include "lib/wire/locality.h"

namespace conductor::wire {
namespace {

enum Field : size_t {
  kEventId,
  kTimestamp,  // known and not used: the batch has one
  kModelName,
  kBlockSize,
  kAdditionalSalt,
  kLoraName,
  kTenantId,
  kBackendId,
  kGroupId,  // known and not used: a label for routing and eviction, no KV-cache group
  kMedium,
  kDpRank,
  kSeqHashes,
  kBlockHashes,
  kBaseBlockIdx,
  kParentHash,
  kTokenIds,
  kParentBlockHash,
  kLoraId,
  kExtraKeys,
  kCacheSalt,
  kGroupIdx,
  kSpecKind,
  kLocality,
  kFieldCount,
};
constexpr std::array<std::string_view, kFieldCount> kNames = {
    "event_id",  "timestamp",          "model_name",   "block_size",     "additional_salt",
    "lora_name", "tenant_id",          "backend_id",   "group_id",       "medium",
    "dp_rank",   "seq_hashes",         "block_hashes", "base_block_idx", "parent_hash",
    "token_ids", "parent_block_hash",  "lora_id",      "extra_keys",     "cache_salt",
    "group_idx", "kv_cache_spec_kind", "locality",
};

bool SaysNothing(MsgpackValue value) {
  return value.is_nil() || (value.is_array() && value.size() == 0);
}

// The fields of one envelope, and those that several kinds have in common.
class Envelope {
 public:
  Envelope(FieldReader& reader, DigestEnd end) : reader_(reader), end_(end) {
    reader.Gather(kNames, 0, fields_);
  }

  void NoteEventId(EventBatch& batch) {
    std::optional<uint64_t> id;
    reader_.Uint64(fields_[kEventId], kNames[kEventId], id);
    if (id) batch.last_event_id = std::max(batch.last_event_id.value_or(0), *id);
  }
  bool IsLocal() {
    ReadLocality(reader_, fields_[kLocality]);
    return !reader_.passed_over();
  }

  void ReadStored(BlockStored& out);
  void ReadRemoved(BlockRemoved& out);
  void ReadCleared(ScopeCleared& out);

 private:
  void Hashes(std::vector<EngineHash>& out) {
    const Field field = from_standard() ? kSeqHashes : kBlockHashes;
    reader_.Hashes(fields_[field], kNames[field], end_, out);
  }
  void Text(Field field, std::optional<std::string>& out) {
    reader_.Text(fields_[field], kNames[field], out);
  }
  void Name(Field field, std::optional<std::string>& out) {
    reader_.Name(fields_[field], kNames[field], out);
  }
  void Int(Field field, std::optional<int64_t>& out) {
    reader_.Int(fields_[field], kNames[field], out);
  }
  void ReadOrigin(std::optional<Origin>& out);

  // The legacy copy counts only where it says more.
  [[nodiscard]] bool from_standard() const {
    return !SaysNothing(fields_[kSeqHashes]) || fields_[kBlockHashes].is_nil();
  }

  FieldReader& reader_;
  DigestEnd end_;
  std::array<MsgpackValue, kFieldCount> fields_;
};

void Envelope::ReadOrigin(std::optional<Origin>& out) {
  Origin& origin = out.emplace();
  Name(kTenantId, origin.tenant);
  Name(kModelName, origin.model);
  Text(kAdditionalSalt, origin.additional_salt);
  Name(kBackendId, origin.backend);
  Int(kDpRank, origin.dp_rank);
}

void Envelope::ReadStored(BlockStored& out) {
  Hashes(out.hashes);
  const Field parent = fields_[kParentHash].is_nil() ? kParentBlockHash : kParentHash;
  reader_.Hash(fields_[parent], kNames[parent], end_, out.parent);
  reader_.Tokens(fields_[kTokenIds], kNames[kTokenIds], out.tokens);
  std::optional<uint32_t> block_size;
  reader_.Uint32(fields_[kBlockSize], kNames[kBlockSize], block_size);
  if (!block_size && !out.hashes.empty() && out.tokens.size() % out.hashes.size() == 0) {
    block_size = static_cast<uint32_t>(out.tokens.size() / out.hashes.size());
  }
  out.block_size = block_size.value_or(0);
  Int(kLoraId, out.lora_id);
  Text(kLoraName, out.lora_name);
  Text(kMedium, out.medium);
  reader_.ExtraKeys(fields_[kExtraKeys], kNames[kExtraKeys], out.hashes.size(), out.extra_keys);
  Text(kCacheSalt, out.cache_salt);
  Int(kGroupIdx, out.group.index);
  Text(kSpecKind, out.group.spec_kind);
  ReadOrigin(out.origin);
  reader_.Uint64(fields_[kBaseBlockIdx], kNames[kBaseBlockIdx], out.base_block_idx);
  out.standard_hashes = out.tokens.empty() && from_standard();
}

void Envelope::ReadRemoved(BlockRemoved& out) {
  Hashes(out.hashes);
  Text(kMedium, out.medium);
  Int(kGroupIdx, out.group.index);
  ReadOrigin(out.origin);
}

void Envelope::ReadCleared(ScopeCleared& out) {
  Name(kTenantId, out.tenant);
  Name(kBackendId, out.backend);
  Name(kMedium, out.medium);
  Int(kDpRank, out.dp_rank);
}

}  // namespace

void ReadRfc1527Event(FieldReader& reader, EventKind kind, DigestEnd end, EventBatch& batch) {
  Envelope envelope(reader, end);
  envelope.NoteEventId(batch);
  if (!envelope.IsLocal()) return;
  switch (kind) {
    case EventKind::kStored:
      return envelope.ReadStored(std::get<BlockStored>(batch.events.emplace_back(BlockStored())));
    case EventKind::kRemoved:
      return envelope.ReadRemoved(
          std::get<BlockRemoved>(batch.events.emplace_back(BlockRemoved())));
    case EventKind::kCleared:
      return envelope.ReadCleared(
          std::get<ScopeCleared>(batch.events.emplace_back(ScopeCleared())));
  }
}

}  // namespace conductor::wire
