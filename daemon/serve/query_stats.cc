#include "daemon/serve/query_stats.h"

#include <algorithm>
#include <limits>

namespace conductor::serve {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

MetricFamily Family(MetricType type, const char* name, const char* help) {
  MetricFamily family;
  family.type = type;
  family.name = name;
  family.help = help;
  return family;
}

void Add(MetricFamily& family, std::vector<ClientMetric::Label> labels, uint64_t value) {
  ClientMetric metric;
  metric.label = std::move(labels);
  auto& number = family.type == MetricType::Counter ? metric.counter.value : metric.gauge.value;
  number = static_cast<double>(value);
  family.metric.push_back(std::move(metric));
}

ClientMetric HistogramOf(std::string_view path, const QueryStats::Durations& durations) {
  ClientMetric metric;
  metric.label = {{"path", std::string(path)}};
  uint64_t count = 0;
  for (size_t i = 0; i < durations.counts.size(); ++i) {
    count += durations.counts[i];
    const double bound = i < QueryStats::kDurationBounds.size()
                             ? QueryStats::kDurationBounds[i]
                             : std::numeric_limits<double>::infinity();
    metric.histogram.bucket.push_back({count, bound});
  }
  metric.histogram.sample_count = count;
  metric.histogram.sample_sum = durations.sum;
  return metric;
}

}  // namespace

void QueryStats::Durations::Count(double seconds) {
  const auto bound = std::ranges::lower_bound(kDurationBounds, seconds);
  ++counts[static_cast<size_t>(bound - kDurationBounds.begin())];
  sum += seconds;
}

void QueryStats::Count(std::string_view path, int status, double seconds) {
  ++requests[{path, status}];
  durations[path].Count(seconds);
}

std::vector<MetricFamily> QueryMetrics(const QueryStats& stats) {
  MetricFamily requests = Family(MetricType::Counter, "conductor_query_endpoint_requests_total",
                                 "Requests over ZeroMQ by path and status code.");
  for (const auto& [what, count] : stats.requests) {
    Add(requests, {{"path", std::string(what.first)}, {"code", std::to_string(what.second)}},
        count);
  }
  MetricFamily dropped = Family(MetricType::Counter, "conductor_query_endpoint_dropped_total",
                                "Answers that no client took, by reason.");
  Add(dropped, {{"reason", "gone"}}, stats.dropped_gone);
  Add(dropped, {{"reason", "unread"}}, stats.dropped_unread);
  MetricFamily cut_off = Family(MetricType::Counter, "conductor_query_endpoint_cut_off_total",
                                "Connections that were cut off for a message without an end.");
  Add(cut_off, {}, stats.cut_off);
  MetricFamily queued = Family(MetricType::Gauge, "conductor_query_endpoint_queued",
                               "Requests over ZeroMQ that wait for a thread.");
  Add(queued, {}, stats.queued);
  MetricFamily bytes =
      Family(MetricType::Gauge, "conductor_query_endpoint_queued_bytes", "Their bodies.");
  Add(bytes, {}, stats.queued_bytes);
  MetricFamily answering = Family(MetricType::Gauge, "conductor_query_endpoint_answering",
                                  "Requests over ZeroMQ that are being answered.");
  Add(answering, {}, stats.answering);
  MetricFamily durations =
      Family(MetricType::Histogram, "conductor_query_endpoint_request_duration_seconds",
             "From the request's arrival to its answer handed to ZeroMQ.");
  for (const auto& [path, times] : stats.durations) {
    durations.metric.push_back(HistogramOf(path, times));
  }
  return {std::move(requests), std::move(dropped),   std::move(cut_off),  std::move(queued),
          std::move(bytes),    std::move(answering), std::move(durations)};
}

}  // namespace conductor::serve
