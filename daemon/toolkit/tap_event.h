#ifndef CONDUCTOR_DAEMON_TOOLKIT_TAP_EVENT_H_
#define CONDUCTOR_DAEMON_TOOLKIT_TAP_EVENT_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/toolkit/terminal.h"
#include "lib/base/result.h"
#include "lib/base/tier.h"
#include "lib/hash/block_hash.h"
#include "lib/wire/kv_event.h"

namespace conductor::toolkit {

// What a line of `conductor tap` tells of. The first three are what publishers say; the others are
// what is to be said of their streams, but for those of a daemon, which come as it tells them.
enum class TapType : uint8_t {
  kStored,
  kRemoved,
  kCleared,
  kEmpty,      // a batch without events
  kGap,        // sequence numbers were left out
  kRestart,    // the sequence went back, with other payloads
  kDuplicate,  // a message that came before
  kMalformed,  // a message that cannot be read
  kSkipped,    // an event that cannot be read
  kConnected,
  kDisconnected,
  kLost,  // messages that were not kept, or events that a daemon did not send
  kReplayEnd,
  kEnd,     // of a recording
  kDamage,  // a part of a recording that cannot be read
  kLife,
  kRebuild,
  kTrust,
};
// "stored", "removed", ...: the `type` of JSON lines and filters.
[[nodiscard]] std::string_view TapTypeName(TapType type);
[[nodiscard]] Result<TapType> ParseTapType(std::string_view text);
// What publishers announce of blocks.
[[nodiscard]] constexpr bool IsBlockEvent(TapType type) { return type <= TapType::kCleared; }

// One line.
struct TapEvent {
  TapType type = TapType::kStored;
  int64_t time_ns = 0;    // Unix time at which it was received
  std::string publisher;  // its endpoint, or what a daemon calls it
  std::optional<uint64_t> sequence;
  bool replayed = false;

  std::optional<int64_t> rank;
  // Of a block event; with neither, it speaks of every tier.
  std::optional<Tier> tier;
  std::optional<std::string> medium;  // as it was spelt
  std::string lora;
  std::optional<int64_t> group;
  uint64_t block_size = 0;
  uint64_t blocks = 0;
  uint64_t tokens = 0;
  std::vector<TokenId> first_tokens;  // at most kFirstTokens
  std::optional<EngineHash> parent;
  std::vector<EngineHash> hashes;
  std::string object;  // of a pool

  // Of everything else: how many (messages of a gap, of a loss), and in words.
  uint64_t count = 0;
  std::string detail;

  static constexpr size_t kFirstTokens = 8;
};

// One event of a batch, as a line; what the batch and its message say is for the caller to fill in.
[[nodiscard]] TapEvent Describe(const wire::KvEvent& event);

// What `GET /v1/events` of a daemon sends as one `data`, received at that time.
[[nodiscard]] Result<TapEvent> FromDaemon(std::string_view json, int64_t time_ns);

// "2026-11-26T06:20:00.123456Z".
[[nodiscard]] std::string IsoTime(int64_t time_ns);

// Seconds from one time to another, negative when it is before it. Whatever times a recording has.
[[nodiscard]] double SecondsBetween(int64_t begin_ns, int64_t end_ns);

// One line of JSON, without its end; docs/tap.md has the fields.
[[nodiscard]] std::string JsonLine(const TapEvent& event);

// One line for people, in aligned columns, without its end.
//
// Where a terminal is too narrow for all of them, columns become narrower before any is cut off at
// its edge, those first whose beginning says enough. Names keep their end, which has the port.
class TapColumns {
 public:
  // `publisher_width`: of the longest name that is to be expected. `alone`: there is one name only,
  // which is left out where there is no room for it.
  TapColumns(const Terminal& terminal, size_t publisher_width, bool alone = false);

  [[nodiscard]] std::string Title() const;
  [[nodiscard]] std::string Line(const TapEvent& event) const;

 private:
  [[nodiscard]] std::string Front(std::string_view time, std::string_view publisher,
                                  std::string_view sequence, std::string_view rank,
                                  std::string_view type) const;
  // What lines of blocks take, with a short name of an adapter at their end.
  [[nodiscard]] size_t Width() const;
  // Makes `width` less, as far as needed and at least `least`.
  void Narrow(size_t& width, size_t least);

  const Terminal terminal_;
  bool publisher_ = true;
  size_t publisher_width_;
  size_t sequence_width_ = 8;
  size_t type_width_ = 12;
  size_t hash_width_ = 16;
  size_t tokens_width_ = 28;
  std::string between_ = "  ";
};

// What stands for a publisher in columns: its endpoint without "tcp://".
[[nodiscard]] std::string_view ShortName(std::string_view publisher);

// What an event says, without who and when: "stored gpu 2 blocks 00a1.. after 00b2..".
[[nodiscard]] std::string Brief(const TapEvent& event);

}  // namespace conductor::toolkit

#endif  // CONDUCTOR_DAEMON_TOOLKIT_TAP_EVENT_H_
