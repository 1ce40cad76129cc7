#ifndef CONDUCTOR_DAEMON_SERVE_QUERY_STATS_H_
#define CONDUCTOR_DAEMON_SERVE_QUERY_STATS_H_

#include <prometheus/metric_family.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace conductor::serve {

// What the ZeroMQ endpoint has done, and its sizes at one moment.
struct QueryStats {
  // Upper bounds, in seconds.
  static constexpr std::array kDurationBounds = {0.00001, 0.000025, 0.00005, 0.0001, 0.00025,
                                                 0.0005,  0.001,    0.0025,  0.005,  0.01,
                                                 0.025,   0.05,     0.1,     0.25,   1.0};

  // From the moment that a request is taken from ZeroMQ to the one that its answer is handed over.
  struct Durations {
    std::array<uint64_t, kDurationBounds.size() + 1> counts{};  // by bound; the last has none
    double sum = 0;

    void Count(double seconds);
  };

  std::map<std::pair<std::string_view, int>, uint64_t> requests;  // by (path, status), ever
  std::map<std::string_view, Durations> durations;                // by path
  uint64_t dropped_gone = 0;    // ever: answers whose client had left
  uint64_t dropped_unread = 0;  // ever: answers to a client that does not read
  uint64_t cut_off = 0;         // ever: connections, for a message without an end
  uint64_t queued = 0;          // requests that wait
  uint64_t queued_bytes = 0;    // their bodies
  uint64_t answering = 0;

  // `path` must live as long as this does; "other" stands for unknown ones and for what has none.
  void Count(std::string_view path, int status, double seconds);
};

// docs/http-api.md has their names.
[[nodiscard]] std::vector<prometheus::MetricFamily> QueryMetrics(const QueryStats& stats);

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_QUERY_STATS_H_
