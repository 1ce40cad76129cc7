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
  HttpResponse response{.status = status,
                        .body = ErrorDocument(error, form),
                        .content_type = std::string(MediaType(form))};
  // What passes by itself is asked again in a moment; what ends, or is looked at now and then, is
  // not.
  if (status == 503 && error.reason != "stopping" && error.reason != "not_ready") {
    response.headers.emplace_back("Retry-After", "1");
  }
  return response;
}

std::string_view NotRegisteredReason(Refusal::Kind kind) {
  switch (kind) {
    case Refusal::Kind::kConflict:
    case Refusal::Kind::kLeaving:
      return "conflict";
    case Refusal::Kind::kFull:
      return "too_many_publishers";
    case Refusal::Kind::kInvalid:
      break;
  }
  return "invalid_registration";
}

HttpResponse NotRegistered(const Refusal& refusal, const std::string& prefix, BodyForm form) {
  const RequestError error{refusal.Message(),
                           std::string(NotRegisteredReason(refusal.kind)),
                           refusal.where.empty() ? std::string() : prefix + refusal.where,
                           {}};
  switch (refusal.kind) {
    case Refusal::Kind::kConflict:
    case Refusal::Kind::kLeaving:
      return Failed(409, error, form);
    case Refusal::Kind::kFull:
      return Failed(503, {error.error, error.reason, "", {}}, form);
    case Refusal::Kind::kInvalid:
      break;
  }
  return Failed(400, error, form);
}

RequestError Stopping() { return {"the daemon is being stopped", "stopping", "", {}}; }

}  // namespace conductor::serve
