#ifndef CONDUCTOR_DAEMON_SERVE_EXPLAIN_POOLS_H_
#define CONDUCTOR_DAEMON_SERVE_EXPLAIN_POOLS_H_

#include <vector>

#include "daemon/serve/explanation.h"
#include "daemon/serve/prompt_chain.h"
#include "daemon/serve/registry.h"

namespace conductor::serve {

// What is known where a pool's run of the prompt ends.
struct PoolEvidence {
  const PublisherStatus& pool;
  const index::PrefixIndex& index;
  const std::vector<PublisherStatus>& publishers;  // all that are registered
  const index::NamespaceKey& name_space;           // the instance's
  const PromptView& prompt;                        // without tokens when it was given by hashes
  uint64_t block = 0;                              // the first that it does not have
  uint64_t prompt_blocks = 0;
};

// Whether the block is there under another hash profile than the pool's is found by trying: the
// usual algorithms and seeds, and the profiles of the model's other publishers.
[[nodiscard]] Verdict JudgePool(const PoolEvidence& evidence);

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_EXPLAIN_POOLS_H_
