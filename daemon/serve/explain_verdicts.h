#ifndef CONDUCTOR_DAEMON_SERVE_EXPLAIN_VERDICTS_H_
#define CONDUCTOR_DAEMON_SERVE_EXPLAIN_VERDICTS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "daemon/serve/explanation.h"
#include "daemon/serve/registry.h"

// From what is known of a block to why it is not held. Pure.
namespace conductor::serve {

// What is known where a chain breaks.
struct BreakEvidence {
  const PublisherStatus& publisher;
  const Query& query;
  const std::string& instance_id;
  const index::NamespaceKey& name_space;
  uint32_t dp_rank = 0;
  Tier tier = Tier::kGpu;
  uint64_t block = 0;
  uint64_t prompt_blocks = 0;
  bool last = true;             // the longest match ends here
  bool namespace_known = true;  // something was announced in it, by anybody
  bool known = false;           // somebody announced the block, not long ago
  bool on_device = false;       // the rank holds it there
  std::vector<RankBreak::Holder> held_by;
  std::optional<index::Removal> exact;  // the newest of the block, by this rank
  std::optional<index::Removal> later;  // of the next block after it that has one
  uint64_t later_block = 0;
  std::optional<index::Removal> whole;   // the newest of all that the rank held
  const Elsewhere* elsewhere = nullptr;  // where the instance matches more
  uint64_t elsewhere_tokens = 0;
};

// The first that fits, of: the prompt's end; a publisher that was never heard; what the history has
// of the block; another namespace that matches more; what the history has of all blocks; the
// publisher's troubles; nothing: never stored.
[[nodiscard]] Verdict JudgeBreak(const BreakEvidence& evidence);

// What else is worth knowing of a publisher whose figures are too low.
[[nodiscard]] std::vector<std::string> NotesOn(const PublisherStatus& publisher);

// A publisher that was never heard of, or that is out of reach now; nothing when it is neither.
[[nodiscard]] std::optional<Verdict> JudgeConnecting(const PublisherStatus& publisher);
[[nodiscard]] std::optional<Verdict> JudgeStale(const PublisherStatus& publisher);
// Events of it may be missing.
[[nodiscard]] std::optional<Verdict> JudgeDegraded(const PublisherStatus& publisher);

// The fields in which a namespace differs from what the query names, the first to look at first:
// "tenant_id", "model", "lora_name", "block_size", "additional_salt".
[[nodiscard]] std::vector<std::string> Differences(const Query& query,
                                                   const index::NamespaceKey& name_space);
// What the field is in the namespace.
[[nodiscard]] decltype(Verdict::expected) ValueOf(const std::string& field,
                                                  const index::NamespaceKey& name_space);
// "model 'm', LoRA 'a', blocks of 16 tokens", as far as the fields say.
[[nodiscard]] std::string Describe(const std::vector<std::string>& fields,
                                   const index::NamespaceKey& name_space);

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_EXPLAIN_VERDICTS_H_
