#ifndef CONDUCTOR_DAEMON_PROXY_ACCESS_LOG_H_
#define CONDUCTOR_DAEMON_PROXY_ACCESS_LOG_H_

#include <cstdint>
#include <cstdio>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "lib/base/clock.h"
#include "lib/base/result.h"

namespace conductor::proxy {

// What became of one request.
struct AccessRecord {
  std::string request_id;         // the client's
  std::string engine_request_id;  // by which engines had it last; empty: none was asked
  std::string peer;
  std::string method;
  std::string path;
  int status = 0;              // 0: none was sent
  uint64_t request_bytes = 0;  // of the body
  uint64_t bytes = 0;          // of the answer's body
  std::string prefill;         // names of engines; empty: none
  std::string decode;
  std::optional<uint32_t> rank;
  uint64_t prompt_tokens = 0;  // 0: not known
  uint64_t matched_tokens = 0;
  std::string why;      // of the choice
  std::string outcome;  // "done", "client_left", "upstream_broke_off", ...
  std::optional<Duration> first_byte;
  Duration took = Duration(0);
};

// The record as one line of JSON; docs/proxy.md lists the fields.
[[nodiscard]] std::string AccessLine(const AccessRecord& record, double unix_seconds);

// A line for every request, in a file that is appended to. Any thread. What cannot be written is
// lost, and says so once.
class AccessLog {
 public:
  // "-": stdout. Empty: nothing is written.
  [[nodiscard]] static Result<std::unique_ptr<AccessLog>> Open(const std::string& path);
  ~AccessLog();
  AccessLog(const AccessLog&) = delete;
  AccessLog& operator=(const AccessLog&) = delete;

  void Write(const AccessRecord& record);

 private:
  explicit AccessLog(std::FILE* file) : file_(file) {}

  std::mutex mutex_;  // guards the rest
  std::FILE* file_ = nullptr;
  bool has_failed_ = false;
};

}  // namespace conductor::proxy

#endif  // CONDUCTOR_DAEMON_PROXY_ACCESS_LOG_H_
