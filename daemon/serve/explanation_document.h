#ifndef CONDUCTOR_DAEMON_SERVE_EXPLANATION_DOCUMENT_H_
#define CONDUCTOR_DAEMON_SERVE_EXPLANATION_DOCUMENT_H_

#include <string>

#include "daemon/serve/document.h"
#include "daemon/serve/explanation.h"

namespace conductor::serve {

// POST /v1/explain; docs/http-api.md has the fields.
[[nodiscard]] std::string ExplanationDocument(const ExplainRequest& request,
                                              const Explanation& explanation, BodyForm form);

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_EXPLANATION_DOCUMENT_H_
