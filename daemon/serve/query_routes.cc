#include "daemon/serve/query_routes.h"

#include <utility>

#include "daemon/serve/answers.h"
#include "daemon/serve/requests.h"

namespace conductor::serve {
namespace {

BodyAnswer Refused(int status, const RequestError& error, BodyForm form) {
  return {status, ErrorDocument(error, form)};
}

// `answer`, unless the server stops: then the walk behind it may have been cut short.
BodyAnswer Finished(const RouteContext& context, std::string answer, BodyForm form) {
  if (!context.stopping.stop_requested()) return {200, std::move(answer)};
  return Refused(503, {"the daemon is being stopped", "stopping", "", {}}, form);
}

}  // namespace

BodyAnswer AnswerQueryBody(const RouteContext& context, const std::string& body, BodyForm form,
                           BodyForm answer_form) {
  const auto ranked = ParseQuery(body, form);
  if (!ranked) return Refused(400, ranked.error(), answer_form);
  const Answer answer = AnswerQuery(context.registry, ranked->query, context.stopping);
  return Finished(context, AnswerDocument(*ranked, answer, answer_form), answer_form);
}

std::span<const BodyRoute> BodyRoutes() {
  static constexpr BodyRoute kRoutes[] = {
      {"/v1/query", AnswerQueryBody},
  };
  return kRoutes;
}

void AddQueryRoutes(HttpListener& listener, const RouteContext& context) {
  for (const BodyRoute& route : BodyRoutes()) {
    listener.Route("POST", std::string(route.path), [context, route](const HttpRequest& request) {
      const BodyForm form = AnswerForm(request);
      BodyAnswer answer = route.answer(context, request.body, FormOf(request), form);
      return HttpResponse{.status = answer.status,
                          .body = std::move(answer.body),
                          .content_type = std::string(MediaType(form))};
    });
  }
}

}  // namespace conductor::serve
