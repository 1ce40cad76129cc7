#include "daemon/toolkit/ingest_answer.h"

#include <optional>
#include <string_view>

#include "daemon/serve/document.h"

namespace conductor::toolkit {

IngestAnswer ReadIngestAnswer(const client::Reply& reply) {
  IngestAnswer answer;
  const auto form = reply.form == client::Form::kMsgpack ? serve::BodyForm::kMsgpack  //
                                                         : serve::BodyForm::kJson;
  const auto document = serve::Document::Parse(reply.body, form);
  if (!document || document->root().kind() != serve::Value::Kind::kMap) return answer;
  answer.readable = true;
  document->root().ForEachEntry([&](std::optional<std::string_view> name, serve::Value value) {
    if (name == "accepted") answer.accepted = value.AsUint64().value_or(0);
    if (name == "state") answer.state = value.AsText().value_or("");
    if (name == "reason") answer.reason = value.AsText().value_or("");
    if (name == "detail") answer.detail = value.AsText().value_or("");
    if (name == "error") answer.error = value.AsText().value_or("");
    return true;
  });
  return answer;
}

}  // namespace conductor::toolkit
