#ifndef CONDUCTOR_DAEMON_SERVE_METRICS_H_
#define CONDUCTOR_DAEMON_SERVE_METRICS_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <string>

#include "daemon/serve/http_listener.h"
#include "daemon/serve/query_stats.h"
#include "daemon/serve/registry.h"
#include "daemon/serve/snapshots.h"

namespace conductor::serve {

// What became of one body of POST /v1/ingest.
struct IngestExchange {
  bool events = false;   // they were events; otherwise frames
  size_t accepted = 0;   // of them, those that were taken
  size_t deferred = 0;   // and those that found no room
  std::string reason{};  // why not all was taken; empty: all was
};

// What GET /metrics tells, in Prometheus' text format; docs/http-api.md has every name. Publishers
// and the index are read when it is scraped; only requests are counted as they happen.
//
// A publisher's series are labelled publisher (its key), instance, dp_rank and type, and end when
// it is removed: designed for a thousand publishers, some seventy series each.
class Metrics {
 public:
  // `registry` must outlive it; `connections` is asked at each scrape.
  Metrics(const Registry& registry, std::function<HttpConnections()> connections);
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  // Before the first Scrape(): the ZeroMQ endpoint's, asked at each.
  void ShowQueryEndpoint(std::function<QueryStats()> stats);

  // The same of snapshots.
  void ShowSnapshots(std::function<Snapshots::Stats()> stats);

  // Thread-safe.
  void Count(const HttpExchange& exchange);
  void Count(const IngestExchange& exchange);
  [[nodiscard]] std::string Scrape() const;

  // Scrape()'s Content-Type.
  static constexpr char kContentType[] = "text/plain; version=0.0.4; charset=utf-8";

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_METRICS_H_
