#ifndef CONDUCTOR_DAEMON_SERVE_REQUESTS_H_
#define CONDUCTOR_DAEMON_SERVE_REQUESTS_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "daemon/serve/answers.h"
#include "daemon/serve/explanation.h"
#include "daemon/serve/registration.h"
#include "daemon/serve/registration_json.h"
#include "daemon/serve/request_body.h"
#include "lib/index/score.h"

namespace conductor::serve {

// The bodies of requests; docs/http-api.md has the fields. In all of them a null stands for an
// absent field, and a field given twice is an error.

// POST /query. `instances` has the one instance_id when one is given; block_size 0 is none.
// As that generation does, unknown fields are passed over, and what is absent is empty.
[[nodiscard]] Parsed<Query> ParseMooncakeQuery(const std::string& body,
                                               BodyForm form = BodyForm::kJson);

// POST /v1/query, of one prompt or a batch of them; and POST /v1/score, which has a load beside it.
struct QueryRequest {
  std::vector<Query> prompts;
  bool batch = false;  // they came in "prompts"
  uint32_t top = 0;    // answer the best so many; 0: all
  // By instance, of /v1/score alone.
  struct Load {
    std::optional<double> waiting;
    std::optional<double> kv_use;
  };
  std::map<std::string, Load, std::less<>> load;
  index::ScoreWeights weights;
};
// At most `max_prompts` in a batch.
[[nodiscard]] Parsed<QueryRequest> ParseQueries(const BodyBytes& body, BodyForm form,
                                                uint32_t max_prompts);
// `weights`: of what the request does not say.
[[nodiscard]] Parsed<QueryRequest> ParseScore(const BodyBytes& body, BodyForm form,
                                              uint32_t max_prompts,
                                              const index::ScoreWeights& weights);

// POST /v1/explain: one prompt and one instance.
[[nodiscard]] Parsed<ExplainRequest> ParseExplain(const BodyBytes& body,
                                                  BodyForm form = BodyForm::kJson);

// POST /register. The registration is not yet checked by Validate() and ExpandRanks().
struct RegisterRequest {
  Registration registration;
  uint32_t dp_size = 1;
  std::vector<std::string> unused;  // fields that say nothing here, for the answer to tell
};
[[nodiscard]] Parsed<RegisterRequest> ParseRegister(const std::string& body,
                                                    BodyForm form = BodyForm::kJson);
// The same of what RequestBody::Members() gives.
[[nodiscard]] Parsed<RegisterRequest> ReadRegister(const nlohmann::ordered_json& members);

// The same of fields that were read already.
[[nodiscard]] Parsed<RegisterRequest> RegisterFrom(RegistrationFields fields);

// POST /unregister: the key (see Registration::Key) of the publisher to remove.
[[nodiscard]] Parsed<std::string> ParseUnregister(const std::string& body,
                                                  BodyForm form = BodyForm::kJson);

// POST /cache. Errors have that generation's words.
[[nodiscard]] Parsed<CacheQuery> ParseCacheQuery(const std::string& body);

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_REQUESTS_H_
