#include "daemon/serve/routes.h"

#include <utility>

namespace conductor::serve {

BodyForm FormOf(const HttpRequest& request) {
  return FormNamed(request.content_type).value_or(BodyForm::kJson);
}

BodyForm AnswerForm(const HttpRequest& request) {
  return FormNamed(request.accept).value_or(FormOf(request));
}

HttpResponse Ok(std::string body, BodyForm form) {
  return HttpResponse{.body = std::move(body), .content_type = std::string(MediaType(form))};
}

HttpResponse Failed(int status, const RequestError& error, BodyForm form) {
  return HttpResponse{.status = status,
                      .body = ErrorDocument(error, form),
                      .content_type = std::string(MediaType(form))};
}

HttpResponse Whole(const RouteContext& context, std::string answer, BodyForm form) {
  if (!context.stopping.stop_requested()) return Ok(std::move(answer), form);
  return Failed(503, {"the daemon is being stopped", "stopping", "", {}}, form);
}

}  // namespace conductor::serve
