#include "daemon/proxy/access_log.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "lib/base/log.h"

namespace conductor::proxy {
namespace {

double Milliseconds(Duration duration) {
  // Microseconds are enough.
  const auto whole = std::chrono::duration_cast<std::chrono::microseconds>(duration);
  return static_cast<double>(whole.count()) / 1000;
}

}  // namespace

std::string AccessLine(const AccessRecord& record, double unix_seconds) {
  nlohmann::ordered_json json = {
      {"time", unix_seconds},      {"request_id", record.request_id},
      {"peer", record.peer},       {"method", record.method},
      {"path", record.path},       {"status", record.status},
      {"outcome", record.outcome}, {"request_bytes", record.request_bytes},
      {"bytes", record.bytes},     {"ms", Milliseconds(record.took)}};
  if (!record.engine_request_id.empty()) json["engine_request_id"] = record.engine_request_id;
  if (record.first_byte) json["first_byte_ms"] = Milliseconds(*record.first_byte);
  if (!record.prefill.empty()) json["prefill"] = record.prefill;
  if (!record.decode.empty()) json["decode"] = record.decode;
  if (record.rank) json["rank"] = *record.rank;
  if (record.prompt_tokens > 0) {
    json["prompt_tokens"] = record.prompt_tokens;
    json["matched_tokens"] = record.matched_tokens;
  }
  if (!record.why.empty()) json["why"] = record.why;
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

Result<std::unique_ptr<AccessLog>> AccessLog::Open(const std::string& path) {
  if (path.empty()) return std::unique_ptr<AccessLog>(new AccessLog(nullptr));
  if (path == "-") return std::unique_ptr<AccessLog>(new AccessLog(stdout));
  std::FILE* const file = std::fopen(path.c_str(), "ae");
  if (file == nullptr) return Fail(fmt::format("cannot be opened: {}", std::strerror(errno)), path);
  return std::unique_ptr<AccessLog>(new AccessLog(file));
}

AccessLog::~AccessLog() {
  if (file_ != nullptr && file_ != stdout) std::fclose(file_);
}

void AccessLog::Write(const AccessRecord& record) {
  if (file_ == nullptr) return;
  const std::string line = AccessLine(record, UnixNow());
  const std::lock_guard lock(mutex_);
  const bool written =
      std::fwrite(line.data(), 1, line.size(), file_) == line.size() && std::fflush(file_) == 0;
  if (!written && !std::exchange(has_failed_, true)) {
    log::Error("the access log cannot be written: {}", std::strerror(errno));
  }
}

}  // namespace conductor::proxy
