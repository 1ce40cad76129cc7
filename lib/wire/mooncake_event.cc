#include "lib/wire/mooncake_event.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "lib/wire/skips.h"

namespace conductor::wire {
namespace {

enum Field : size_t {
  kEventId,
  kTimestamp,  // this and the others marked so are known and not used
  kModelName,
  kBlockSize,       // not used
  kAdditionalSalt,  // not used
  kLoraName,        // not used
  kTenantId,
  kBackendId,
  kGroupId,  // not used: a label for routing and eviction, no KV-cache group
  kMedium,
  kDpRank,
  kObjectKey,
  kSeqHashes,
  kBlockHashes,
  kBaseBlockIdx,     // not used
  kParentHash,       // not used
  kTokenIds,         // not used
  kParentBlockHash,  // not used
  kConnectorBlockHash,
  kCachePrefix,
  kTpRank,
  kHeadOrTpRank,
  kPcpRank,
  kDcpRank,
  kPpRank,
  kLayerId,
  kFieldCount,
};
constexpr std::array<std::string_view, kFieldCount> kNames = {
    "event_id",
    "timestamp",
    "model_name",
    "block_size",
    "additional_salt",
    "lora_name",
    "tenant_id",
    "backend_id",
    "group_id",
    "medium",
    "dp_rank",
    "object_key",
    "seq_hashes",
    "block_hashes",
    "base_block_idx",
    "parent_hash",
    "token_ids",
    "parent_block_hash",
    "connector_block_hash",
    "cache_prefix",
    "tp_rank",
    "head_or_tp_rank",
    "pcp_rank",
    "dcp_rank",
    "pp_rank",
    "layer_id",
};
constexpr size_t kShortestConnectorHash = 16;

class ObjectEvent {
 public:
  explicit ObjectEvent(FieldReader& reader) : reader_(reader) { reader.Gather(kNames, 0, fields_); }

  void NoteEventId(EventBatch& batch) {
    std::optional<uint64_t> id;
    reader_.Uint64(fields_[kEventId], kNames[kEventId], id);
    if (id) batch.last_event_id = std::max(batch.last_event_id.value_or(0), *id);
  }

  // What the event calls its object; empty when it does not say.
  std::string Key();
  // What the event says of its object where it says that at all.
  std::optional<ObjectKey> Description();
  // tenant, backend and medium of any of the three forms.
  template <typename Event>
  void ReadScope(Event& out) {
    Name(kTenantId, out.tenant);
    Name(kBackendId, out.backend);
    Name(kMedium, out.medium);
  }
  void ReadRank(ScopeCleared& out) { reader_.Int(fields_[kDpRank], kNames[kDpRank], out.dp_rank); }

 private:
  void Name(Field field, std::optional<std::string>& out) {
    reader_.Name(fields_[field], kNames[field], out);
  }
  void Rank(Field field, std::optional<uint32_t>& out) {
    reader_.Uint32(fields_[field], kNames[field], out);
  }

  FieldReader& reader_;
  std::array<MsgpackValue, kFieldCount> fields_;
};

std::string ObjectEvent::Key() {
  std::optional<std::string> key;
  Name(kObjectKey, key);
  if (key) return std::move(*key);

  const MsgpackValue standard = fields_[kSeqHashes];
  const bool is_empty = standard.is_nil() || (standard.is_array() && standard.size() == 0);
  const Field field = is_empty && !fields_[kBlockHashes].is_nil() ? kBlockHashes : kSeqHashes;
  std::vector<EngineHash> hashes;
  if (!fields_[field].is_nil()) {
    reader_.Hashes(fields_[field], kNames[field], DigestEnd::kLast, hashes);
  }
  if (hashes.size() != 1) {
    reader_.Wrong({fmt::format("is not given, beside {} hashes", hashes.size()),
                   std::string(kNames[kObjectKey]), "the object's key, or one hash in its place"});
    return {};
  }
  return std::to_string(static_cast<uint64_t>(hashes.front()));
}

std::optional<ObjectKey> ObjectEvent::Description() {
  std::optional<std::string> digest;
  Name(kConnectorBlockHash, digest);
  if (!digest) return std::nullopt;
  const auto hash = HashOfHex(*digest, DigestEnd::kLast);
  if (!hash || digest->size() < kShortestConnectorHash) {
    reader_.Wrong({fmt::format("is {}", Quoted(*digest)), std::string(kNames[kConnectorBlockHash]),
                   "16 hex digits or more"});
    return std::nullopt;
  }
  ObjectKey key;
  key.family = KeyFamily::kDescribed;
  key.hash = *hash;
  std::optional<std::string> model;
  std::optional<std::string> prefix;
  Name(kModelName, model);
  Name(kCachePrefix, prefix);
  key.model = model.value_or("");
  key.prefix = prefix.value_or("");
  Rank(fields_[kTpRank].is_nil() ? kHeadOrTpRank : kTpRank, key.tp_rank);
  Rank(kPcpRank, key.pcp_rank);
  Rank(kDcpRank, key.dcp_rank);
  Rank(kPpRank, key.pp_rank);
  Rank(kLayerId, key.layer);
  return key;
}

}  // namespace

void ReadMooncakeEvent(FieldReader& reader, EventKind kind, EventBatch& batch) {
  ObjectEvent event(reader);
  event.NoteEventId(batch);
  switch (kind) {
    case EventKind::kStored: {
      ObjectStored stored;
      stored.key = event.Key();
      stored.described = event.Description();
      event.ReadScope(stored);
      batch.events.emplace_back(std::move(stored));
      return;
    }
    case EventKind::kRemoved: {
      ObjectRemoved removed;
      removed.key = event.Key();
      event.ReadScope(removed);
      batch.events.emplace_back(std::move(removed));
      return;
    }
    case EventKind::kCleared: {
      ScopeCleared cleared;
      event.ReadScope(cleared);
      event.ReadRank(cleared);
      batch.events.emplace_back(std::move(cleared));
    }
  }
}

}  // namespace conductor::wire
