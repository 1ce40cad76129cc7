#ifndef CONDUCTOR_DAEMON_PROXY_PROXY_METRICS_H_
#define CONDUCTOR_DAEMON_PROXY_PROXY_METRICS_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/proxy/fleet.h"
#include "lib/base/clock.h"

namespace conductor::proxy {

// What GET /metrics of the proxy says; docs/proxy.md lists it. Any thread.
class ProxyMetrics {
 public:
  ProxyMetrics();
  ~ProxyMetrics();
  ProxyMetrics(const ProxyMetrics&) = delete;
  ProxyMetrics& operator=(const ProxyMetrics&) = delete;

  // `path`: one of the known ones, or "other".
  void Answered(std::string_view path, int status);
  // A client left before the end of its answer.
  void ClientLeft(std::string_view path);
  // `leg`: "prefill", "decode", or "client": from the request to the first byte of its answer.
  void FirstByte(std::string_view leg, Duration took);
  void Chosen(std::string_view leg, std::string_view reason);
  // Of prompts whose tokens are known: all, and those that the chosen prefiller held.
  void Matched(uint64_t prompt_tokens, uint64_t matched_tokens);
  // A choice or a leg that was not made as it was meant to be: "tokenize_timeout",
  // "conductor_away", "prefill_failed", ...
  void FellBack(std::string_view reason);
  void Retried(std::string_view leg);
  void UpstreamFailed(std::string_view leg, std::string_view kind);
  // A prefiller keeps blocks that nobody will fetch, until its own time limit.
  void Stranded();
  void SkippedPrefill();
  // An exception ended a request.
  void FailedInside() { failed_inside_.fetch_add(1, std::memory_order_relaxed); }
  void Relayed(uint64_t bytes) { relayed_.fetch_add(bytes, std::memory_order_relaxed); }

  struct Now {
    uint64_t requests = 0;     // in hand
    uint64_t connections = 0;  // of clients
    uint64_t body_bytes = 0;
    uint64_t lost_log_lines = 0;
    std::vector<Fleet::Standing> engines;
  };
  // In the text format of Prometheus.
  [[nodiscard]] std::string Text(const Now& now) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
  // Counts, which order nothing.
  std::atomic<uint64_t> relayed_ = 0;
  std::atomic<uint64_t> failed_inside_ = 0;
};

}  // namespace conductor::proxy

#endif  // CONDUCTOR_DAEMON_PROXY_PROXY_METRICS_H_
