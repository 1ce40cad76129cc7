#include "daemon/proxy/request.h"

#include <fmt/format.h>

#include <algorithm>
#include <random>

#include "daemon/proxy/json_members.h"

namespace conductor::proxy {
namespace {

constexpr std::string_view kRequestId = "X-Request-Id";

uint64_t Random64() {
  thread_local std::mt19937_64 generator{std::random_device{}()};
  return generator();
}

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
  std::string head = fmt::format("{} {} HTTP/1.1\r\nHost: {}\r\n", method, target, engine.name());
  Fields fields = WithoutHopByHop(request.asked.head.fields);
  fields.Remove("Host");
  fields.Remove("Expect");
  fields.Set(kRequestId, request.record.request_id);
  const std::string& key = request.shared.options.api_key;
  if (!key.empty()) fields.Set("Authorization", fmt::format("Bearer {}", key));
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
  if (is_fine) return std::string(given);
  const uint64_t a = Random64();
  const uint64_t b = Random64();
  // Version 4, variant 1 of RFC 9562.
  return fmt::format("{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}", a >> 32, (a >> 16) & 0xffff, a & 0xfff,
                     ((b >> 48) & 0x3fff) | 0x8000, b & 0xffffffffffff);
}

}  // namespace conductor::proxy
