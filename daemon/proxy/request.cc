#include "daemon/proxy/request.h"

#include <fmt/format.h>

#include <algorithm>

#include "daemon/proxy/choreographies.h"
#include "daemon/proxy/json_members.h"
#include "daemon/proxy/request_id.h"

namespace conductor::proxy {
namespace {

constexpr std::string_view kRequestId = "X-Request-Id";

}  // namespace

std::string ErrorBody(int status, std::string_view type, std::string_view message) {
  return fmt::format(R"({{"error": {{"message": {}, "type": {}, "param": null, "code": {}}}}})",
                     JsonString(message), JsonString(type), status);
}

Awaitable<void> AnswerWhole(Request& request, int status, std::string_view content_type,
                            std::string_view body, const Fields& more) {
  if (request.client.has_begun() || request.departure.happened()) co_return;
  request.record.status = status;
  request.record.bytes = body.size();
  Fields fields = more;
  fields.Set(kRequestId, request.record.request_id);
  (void)co_await request.client.Answer(status, content_type, body, fields);
}

Awaitable<void> AnswerError(Request& request, int status, std::string_view type,
                            std::string_view message, uint32_t retry_after) {
  const std::string body = ErrorBody(status, type, message);
  Fields more;
  if (retry_after > 0) more.Add("Retry-After", std::to_string(retry_after));
  co_await AnswerWhole(request, status, "application/json", body, more);
}

std::string EngineHead(const Request& request, const Engine& engine, std::string_view method,
                       std::string_view target, size_t body_bytes, const Fields& more) {
  return EngineHead(engine, method, target, body_bytes, EngineFields(request), more);
}

void RenameForEngines(Request& request) { request.record.engine_request_id = NewRequestId(); }

Fields EngineFields(const Request& request) {
  Fields fields = WithoutHopByHop(request.asked.head.fields);
  fields.Remove("Host");
  fields.Remove("Expect");
  fields.Remove(kRankHeader);
  fields.Set(kRequestId, request.record.engine_request_id);
  const std::string& key = request.shared.options.api_key;
  if (!key.empty()) fields.Set("Authorization", fmt::format("Bearer {}", key));
  return fields;
}

std::string EngineHead(const Engine& engine, std::string_view method, std::string_view target,
                       size_t body_bytes, Fields fields, const Fields& more) {
  std::string head = fmt::format("{} {} HTTP/1.1\r\nHost: {}\r\n", method, target, engine.name());
  for (const Field& field : more.all()) fields.Set(field.name, field.value);
  fields.AppendTo(head);
  if (body_bytes > 0 || method == "POST") {
    head.append(fmt::format("Content-Length: {}\r\n", body_bytes));
  }
  return head.append("\r\n");
}

std::string RequestIdOf(const Fields& fields) {
  const std::string_view given = fields.Get(kRequestId);
  const bool is_fine = !given.empty() && given.size() <= 128 &&
                       std::ranges::all_of(given, [](char c) { return c > ' ' && c < 0x7f; });
  return is_fine ? std::string(given) : NewRequestId();
}

}  // namespace conductor::proxy
