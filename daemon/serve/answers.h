#ifndef CONDUCTOR_DAEMON_SERVE_ANSWERS_H_
#define CONDUCTOR_DAEMON_SERVE_ANSWERS_H_

#include <absl/container/inlined_vector.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "daemon/serve/engine_table.h"
#include "daemon/serve/min_state.h"
#include "daemon/serve/prompt_chain.h"
#include "daemon/serve/registry.h"
#include "lib/hash/block_hash.h"
#include "lib/stream/trust.h"

namespace conductor::serve {

// What a router asks, in any dialect.
struct Query {
  std::string tenant = "default";
  std::string model;
  std::string lora_name;
  std::optional<uint32_t> block_size;          // nothing: every block size the model has
  std::optional<std::string> additional_salt;  // nothing: any
  std::string cache_salt;                      // an extra key of block 0; empty: none
  std::vector<TokenId> tokens;
  std::vector<hash::ExtraKeys> extra_keys;  // of the first blocks, without the salt
  // The prompt by the prefix hashes of its whole blocks (lib/hash/block_hash.h, cache salt and
  // extra keys in them), where a client computes them itself; empty: by tokens. Hashes match in the
  // block size that they were made with alone.
  std::vector<PrefixHash> prefixes;
  std::set<std::string> instances;  // candidates; empty: all that are registered

  // Of the prompt, whole ones. block_size > 0.
  [[nodiscard]] uint64_t Blocks(uint32_t size) const {
    return prefixes.empty() ? tokens.size() / size : prefixes.size();
  }
};

// All figures in tokens. gpu <= cpu <= disk (see index::RankMatch).
struct TierFigures {
  uint64_t gpu = 0;
  uint64_t cpu = 0;
  uint64_t disk = 0;
};

// Of an instance without a publisher.
inline const stream::Trust kNoTrust;

struct InstanceAnswer {
  std::string_view instance_id;  // dies with the answer
  TierFigures best;              // the best over the ranks, figure by figure
  // Registered ranks and those seen in events, in order.
  absl::InlinedVector<std::pair<uint32_t, TierFigures>, 2> ranks;
  bool serves_model = false;  // a publisher of it is registered for the query's model
  // The worst among the instance's publishers: those of the model where it serves it. Dies with the
  // answer.
  const stream::Trust* trust = &kNoTrust;
  double lag_seconds = -1;     // greatest last event lag; -1: no event yet
  uint32_t block_size = 0;     // of the namespace that gave `best`; 0: none known
  uint64_t prompt_blocks = 0;  // whole blocks of the prompt at that size

  // The longest match.
  [[nodiscard]] uint64_t longest_matched() const { return best.disk; }
};

enum class QueryReason : uint8_t {
  kOk,
  kUnknownTenant,     // no engine is registered for the tenant
  kUnknownModel,      // none serves the model (and LoRA)
  kUnknownBlockSize,  // the model is there, with other block sizes
  // Extra keys are of blocks of one size, the model has several, and the query does not say which.
  kSeveralBlockSizes,
};
// "", "unknown_tenant", "unknown_model", "unknown_block_size", "several_block_sizes".
[[nodiscard]] std::string_view QueryReasonName(QueryReason reason);

struct Answer {
  // What the instances' names and trust view.
  std::shared_ptr<const EngineTable> table = nullptr;
  std::shared_ptr<const EngineTable> table_after = nullptr;
  std::vector<PoolView> pools;
  // Every engine instance registered for the tenant (pools are none), or those of them that the
  // query named; best first, then those that serve the model, then by name. Zeros where the
  // namespace differs.
  std::vector<InstanceAnswer> instances;
  QueryReason reason = QueryReason::kOk;
  std::string reason_detail;  // what is registered instead
  // The nearest of what is registered to what the query names and nobody has: a tenant, a model or
  // a block size, as `reason` says.
  std::string nearest;
  std::vector<std::string> unknown_instances;  // that the query named and nobody registered
  // A bound was reached: good for nothing. Blocks that are more than the bounds allow, or 0.
  bool cut_short = false;
  uint64_t too_many_blocks = 0;
};

// Answers `query` from the index as it is now. Walks the prompt once for each block size. Once a
// bound is reached it ends soon. `top`: the best so many instances alone; 0: all.
[[nodiscard]] Answer AnswerQuery(const Registry& registry, const Query& query,
                                 const QueryBounds& bounds = {}, uint32_t top = 0);

// The first generation's question: candidates by the host of their event endpoint (by their peer
// address, where that is bound; or by instance id), matched in the model's namespace, or, where no
// candidate serves a model of that name, each in its own model's.
struct CacheQuery {
  std::string model;
  std::string lora_name;
  std::vector<TokenId> tokens;
  std::set<std::string> hosts;
  MinState min_state = MinState::kAny;  // candidates of instances below it are left out
};

struct CacheAnswer {
  // Host as asked -> matched whole blocks * 100 / whole blocks of the prompt, 1 to 100. Hosts
  // without a hit are absent.
  std::map<std::string, int> hits;
  // As in Answer.
  bool cut_short = false;
  uint64_t too_many_blocks = 0;
};

// Walks the prompt once for each namespace of the candidates, however many of them share it;
// `bounds` as above.
[[nodiscard]] CacheAnswer AnswerCacheQuery(const Registry& registry, const CacheQuery& query,
                                           const QueryBounds& bounds = {});

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_ANSWERS_H_
