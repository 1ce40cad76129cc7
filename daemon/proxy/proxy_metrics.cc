#include "daemon/proxy/proxy_metrics.h"

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/histogram.h>
#include <prometheus/metric_family.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <utility>

namespace conductor::proxy {
namespace {

using prometheus::ClientMetric;
using prometheus::Counter;
using prometheus::Histogram;
using prometheus::MetricFamily;
using prometheus::MetricType;

// From a short prompt to one of 128k tokens on a busy engine, in seconds.
const Histogram::BucketBoundaries kFirstByteBuckets = {
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100};

double Seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

MetricFamily Gauge(std::string name, std::string help) {
  MetricFamily family;
  family.type = MetricType::Gauge;
  family.name = std::move(name);
  family.help = std::move(help);
  return family;
}

void Add(MetricFamily& family, std::vector<ClientMetric::Label> labels, double value) {
  ClientMetric metric;
  metric.label = std::move(labels);
  if (family.type == MetricType::Counter) {
    metric.counter.value = value;
  } else {
    metric.gauge.value = value;
  }
  family.metric.push_back(std::move(metric));
}

MetricFamily Single(std::string name, std::string help, double value) {
  MetricFamily family = Gauge(std::move(name), std::move(help));
  Add(family, {}, value);
  return family;
}

MetricFamily SingleCounter(std::string name, std::string help, uint64_t value) {
  MetricFamily family = Gauge(std::move(name), std::move(help));
  family.type = MetricType::Counter;
  Add(family, {}, static_cast<double>(value));
  return family;
}

}  // namespace

struct ProxyMetrics::Impl {
  prometheus::Family<Counter>& Counters(const char* name, const char* help) {
    return prometheus::BuildCounter().Name(name).Help(help).Register(registry);
  }

  prometheus::Registry registry;
  prometheus::Family<Counter>& requests =
      Counters("conductor_proxy_requests_total", "Requests answered, by path and status");
  prometheus::Family<Counter>& left =
      Counters("conductor_proxy_clients_left_total", "Clients that left before their answer's end");
  prometheus::Family<Histogram>& first_byte =
      prometheus::BuildHistogram()
          .Name("conductor_proxy_first_byte_seconds")
          .Help("Until the first byte of an engine's answer, and of the client's")
          .Register(registry);
  prometheus::Family<Counter>& choices =
      Counters("conductor_proxy_choices_total", "Engines chosen, by leg and reason");
  prometheus::Family<Counter>& fallbacks = Counters(
      "conductor_proxy_fallbacks_total", "What could not be done as it was meant to be, by reason");
  prometheus::Family<Counter>& retries =
      Counters("conductor_proxy_retries_total", "Attempts after the first, by leg");
  prometheus::Family<Counter>& failures =
      Counters("conductor_proxy_upstream_failures_total", "Engines that failed, by leg and kind");
  Counter& prompt_tokens = Counters("conductor_proxy_prompt_tokens_total",
                                    "Tokens of prompts that the conductor was asked about")
                               .Add({});
  Counter& matched_tokens = Counters("conductor_proxy_matched_tokens_total",
                                     "Of these, tokens that the chosen engine held")
                                .Add({});
  Counter& stranded = Counters("conductor_proxy_stranded_prefills_total",
                               "Prefills whose blocks no decoder fetched")
                          .Add({});
  Counter& skipped = Counters("conductor_proxy_skipped_prefills_total",
                              "Requests that a decoder served alone for it held nearly all")
                         .Add({});
};

ProxyMetrics::ProxyMetrics() : impl_(std::make_unique<Impl>()) {}
ProxyMetrics::~ProxyMetrics() = default;

void ProxyMetrics::Answered(std::string_view path, int status) {
  impl_->requests.Add({{"path", std::string(path)}, {"code", std::to_string(status)}}).Increment();
}

void ProxyMetrics::ClientLeft(std::string_view path) {
  impl_->left.Add({{"path", std::string(path)}}).Increment();
}

void ProxyMetrics::FirstByte(std::string_view leg, Duration took) {
  impl_->first_byte.Add({{"leg", std::string(leg)}}, kFirstByteBuckets).Observe(Seconds(took));
}

void ProxyMetrics::Chosen(std::string_view leg, std::string_view reason) {
  impl_->choices.Add({{"leg", std::string(leg)}, {"reason", std::string(reason)}}).Increment();
}

void ProxyMetrics::Matched(uint64_t prompt_tokens, uint64_t matched_tokens) {
  impl_->prompt_tokens.Increment(static_cast<double>(prompt_tokens));
  impl_->matched_tokens.Increment(static_cast<double>(matched_tokens));
}

void ProxyMetrics::FellBack(std::string_view reason) {
  impl_->fallbacks.Add({{"reason", std::string(reason)}}).Increment();
}

void ProxyMetrics::Retried(std::string_view leg) {
  impl_->retries.Add({{"leg", std::string(leg)}}).Increment();
}

void ProxyMetrics::UpstreamFailed(std::string_view leg, std::string_view kind) {
  impl_->failures.Add({{"leg", std::string(leg)}, {"kind", std::string(kind)}}).Increment();
}

void ProxyMetrics::Stranded() { impl_->stranded.Increment(); }

void ProxyMetrics::SkippedPrefill() { impl_->skipped.Increment(); }

std::string ProxyMetrics::Text(const Now& now) const {
  std::vector<MetricFamily> families = impl_->registry.Collect();
  families.push_back(SingleCounter("conductor_proxy_relayed_bytes_total",
                                   "Bytes of engines' answers relayed",
                                   relayed_.load(std::memory_order_relaxed)));
  families.push_back(SingleCounter("conductor_proxy_internal_errors_total",
                                   "Requests that an error of the proxy itself has ended",
                                   failed_inside_.load(std::memory_order_relaxed)));
  families.push_back(SingleCounter("conductor_proxy_access_log_lost_lines_total",
                                   "Lines of the access log that could not be written",
                                   now.lost_log_lines));
  families.push_back(Single("conductor_proxy_requests_in_flight", "Requests in hand",
                            static_cast<double>(now.requests)));
  families.push_back(Single("conductor_proxy_client_connections", "Connections of clients",
                            static_cast<double>(now.connections)));
  families.push_back(Single("conductor_proxy_request_body_bytes", "Bodies in memory, in bytes",
                            static_cast<double>(now.body_bytes)));
  MetricFamily in_flight =
      Gauge("conductor_proxy_engine_in_flight", "Requests that an engine has in hand");
  MetricFamily load =
      Gauge("conductor_proxy_engine_load", "The same, each weighed by the length of its prompt");
  MetricFamily available =
      Gauge("conductor_proxy_engine_available", "1: gets requests; 0: is left alone, or drained");
  MetricFamily served =
      Gauge("conductor_proxy_engine_requests_total", "Requests that an engine was given");
  served.type = MetricType::Counter;
  for (const Fleet::Standing& one : now.engines) {
    const std::vector<ClientMetric::Label> labels = {
        {"engine", one.engine->name()}, {"role", std::string(RoleName(one.engine->role()))}};
    Add(in_flight, labels, static_cast<double>(one.in_flight));
    Add(load, labels, one.load);
    Add(available, labels, one.breaker == Breaker::State::kClosed && !one.draining ? 1 : 0);
    Add(served, labels, static_cast<double>(one.served));
  }
  for (MetricFamily* family : {&in_flight, &load, &available, &served}) {
    families.push_back(std::move(*family));
  }
  return prometheus::TextSerializer().Serialize(families);
}

}  // namespace conductor::proxy
