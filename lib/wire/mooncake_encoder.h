#ifndef CONDUCTOR_LIB_WIRE_MOONCAKE_ENCODER_H_
#define CONDUCTOR_LIB_WIRE_MOONCAKE_ENCODER_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "lib/hash/block_hash.h"

namespace conductor::wire {

// One replica of an object that came or went, as a master tells it.
struct MasterEvent {
  bool is_stored = true;
  std::string key;
  std::string tenant = "default";
  std::string backend;
  std::optional<std::string> group_id;  // a label for eviction; no KV-cache group
  std::optional<std::string> medium;    // "cpu", "disk"
  // The object's number where its whole key is one (ParseObjectKey gives it, family kNumeric);
  // otherwise empty.
  std::vector<EngineHash> hashes;
};

// One batch of a Mooncake Store master.
struct MasterBatch {
  uint64_t timestamp_ms = 0;
  uint64_t first_event_id = 1;  // the others count on from it
  std::vector<MasterEvent> events;
  // The master's options, as they are by default.
  bool emit_legacy_compat = true;  // type, block_hashes and parent_block_hash as well
  bool emit_object_key = true;     // without it an event that has no hashes is not sent
};

// [timestamp_ms, [maps], 0] in the master's order of keys; what it never fills is nil.
[[nodiscard]] std::string EncodeMooncakeBatch(const MasterBatch& batch);

}  // namespace conductor::wire

#endif  // CONDUCTOR_LIB_WIRE_MOONCAKE_ENCODER_H_
