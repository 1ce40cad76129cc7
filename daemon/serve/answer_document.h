#ifndef CONDUCTOR_DAEMON_SERVE_ANSWER_DOCUMENT_H_
#define CONDUCTOR_DAEMON_SERVE_ANSWER_DOCUMENT_H_

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/serve/answers.h"
#include "daemon/serve/document_writer.h"
#include "daemon/serve/registry.h"
#include "daemon/serve/requests.h"
#include "lib/index/prefix_index.h"
#include "lib/index/score.h"

namespace conductor::serve {

// The bodies of answers; docs/http-api.md has the fields.

// {"error", "reason", "field"?, "index"?}
[[nodiscard]] std::string ErrorDocument(const RequestError& error, BodyForm form = BodyForm::kJson);

// The pairs "gpu", "cpu", "disk".
void WriteTiers(DocumentWriter& out, const TierFigures& figures);

// POST /query: {tenant: {instance_id: {"longest_matched", "GPU", "DP": {rank: gpu}, "CPU",
// "DISK"}}}; {} when the tenant has no instance. An instance that the query names and nobody
// registered is there with zeros.
[[nodiscard]] std::string MooncakeAnswerJson(const Query& query, const Answer& answer);

// POST /v1/query: an answer, or {"answers": [...]} to a batch. One for each prompt.
[[nodiscard]] std::string AnswerDocument(const QueryRequest& request,
                                         const std::vector<Answer>& answers, BodyForm form);

// What POST /v1/score says of one prompt: the answer, and its instances that serve the model,
// ranked.
struct Ranking {
  Answer answer;
  uint64_t prompt_tokens = 0;
  std::vector<index::Score> scores;  // Score::input: in answer.instances
};
[[nodiscard]] std::string RankingDocument(const QueryRequest& request,
                                          const std::vector<Ranking>& rankings, BodyForm form);

// POST /cache: {"HitStatus": {host: percent}, "status": "ok"}.
[[nodiscard]] std::string CacheAnswerJson(const std::map<std::string, int>& hits);

// GET /global_view: a context for each engine instance and namespace, then one with an empty
// instance_id for each namespace that only events have named (a LoRA adapter's).
[[nodiscard]] std::string GlobalViewJson(const std::vector<PublisherStatus>& publishers,
                                         const std::vector<index::NamespaceStats>& namespaces);

// POST /register, done: `ranks` are told where the request stands for several, `unused` are its
// fields that say nothing here.
[[nodiscard]] std::string RegisteredDocument(std::string_view instance_id,
                                             const std::vector<Registration>& ranks,
                                             const std::vector<std::string>& unused, BodyForm form);

// POST /unregister, done.
[[nodiscard]] std::string UnregisteredDocument(std::string_view key, BodyForm form);

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_ANSWER_DOCUMENT_H_
