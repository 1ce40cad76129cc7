#ifndef CONDUCTOR_DAEMON_SERVE_QUERY_ROUTES_H_
#define CONDUCTOR_DAEMON_SERVE_QUERY_ROUTES_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "daemon/serve/document.h"
#include "daemon/serve/prompt_chain.h"
#include "daemon/serve/request_body.h"
#include "daemon/serve/routes.h"

namespace conductor::serve {

// The answer to one question, whatever it came by: HTTP or ZeroMQ.
struct BodyAnswer {
  int status = 200;  // HTTP's
  std::string body;
};

[[nodiscard]] BodyAnswer Refused(int status, const RequestError& error, BodyForm form);

// What one request may cost.
[[nodiscard]] QueryBounds BoundsOf(const RouteContext& context);
// Why an answer that was cut short is none, and HTTP's status for it. `too_many_blocks`: as in
// Answer. `field`: what the prompt came in.
struct Shortfall {
  int status = 503;
  RequestError error;
};
[[nodiscard]] Shortfall WhyCutShort(const RouteContext& context, uint64_t too_many_blocks,
                                    std::string_view field = "token_ids");
[[nodiscard]] BodyAnswer CutShort(const RouteContext& context, uint64_t too_many_blocks,
                                  BodyForm form);

// POST /v1/query: the body in `form`, the answer (or the error) in `answer_form`. JSON bodies are
// read in place where Document::Parse says so. Any thread.
[[nodiscard]] BodyAnswer AnswerQueryBody(const RouteContext& context, const BodyBytes& body,
                                         BodyForm form, BodyForm answer_form);

// POST /v1/score; lib/index/score.h has the policy.
[[nodiscard]] BodyAnswer AnswerScoreBody(const RouteContext& context, const BodyBytes& body,
                                         BodyForm form, BodyForm answer_form);

// What answers at one path.
struct BodyRoute {
  using Answerer = BodyAnswer (*)(const RouteContext&, const BodyBytes& body, BodyForm form,
                                  BodyForm answer_form);

  std::string_view path;
  Answerer answer;
};

// Everything that is asked with a body alone, by POST or over the ZeroMQ endpoint.
[[nodiscard]] std::span<const BodyRoute> BodyRoutes();

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_QUERY_ROUTES_H_
