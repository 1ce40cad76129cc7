#ifndef CONDUCTOR_LIB_CLIENT_QUESTIONS_H_
#define CONDUCTOR_LIB_CLIENT_QUESTIONS_H_

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/result.h"
#include "lib/client/transport.h"

namespace conductor::client {

// What is asked, and what is answered: docs/http-api.md has every field. Token ids, prefix hashes
// and texts are as there; figures are in tokens.

// POST /v1/query.
struct QuerySpec {
  std::string model;
  std::span<const uint32_t> token_ids;  // the prompt; must live until the answer is there
  // The prompt by its prefix hashes, in place of its tokens.
  std::span<const uint64_t> prefix_hashes;
  std::string tenant_id;  // empty: "default"
  std::string lora_name;
  std::string cache_salt;
  std::optional<std::string> additional_salt;
  std::optional<uint32_t> block_size;
  std::vector<std::string> instances;  // candidates; empty: all
  std::optional<uint32_t> top;
};

struct TierTokens {
  uint64_t gpu = 0;
  uint64_t cpu = 0;
  uint64_t disk = 0;
};

struct InstanceFigures {
  std::string instance_id;
  bool serves_model = false;
  uint64_t longest_matched = 0;
  TierTokens tiers;  // the best over the ranks
  std::map<uint32_t, TierTokens> ranks;
  uint32_t block_size = 0;     // 0: not known yet
  uint64_t prompt_blocks = 0;  // whole blocks
  // "live" and the others of docs/http-api.md. A text, as newer conductors may have more of them.
  std::string state;
  std::string reason;
  std::string detail;                 // for people; empty where there is none
  std::optional<double> lag_seconds;  // none: no event yet
};

struct QueryAnswer {
  std::string conductor;  // that answered
  std::optional<uint64_t> prompt_tokens;
  std::vector<InstanceFigures> instances;      // best first
  std::vector<std::string> unknown_instances;  // asked for, and registered by nobody
  std::string reason;  // why there may be nothing to match: "unknown_model", ...; or empty
  std::string reason_detail;
};

// POST /v1/score.
struct InstanceLoad {
  std::optional<double> waiting;  // requests that wait or run there
  std::optional<double> kv_use;   // 0 to 1
};

struct ScoreSpec {
  QuerySpec query;
  std::map<std::string, InstanceLoad> load;  // by instance; what is not known is left out
};

// What a score is made of, in tokens of prefill:
//   score = trust * (saved_gpu + saved_cpu + saved_disk) - queue - memory
struct ScoreParts {
  double saved_gpu = 0;
  double saved_cpu = 0;
  double saved_disk = 0;
  double trust = 0;  // a factor, 0 to 1
  double queue = 0;
  double memory = 0;
};

struct RankedInstance {
  std::string instance_id;
  double score = 0;
  std::optional<ScoreParts> parts;  // none: the conductor does not tell; no router needs them
  uint64_t longest_matched = 0;
  TierTokens tiers;
  uint32_t block_size = 0;
  std::string state;
  std::string reason;
  std::optional<double> lag_seconds;
};

struct ScoreAnswer {
  std::string conductor;
  std::optional<uint64_t> prompt_tokens;
  std::vector<RankedInstance> ranking;  // best first; instances that serve the model
  std::vector<std::string> unknown_instances;
  std::string reason;
  std::string reason_detail;
  std::string nearest;  // the registered one that is most like what `reason` misses; or empty
};

// GET /v1/publishers: what tells who is there and how well.
struct PublisherEntry {
  std::string id;  // "instance_id|tenant_id|dp_rank"
  std::string type;
  std::string instance_id;
  std::string tenant_id;
  std::string model;
  uint32_t dp_rank = 0;
  std::string endpoint;
  uint32_t block_size = 0;  // 0: not known yet
  std::string state;
  std::string reason;
  std::string detail;
  std::optional<uint64_t> cursor;  // none: no event yet
};

// Bodies in MessagePack.
[[nodiscard]] std::string QueryBody(const QuerySpec& spec);
[[nodiscard]] std::string ScoreBody(const ScoreSpec& spec);

// Strict: a field that is missing, of another type or out of range is an error with its path, and
// so are bytes behind the answer. Fields that are not known are passed over, for newer conductors
// have more of them. `conductor` of the answers is left empty.
[[nodiscard]] Result<QueryAnswer> ReadQueryAnswer(std::string_view msgpack);
[[nodiscard]] Result<ScoreAnswer> ReadScoreAnswer(std::string_view msgpack);
[[nodiscard]] Result<std::vector<PublisherEntry>> ReadPublishers(std::string_view json);

// What a reply that is no 200 says: "status 400: model is required (missing)".
[[nodiscard]] std::string DescribeRefusal(const Reply& reply);

}  // namespace conductor::client

#endif  // CONDUCTOR_LIB_CLIENT_QUESTIONS_H_
