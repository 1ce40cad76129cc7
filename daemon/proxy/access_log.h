#ifndef CONDUCTOR_DAEMON_PROXY_ACCESS_LOG_H_
#define CONDUCTOR_DAEMON_PROXY_ACCESS_LOG_H_

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>

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
  std::string why;  // of the choice
  std::string
      outcome;  // "done", "refused", "client_left", "request_timeout", "broke_off: ...", ...
  std::optional<Duration> first_byte;
  Duration took = Duration(0);
};

// The record as one line of JSON; docs/proxy.md lists the fields.
[[nodiscard]] std::string AccessLine(const AccessRecord& record, double unix_seconds);

// A line for every request, in a file that is appended to. Any thread. Lines are written by a
// thread of its own, so that a reader that stops, of a pipe, stops nobody else: up to kMaxWaiting
// bytes of lines wait for it. What finds no room, or cannot be written, is lost and counted.
class AccessLog {
 public:
  static constexpr size_t kMaxWaiting = 4 << 20;

  // "-": stdout. Empty: nothing is written.
  [[nodiscard]] static Result<std::unique_ptr<AccessLog>> Open(const std::string& path);
  // Writes what waits, for at most a second.
  ~AccessLog();
  AccessLog(const AccessLog&) = delete;
  AccessLog& operator=(const AccessLog&) = delete;

  void Write(const AccessRecord& record);
  // Lines.
  [[nodiscard]] uint64_t lost() const { return lost_.load(std::memory_order_relaxed); }

 private:
  explicit AccessLog(int file);

  void Run();
  // Takes what waits; empty at the end.
  [[nodiscard]] std::string Next();
  // Until the file takes more; false when the end comes first.
  [[nodiscard]] bool WaitForRoom();
  void Lost(uint64_t lines, std::string_view why);

  const int file_;                  // -1: none
  std::atomic<uint64_t> lost_ = 0;  // a count, which orders nothing
  std::mutex mutex_;                // guards the rest
  std::condition_variable changed_;
  std::string waiting_;
  bool has_lost_ = false;  // and has said so
  std::optional<MonoTime> ends_;
  std::thread thread_;  // set once
};

}  // namespace conductor::proxy

#endif  // CONDUCTOR_DAEMON_PROXY_ACCESS_LOG_H_
