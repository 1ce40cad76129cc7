#ifndef CONDUCTOR_DAEMON_SERVE_EXPLANATION_H_
#define CONDUCTOR_DAEMON_SERVE_EXPLANATION_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "daemon/serve/answers.h"
#include "daemon/serve/prompt_chain.h"
#include "daemon/serve/registry.h"
#include "lib/base/tier.h"
#include "lib/index/prefix_index.h"
#include "lib/stream/trust.h"

// Why an instance matches so much of a prompt and no more.
namespace conductor::serve {

enum class ExplainCause : uint8_t {
  kEndOfPrompt,       // all of it is matched
  kNeverStored,       // for all that is known
  kRemoved,           // its publisher said so: evicted
  kExpired,           // its time to live ended
  kRenamed,           // its publisher announced other tokens under the block's name
  kTrimmed,           // given up for the memory limit
  kCleared,           // with all of its tier
  kNewLife,           // with all that its publisher held: a restart, or an operator's clear
  kReplaced,          // with all that its publisher held: a replay found something else
  kUnregistered,      // with all that a publisher of the rank held, which was unregistered
  kNotReached,        // on the device, behind a block that is not: engines do not climb back
  kGap,               // the publisher's events are not all known
  kReplaying,         // they are being read
  kSharedEndpoint,    // they cannot be told from another's
  kPublisherDead,     // the publisher is out of reach, or its address is wrong
  kNeverHeard,        // nothing has come of it yet
  kUnreadable,        // nothing that came could be read
  kRefusedBlockSize,  // its blocks do not fit the registered size
  kHybridGroup,       // its events are of attention groups that make no prefix
  kHashProfile,       // a hash profile is not what the engines hash with
  kPoolIncomplete,    // parts of blocks are missing in the pool
  kOtherNamespace,    // the instance has it, or serves, under other words than the query's
  kUnknownInstance,   // nobody registered it
};
// "end_of_prompt", "never_stored", ...
[[nodiscard]] std::string_view ExplainCauseName(ExplainCause cause);

// Where a field has to change.
enum class FieldOf : uint8_t { kNothing, kRequest, kRegistration, kFlags };
[[nodiscard]] std::string_view FieldOfName(FieldOf of);  // "", "request", "registration", "flags"

struct Verdict {
  ExplainCause cause = ExplainCause::kNeverStored;
  std::string detail;  // a sentence or two
  // What has to change, as requests, registrations or flags spell it; empty: nothing does.
  FieldOf field_of = FieldOf::kNothing;
  std::string field;
  // To what; nothing where it cannot be told.
  std::variant<std::monostate, std::string, uint64_t> expected;
  std::optional<index::Removal> removal;  // that the cause is

  [[nodiscard]] Verdict WithField(FieldOf of, std::string name, decltype(expected) value = {}) &&;
};

// Where one tier of a rank ends.
struct RankBreak {
  Tier tier = Tier::kGpu;
  uint64_t block = 0;  // that is not held; the prompt's blocks at its end
  Verdict verdict;
  struct Holder {
    std::string instance_id;
    uint32_t dp_rank = 0;
    std::array<bool, kTierCount> on{};
  };
  std::vector<Holder> held_by;  // others that hold the block, at most kMostHolders
};

struct RankExplanation {
  uint32_t dp_rank = 0;
  std::string publisher;  // its key; of several the one that can be trusted least
  index::NamespaceKey name_space;
  uint64_t prompt_blocks = 0;  // whole ones; 0 also where the block size is not known
  // In blocks, as index::RankMatch.
  uint64_t gpu = 0;
  uint64_t cpu = 0;
  uint64_t disk = 0;
  stream::Trust trust;
  // The device's end, then that of each lower tier that goes further; the last is the longest
  // match's.
  std::vector<RankBreak> breaks;
  std::vector<std::string> notes;  // what else is worth knowing of its publisher
};

// A pool that the instance can load from.
struct PoolExplanation {
  std::string publisher;  // its key
  uint64_t prompt_blocks = 0;
  uint64_t cpu = 0;  // blocks
  uint64_t disk = 0;
  stream::Trust trust;
  Verdict verdict;  // of the first block that it does not have
};

// Another namespace in which somebody matches the prompt.
struct Elsewhere {
  struct Match {
    std::string instance_id;
    uint64_t tokens = 0;
  };

  index::NamespaceKey name_space;
  bool without_cache_salt = false;   // the query's was left out
  std::vector<std::string> differs;  // fields of the query: never empty
  std::vector<Match> matches;        // the longest first
};

struct ExplainRequest {
  Query query;
  std::string instance_id;
};

struct Explanation {
  // Namespaces beside the query's in which the prompt is tried, those first that differ least; and
  // how many holders of a block and matches in another namespace are told.
  static constexpr size_t kMostNamespaces = 64;
  static constexpr size_t kMostHolders = 16;

  // Of the rank that matches most, or of what keeps it from it.
  Verdict verdict;
  uint32_t block_size = 0;  // of that rank; 0: not known
  uint64_t prompt_blocks = 0;
  uint64_t matched_blocks = 0;  // pools among them
  std::vector<RankExplanation> ranks;
  std::vector<PoolExplanation> pools;
  std::vector<Elsewhere> elsewhere;  // what matches most first
  size_t namespaces_tried = 0;
  size_t namespaces_left_out = 0;  // beyond kMostNamespaces
  // As in Answer.
  bool cut_short = false;
  uint64_t too_many_blocks = 0;
};

// Walks the prompt in the instance's own namespaces and in some others, and scans the index's
// history: for people and alarms, not for every request.
[[nodiscard]] Explanation Explain(const Registry& registry, const ExplainRequest& request,
                                  const QueryBounds& bounds = {});

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_EXPLANATION_H_
