#ifndef CONDUCTOR_DAEMON_SERVE_EXPLAIN_ROUTES_H_
#define CONDUCTOR_DAEMON_SERVE_EXPLAIN_ROUTES_H_

#include <string>

#include "daemon/serve/query_routes.h"

namespace conductor::serve {

// POST /v1/explain, as AnswerQueryBody().
[[nodiscard]] BodyAnswer AnswerExplainBody(const RouteContext& context, const BodyBytes& body,
                                           BodyForm form, BodyForm answer_form);

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_EXPLAIN_ROUTES_H_
