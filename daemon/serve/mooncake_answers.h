#ifndef CONDUCTOR_DAEMON_SERVE_MOONCAKE_ANSWERS_H_
#define CONDUCTOR_DAEMON_SERVE_MOONCAKE_ANSWERS_H_

#include <string>
#include <string_view>
#include <vector>

#include "daemon/serve/answers.h"
#include "daemon/serve/document.h"
#include "daemon/serve/http_router.h"
#include "daemon/serve/mooncake_generation.h"
#include "daemon/serve/prompt_chain.h"
#include "daemon/serve/registry.h"
#include "daemon/serve/request_body.h"
#include "lib/index/prefix_index.h"

// The answers that clients of the C++ generations of the Mooncake Conductor and of Dynamo's
// standalone KV indexer read; docs/http-api.md has the fields. Without the line break that ends
// most of the JSON ones: that is Answered()'s.
namespace conductor::serve {

// AnswerQuery() for those generations: only instances that are registered for the prompt's context
// (tenant, model, adapter and block size, where the query names one), with zeros where they hold
// nothing, and whatever holds some of it. An engine that is registered without an adapter serves
// all of them.
[[nodiscard]] Answer AnswerInContext(const Registry& registry, const Query& query,
                                     const QueryBounds& bounds);

// POST /query: {"instances": {instance_id: {"longest_matched", "dp": {rank: gpu}, "rank_matches":
// {rank: {"gpu", "cpu", "disk"}}, "gpu", "cpu", "disk"}}}.
[[nodiscard]] std::string StrictAnswer(const Answer& answer, BodyForm form);

// GET /services: what each publisher was registered with, by the names of upstream's own struct.
[[nodiscard]] std::string StrictServices(const std::vector<PublisherStatus>& publishers,
                                         BodyForm form);

// GET /global_view: {"context_count", "contexts"}. Contexts that differ in their additional salt
// alone, which upstream has not, are one.
[[nodiscard]] std::string StrictGlobalView(const std::vector<PublisherStatus>& publishers,
                                           const std::vector<index::NamespaceStats>& namespaces,
                                           BodyForm form);

// POST /query of Dynamo: {"scores": {instance_id: {rank: tokens}}, "frequencies": [ranks that hold
// block i], "instances": {instance_id: {"longest_matched", "gpu", "dp": {rank: gpu}, "cpu",
// "disk"}}}: scores and frequencies of the device tier, and only instances that hold something.
[[nodiscard]] std::string DynamoAnswer(const Answer& answer);

// Status 200 in the form of a generation: `body` as the functions above make it.
[[nodiscard]] HttpResponse Answered(Generation generation, std::string body);

// An error as a generation tells it. Of the C++ ones status 400 has a body with `reason`, and every
// other status a text alone; in JSON also an error without a reason.
[[nodiscard]] HttpResponse Refused(Generation generation, int status, const RequestError& error);

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_MOONCAKE_ANSWERS_H_
