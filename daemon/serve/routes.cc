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

HttpResponse NotRegistered(const Refusal& refusal, const std::string& prefix, BodyForm form) {
  const std::string field = refusal.where.empty() ? std::string() : prefix + refusal.where;
  switch (refusal.kind) {
    case Refusal::Kind::kConflict:
      return Failed(409, {refusal.Message(), "conflict", field, {}}, form);
    case Refusal::Kind::kFull:
      return Failed(503, {refusal.Message(), "too_many_publishers", "", {}}, form);
    case Refusal::Kind::kInvalid:
      break;
  }
  return Failed(400, {refusal.Message(), "invalid_registration", field, {}}, form);
}

RequestError Stopping() { return {"the daemon is being stopped", "stopping", "", {}}; }

HttpResponse Whole(const RouteContext& context, std::string answer, BodyForm form) {
  if (!context.stopping.stop_requested()) return Ok(std::move(answer), form);
  return Failed(503, Stopping(), form);
}

}  // namespace conductor::serve
