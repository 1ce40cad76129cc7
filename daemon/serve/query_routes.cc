#include "daemon/serve/answers.h"
#include "daemon/serve/requests.h"
#include "daemon/serve/routes.h"

namespace conductor::serve {
namespace {

HttpResponse AnswerRanked(const RouteContext& context, const HttpRequest& request) {
  const BodyForm form = AnswerForm(request);
  const auto ranked = ParseQuery(request.body, FormOf(request));
  if (!ranked) return Failed(400, ranked.error(), form);
  const Answer answer = AnswerQuery(context.registry, ranked->query, context.stopping);
  return Whole(context, AnswerDocument(*ranked, answer, form), form);
}

}  // namespace

void AddQueryRoutes(HttpListener& listener, const RouteContext& context) {
  listener.Route("POST", "/v1/query",
                 [context](const HttpRequest& request) { return AnswerRanked(context, request); });
}

}  // namespace conductor::serve
