#ifndef CONDUCTOR_LIB_STREAM_PUBLISHER_STREAM_H_
#define CONDUCTOR_LIB_STREAM_PUBLISHER_STREAM_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "lib/base/clock.h"
#include "lib/stream/consumer.h"
#include "lib/stream/trust.h"

namespace conductor::stream {

struct StreamOptions {
  bool has_replay = false;
  uint64_t first_sequence = 0;  // of a new life: 0 for engines, 1 for a Mooncake master
  Duration replay_timeout = std::chrono::seconds(5);  // without progress
  Duration probe_interval = std::chrono::seconds(5);  // of silence, before the publisher is asked
  Duration first_probe = std::chrono::seconds(1);     // after the first replay (slow joiner)
  Duration backoff_min = std::chrono::milliseconds(500);
  Duration backoff_max = std::chrono::seconds(30);
  uint32_t digest_window = 4096;             // batches whose digests are kept
  size_t max_pending_bytes = 64 << 20;       // live frames that wait for a replay
  uint64_t jitter_seed = 0;                  // spreads the timers of many publishers
  // The batch's own time in Unix seconds, for judging late frames; nothing when it has none.
  std::function<std::optional<double>(std::string_view payload)> batch_time;
};

// What happened to a stream since it was added.
struct StreamCounters {
  uint64_t frames = 0;             // live messages received
  uint64_t malformed_frames = 0;   // wrong number or size of frames
  uint64_t applied_live = 0;       // batches
  uint64_t applied_replay = 0;
  uint64_t duplicates = 0;         // received again and ignored, live or replayed
  uint64_t late = 0;               // older than the digest window, ignored
  uint64_t gaps = 0;
  uint64_t gaps_healed = 0;
  uint64_t gaps_partial = 0;       // replay began later than the hole, or had a hole itself
  uint64_t gaps_lost = 0;          // no replay, or no answer
  uint64_t lives = 0;              // incarnations seen
  uint64_t replays = 0;
  uint64_t replays_failed = 0;
  uint64_t probes = 0;
  uint64_t connects = 0;
  uint64_t disconnects = 0;
  uint64_t pending_dropped = 0;    // live frames dropped for max_pending_bytes
  std::optional<uint64_t> cursor;        // last applied sequence of this life
  std::optional<uint64_t> highest_seen;  // highest sequence received in this life
};

}  // namespace conductor::stream

#endif  // CONDUCTOR_LIB_STREAM_PUBLISHER_STREAM_H_
