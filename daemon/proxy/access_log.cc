#include "daemon/proxy/access_log.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "lib/base/log.h"

namespace conductor::proxy {
namespace {

// At the end, for what waits still.
constexpr std::chrono::seconds kEndTime(1);
// How often it is looked whether the end has come, while a pipe is full.
constexpr int kPollMilliseconds = 100;
constexpr const char* kNobody = "nobody reads it";

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

AccessLog::AccessLog(int file) : file_(file) {
  if (file_ >= 0) thread_ = std::thread([this] { Run(); });
}

Result<std::unique_ptr<AccessLog>> AccessLog::Open(const std::string& path) {
  if (path.empty()) return std::unique_ptr<AccessLog>(new AccessLog(-1));
  if (path == "-") return std::unique_ptr<AccessLog>(new AccessLog(STDOUT_FILENO));
  const int file = ::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
  if (file < 0) return Fail(fmt::format("cannot be opened: {}", std::strerror(errno)), path);
  return std::unique_ptr<AccessLog>(new AccessLog(file));
}

AccessLog::~AccessLog() {
  if (file_ < 0) return;
  {
    const std::lock_guard lock(mutex_);
    ends_ = MonoNow() + kEndTime;
  }
  changed_.notify_all();
  thread_.join();
  if (file_ != STDOUT_FILENO) ::close(file_);
}

void AccessLog::Write(const AccessRecord& record) {
  if (file_ < 0) return;
  const std::string line = AccessLine(record, UnixNow());
  {
    const std::lock_guard lock(mutex_);
    if (waiting_.size() + line.size() <= kMaxWaiting) {
      waiting_.append(line);
      if (waiting_.size() == line.size()) changed_.notify_one();
      return;
    }
  }
  Lost(1, kNobody);
}

void AccessLog::Lost(uint64_t lines, std::string_view why) {
  lost_.fetch_add(lines, std::memory_order_relaxed);
  {
    const std::lock_guard lock(mutex_);
    if (std::exchange(has_lost_, true)) return;
  }
  log::Error("lines of the access log are lost: {}", why);
}

std::string AccessLog::Next() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return ends_ || !waiting_.empty(); });
  return std::exchange(waiting_, {});
}

void AccessLog::Run() {
  bool is_at_begin = true;  // of a line
  for (std::string lines = Next(); !lines.empty(); lines = Next()) {
    if (!is_at_begin) lines.insert(0, "\n");
    std::string_view left = lines;
    std::string why;
    while (!left.empty() && why.empty()) {
      if (!WaitForRoom()) {
        why = kNobody;
        break;
      }
      // A pipe that has room has it for so much: what is written there does not block.
      const ssize_t written = ::write(file_, left.data(), std::min<size_t>(left.size(), PIPE_BUF));
      if (written > 0) {
        is_at_begin = left[static_cast<size_t>(written) - 1] == '\n';
        left.remove_prefix(static_cast<size_t>(written));
      } else if (written < 0 && errno != EINTR) {
        why = std::strerror(errno);
      }
    }
    if (!left.empty()) {
      Lost(static_cast<uint64_t>(std::ranges::count(left, '\n')), why);
    } else {
      const std::lock_guard lock(mutex_);
      has_lost_ = false;
    }
  }
}

bool AccessLog::WaitForRoom() {
  while (true) {
    pollfd file{file_, POLLOUT, 0};
    // What is wrong with it the write tells.
    if (::poll(&file, 1, kPollMilliseconds) > 0) return true;
    const std::lock_guard lock(mutex_);
    if (ends_ && MonoNow() >= *ends_) return false;
  }
}

}  // namespace conductor::proxy
