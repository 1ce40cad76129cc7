#ifndef CONDUCTOR_LIB_WIRE_KV_EVENT_H_
#define CONDUCTOR_LIB_WIRE_KV_EVENT_H_

#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "lib/hash/block_hash.h"
#include "lib/wire/object_key.h"

namespace conductor::wire {

// The one form that every dialect is decoded to. Field names follow vLLM's
// (vllm/distributed/kv_events.py). Everything is owned: an event outlives its payload.

// Which KV-cache group of a hybrid model an event speaks of. All empty for ordinary models.
struct CacheGroup {
  std::optional<int64_t> index;          // group_idx
  std::optional<std::string> spec_kind;  // kv_cache_spec_kind: "full_attention", "mamba", ...

  friend bool operator==(const CacheGroup&, const CacheGroup&) = default;
};

// What an RFC 1527 envelope says of the event in it, field by field. Where it says nothing the
// publisher's registration decides.
struct Origin {
  std::optional<std::string> tenant;           // tenant_id
  std::optional<std::string> model;            // model_name
  std::optional<std::string> additional_salt;  // additional_salt
  std::optional<std::string> backend;          // backend_id
  std::optional<int64_t> dp_rank;              // wins over the batch's

  friend bool operator==(const Origin&, const Origin&) = default;
};

// Blocks that follow one another in one prompt became available on one medium.
struct BlockStored {
  std::vector<EngineHash> hashes;    // block_hashes
  std::optional<EngineHash> parent;  // parent_block_hash: the block before hashes[0]
  // hashes.size() * block_size for a full-attention event; none in offload placeholders and in
  // some of AscendStore's. Of EAGLE's pairs [token, next token] the first of each.
  std::vector<TokenId> tokens;
  uint32_t block_size = 0;         // tokens a hash stands for; 0 in offload placeholders
  std::optional<int64_t> lora_id;  // deprecated integer adapter id
  std::optional<std::string> lora_name;
  std::optional<std::string> medium;  // as spelt on the wire; nil is an engine's device
  // Per block, in order: empty, or exactly hashes.size() entries (an entry is empty for a nil).
  // Still with a leading LoRA name.
  std::vector<hash::ExtraKeys> extra_keys;
  // SGLang's metadata {"cache_salt": ...}: belongs to the first block of a prompt.
  std::optional<std::string> cache_salt;
  CacheGroup group;
  // RFC 1527 only:
  std::optional<Origin> origin;
  std::optional<uint64_t> base_block_idx;  // position of hashes[0] in its prompt
  // `hashes` (and `parent`) are the standard's own prefix hashes: they came as seq_hashes and
  // without tokens, so they must be. Each is the block's identity, not only a name.
  bool standard_hashes = false;

  friend bool operator==(const BlockStored&, const BlockStored&) = default;
};

// Blocks left one medium. Order means nothing; a name may be unknown.
struct BlockRemoved {
  std::vector<EngineHash> hashes;
  std::optional<std::string> medium;
  CacheGroup group;
  std::optional<Origin> origin;  // RFC 1527 only

  friend bool operator==(const BlockRemoved&, const BlockRemoved&) = default;
};

// The device cache of the publisher's rank is empty now.
struct AllBlocksCleared {
  friend bool operator==(const AllBlocksCleared&, const AllBlocksCleared&) = default;
};

// An object of a pool: one component of a block. `key` is what the pool calls it; for an event that
// has none, the decimal of its one hash.
struct ObjectStored {
  std::string key;
  std::optional<ObjectKey> described;  // where the event says what the key would: family kDescribed
  std::optional<std::string> tenant;
  std::optional<std::string> backend;
  std::optional<std::string> medium;

  friend bool operator==(const ObjectStored&, const ObjectStored&) = default;
};

// The object is gone from every tier, whatever `medium` says: a master computes it from what it has
// left.
struct ObjectRemoved {
  std::string key;
  std::optional<std::string> tenant;
  std::optional<std::string> backend;
  std::optional<std::string> medium;

  friend bool operator==(const ObjectRemoved&, const ObjectRemoved&) = default;
};

// RFC 1527's "cleared": everything of the publisher that is of this tenant, backend and medium,
// each of them where it is named.
struct ScopeCleared {
  std::optional<std::string> tenant;
  std::optional<std::string> backend;
  std::optional<std::string> medium;
  std::optional<int64_t> dp_rank;

  friend bool operator==(const ScopeCleared&, const ScopeCleared&) = default;
};

using KvEvent = std::variant<BlockStored, BlockRemoved, AllBlocksCleared, ObjectStored,
                             ObjectRemoved, ScopeCleared>;

// Why a part of a batch was not used. The texts of SkipReasonName are metric labels.
enum class SkipReason : uint8_t {
  kUnknownEventType,  // a tag that no release is known to send
  kMalformedEvent,    // a known tag whose fields cannot be read
  kUnknownField,      // a map key or trailing array slot that is not known; the event is used
  kNotLocal,          // its blocks lie elsewhere (`locality` other than LOCAL): nothing is lost
};
[[nodiscard]] std::string_view SkipReasonName(SkipReason reason);

// One event that was skipped, or one field that was not understood.
struct Skip {
  // The event_index of what was not understood in the batch around the events.
  static constexpr size_t kNoEvent = std::numeric_limits<size_t>::max();

  SkipReason reason;
  size_t event_index;   // position in the batch, skipped events counted
  std::string message;  // what was read and what was expected, the field first

  // "event 3: <message>", or "batch: <message>" for kNoEvent.
  [[nodiscard]] std::string Describe() const;
};

// One payload.
struct EventBatch {
  double timestamp = 0;                    // Unix seconds
  std::optional<int64_t> dp_rank;          // data_parallel_rank, where the batch has one
  std::optional<uint64_t> last_event_id;   // the highest event_id of RFC 1527 envelopes
  std::vector<KvEvent> events;             // in order, without those skipped
  std::vector<Skip> skips;                 // at most kMaxSkips are kept ...
  std::map<SkipReason, uint64_t> skipped;  // ... all are counted
  // What was among the malformed events: a BlockStored; a removal, or what may have been one
  // because its tag cannot be read. Types that are not known count as nothing lost.
  bool lost_stores = false;
  bool lost_removals = false;

  static constexpr size_t kMaxSkips = 16;
};

}  // namespace conductor::wire

#endif  // CONDUCTOR_LIB_WIRE_KV_EVENT_H_
