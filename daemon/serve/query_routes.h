#ifndef CONDUCTOR_DAEMON_SERVE_QUERY_ROUTES_H_
#define CONDUCTOR_DAEMON_SERVE_QUERY_ROUTES_H_

#include <string>

#include "daemon/serve/document.h"
#include "daemon/serve/routes.h"

namespace conductor::serve {

// The answer to one question, whatever it came by: HTTP or ZeroMQ.
struct BodyAnswer {
  int status = 200;  // HTTP's
  std::string body;
};

// POST /v1/query: the body in `form`, the answer (or the error) in `answer_form`. JSON bodies are
// read in place where Document::Parse says so. Any thread.
[[nodiscard]] BodyAnswer AnswerQueryBody(const RouteContext& context, const std::string& body,
                                         BodyForm form, BodyForm answer_form);

// POST /v1/score; lib/index/score.h has the policy.
[[nodiscard]] BodyAnswer AnswerScoreBody(const RouteContext& context, const std::string& body,
                                         BodyForm form, BodyForm answer_form);

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_QUERY_ROUTES_H_
