#ifndef CONDUCTOR_DAEMON_TOOLKIT_REBUILD_COUNTS_H_
#define CONDUCTOR_DAEMON_TOOLKIT_REBUILD_COUNTS_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "lib/wire/kv_event.h"

namespace conductor::toolkit {

struct Tally {
  uint64_t events = 0;
  uint64_t blocks = 0;  // hashes that they name; a pool's objects

  void Add(const Tally& other) {
    events += other.events;
    blocks += other.blocks;
  }
  friend bool operator==(const Tally&, const Tally&) = default;
};

// What batches said, before anything is made of it.
struct RebuildCounts {
  // "stored", "removed", "cleared" of engines; "object_stored", "object_removed" and
  // "scope_cleared" of pools and RFC 1527 ...
  using Type = std::string;
  // ... and "gpu", "cpu", "disk"; a medium of no tier by its own name; "unknown" where a pool names
  // none.
  using Place = std::string;

  uint64_t batches = 0;
  uint64_t not_batches = 0;  // payloads that are none
  std::map<std::pair<Type, Place>, Tally> by_type;
  // Of batches that name no rank: nothing.
  std::map<std::pair<std::optional<int64_t>, Type>, Tally> by_rank;
  std::map<std::string, uint64_t> skips;  // by wire::SkipReasonName
  std::string first_problem;  // the first payload or event that could not be read, and why
  // Unix seconds that the first and the last frame came at; nothing before the first.
  std::optional<double> first_at;
  std::optional<double> last_at;

  void Count(const wire::EventBatch& batch);
  void Add(const RebuildCounts& other);
  [[nodiscard]] Tally Total() const;
};

}  // namespace conductor::toolkit

#endif  // CONDUCTOR_DAEMON_TOOLKIT_REBUILD_COUNTS_H_
