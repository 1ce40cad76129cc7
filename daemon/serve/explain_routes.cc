#include "daemon/serve/explain_routes.h"

#include "daemon/serve/explanation.h"
#include "daemon/serve/explanation_document.h"
#include "daemon/serve/requests.h"

namespace conductor::serve {

BodyAnswer AnswerExplainBody(const RouteContext& context, const BodyBytes& body, BodyForm form,
                             BodyForm answer_form) {
  const auto request = ParseExplain(body, form);
  if (!request) return Refused(400, request.error(), answer_form);
  const Explanation explanation = Explain(context.registry, *request, BoundsOf(context));
  if (explanation.cut_short) {
    return CutShort(context, explanation.too_many_blocks, answer_form);
  }
  return {200, ExplanationDocument(*request, explanation, answer_form)};
}

}  // namespace conductor::serve
