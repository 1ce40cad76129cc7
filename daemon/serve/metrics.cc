#include "daemon/serve/metrics.h"

#include <prometheus/collectable.h>
#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/histogram.h>
#include <prometheus/metric_family.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>
#include <unistd.h>

#include <fstream>
#include <iterator>
#include <map>
#include <utility>
#include <vector>

#include "lib/base/clock.h"

namespace conductor::serve {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using Labels = std::vector<ClientMetric::Label>;

// From a cached answer to a prompt of 128k tokens on a busy machine, in seconds.
const prometheus::Histogram::BucketBoundaries kLatencyBuckets = {
    0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01,
    0.025,   0.05,   0.1,     0.25,   0.5,   1,      2.5,   5};

// Builds a family sample by sample.
class FamilyOf {
 public:
  FamilyOf(MetricType type, std::string name, std::string help) {
    family_.type = type;
    family_.name = std::move(name);
    family_.help = std::move(help);
  }

  FamilyOf& Add(Labels labels, double value) {
    ClientMetric metric;
    metric.label = std::move(labels);
    if (family_.type == MetricType::Counter) {
      metric.counter.value = value;
    } else {
      metric.gauge.value = value;
    }
    family_.metric.push_back(std::move(metric));
    return *this;
  }

  [[nodiscard]] MetricFamily Take() { return std::move(family_); }

 private:
  MetricFamily family_;
};

MetricFamily Single(MetricType type, std::string name, std::string help, double value) {
  return FamilyOf(type, std::move(name), std::move(help)).Add({}, value).Take();
}

Labels LabelsOf(const Registration& registration) {
  return {{"publisher", registration.Key()},
          {"instance", registration.instance_id},
          {"dp_rank", std::to_string(registration.dp_rank)},
          {"type", std::string(PublisherTypeName(registration.type))}};
}

Labels With(Labels labels, std::string name, std::string value) {
  labels.push_back({std::move(name), std::move(value)});
  return labels;
}

// One number of each publisher. With a label of its own where several numbers are one family:
// rows of one name stand together.
struct PublisherNumber {
  MetricType type;
  const char* name;
  const char* help;
  const char* label;  // nullptr: none
  const char* value;
  double (*get)(const PublisherStatus&);  // negative: no sample
};

template <auto kMember>
double Stream(const PublisherStatus& status) {
  return static_cast<double>(status.stream.*kMember);
}

template <auto kMember>
double StreamSequence(const PublisherStatus& status) {
  const auto& sequence = status.stream.*kMember;
  return sequence ? static_cast<double>(*sequence) : -1;
}

template <auto kMember>
double Ingest(const PublisherStatus& status) {
  return static_cast<double>(status.ingest.*kMember);
}

// Only of pools.
template <auto kMember>
double OfPool(const PublisherStatus& status) {
  return IsPool(status.registration.type) ? Ingest<kMember>(status) : -1;
}

// Only where a hash profile is declared.
template <auto kMember>
double OfHashes(const PublisherStatus& status) {
  return status.registration.hash_profile ? Ingest<kMember>(status) : -1;
}

using S = stream::StreamCounters;
using I = ingest::IngestCounters;
constexpr MetricType kGauge = MetricType::Gauge;
constexpr MetricType kCounter = MetricType::Counter;

constexpr PublisherNumber kPublisherNumbers[] = {
    {kGauge, "conductor_publisher_cursor", "Last applied sequence.", nullptr, "",
     &StreamSequence<&S::cursor>},
    {kGauge, "conductor_publisher_highest_seen", "Highest sequence received in this life.", nullptr,
     "", &StreamSequence<&S::highest_seen>},
    {kGauge, "conductor_publisher_last_event_age_seconds", "Since the last applied batch.", nullptr,
     "", [](const PublisherStatus& status) { return status.last_event_age_seconds; }},
    {kGauge, "conductor_publisher_last_event_lag_seconds",
     "From the last batch's own time to its application.", nullptr, "",
     [](const PublisherStatus& status) { return status.last_event_lag_seconds; }},
    {kGauge, "conductor_publisher_block_size_tokens", "Registered or learnt; 0: not known yet.",
     nullptr, "",
     [](const PublisherStatus& status) {
       return static_cast<double>(status.effective_block_size);
     }},
    {kCounter, "conductor_publisher_frames_total", "Live messages received.", nullptr, "",
     &Stream<&S::frames>},
    {kCounter, "conductor_publisher_malformed_frames_total",
     "Messages with a wrong number or size of frames.", nullptr, "", &Stream<&S::malformed_frames>},
    {kCounter, "conductor_publisher_batches_total", "Batches applied, by the way they came.",
     "source", "live", &Stream<&S::applied_live>},
    {kCounter, "conductor_publisher_batches_total", "", "source", "replay",
     &Stream<&S::applied_replay>},
    {kCounter, "conductor_publisher_duplicates_total", "Batches received again and ignored.",
     nullptr, "", &Stream<&S::duplicates>},
    {kCounter, "conductor_publisher_late_total", "Batches too old to be judged, ignored.", nullptr,
     "", &Stream<&S::late>},
    {kCounter, "conductor_publisher_gaps_total", "Holes in the sequence.", nullptr, "",
     &Stream<&S::gaps>},
    {kCounter, "conductor_publisher_gaps_closed_total", "Holes by what became of them.", "outcome",
     "healed", &Stream<&S::gaps_healed>},
    {kCounter, "conductor_publisher_gaps_closed_total", "", "outcome", "partial",
     &Stream<&S::gaps_partial>},
    {kCounter, "conductor_publisher_gaps_closed_total", "", "outcome", "lost",
     &Stream<&S::gaps_lost>},
    {kCounter, "conductor_publisher_lives_total", "Incarnations seen.", nullptr, "",
     &Stream<&S::lives>},
    {kCounter, "conductor_publisher_replays_total", "Replays asked for.", nullptr, "",
     &Stream<&S::replays>},
    {kCounter, "conductor_publisher_replays_failed_total", "Replays without a usable answer.",
     nullptr, "", &Stream<&S::replays_failed>},
    {kCounter, "conductor_publisher_probes_total", "Questions to silent publishers.", nullptr, "",
     &Stream<&S::probes>},
    {kCounter, "conductor_publisher_listings_total", "Key lists asked for.", nullptr, "",
     &Stream<&S::listings>},
    {kCounter, "conductor_publisher_listings_failed_total", "Of these, those that did not come.",
     nullptr, "", &Stream<&S::listings_failed>},
    {kCounter, "conductor_publisher_connects_total", "Connections made.", nullptr, "",
     &Stream<&S::connects>},
    {kCounter, "conductor_publisher_disconnects_total", "Connections lost.", nullptr, "",
     &Stream<&S::disconnects>},
    {kCounter, "conductor_publisher_pending_dropped_total",
     "Live messages dropped while a replay was open.", nullptr, "", &Stream<&S::pending_dropped>},
    {kCounter, "conductor_publisher_unrouted_total",
     "Messages at a bound endpoint that fit none or several publishers, the same for all of them.",
     nullptr, "", &Stream<&S::unrouted>},
    {kCounter, "conductor_publisher_lossy_batches_total",
     "Batches of which something could not be used.", nullptr, "", &Stream<&S::lossy_batches>},
    {kCounter, "conductor_publisher_events_total", "Events applied, by kind.", "kind", "stored",
     &Ingest<&I::stored_events>},
    {kCounter, "conductor_publisher_events_total", "", "kind", "removed",
     &Ingest<&I::removed_events>},
    {kCounter, "conductor_publisher_events_total", "", "kind", "cleared",
     &Ingest<&I::cleared_events>},
    {kCounter, "conductor_publisher_blocks_total",
     "Blocks named by events; removed_unknown: removals of what was not held.", "kind", "stored",
     &Ingest<&I::stored_blocks>},
    {kCounter, "conductor_publisher_blocks_total", "", "kind", "removed",
     &Ingest<&I::removed_blocks>},
    {kCounter, "conductor_publisher_blocks_total", "", "kind", "removed_unknown",
     &Ingest<&I::removed_unknown>},
    {kCounter, "conductor_publisher_events_unused_total",
     "Events that were read and cannot be indexed, by reason.", "reason", "block_size",
     &Ingest<&I::refused_block_size>},
    {kCounter, "conductor_publisher_events_unused_total", "", "reason", "shape",
     &Ingest<&I::refused_shape>},
    {kCounter, "conductor_publisher_events_unused_total", "", "reason", "names",
     &Ingest<&I::refused_names>},
    {kCounter, "conductor_publisher_events_unused_total", "", "reason", "group",
     &Ingest<&I::ignored_group>},
    {kCounter, "conductor_publisher_events_unused_total", "", "reason", "medium",
     &Ingest<&I::ignored_medium>},
    {kCounter, "conductor_publisher_expired_blocks_total",
     "Blocks dropped at the end of their registered time to live.", nullptr, "",
     &Ingest<&I::expired_blocks>},
    {kGauge, "conductor_publisher_trimmed_blocks",
     "Blocks of it that were given up for --memory-limit, since it was last cleared.", nullptr, "",
     &Ingest<&I::trimmed_blocks>},
    {kCounter, "conductor_publisher_rank_mismatches_total",
     "Batches whose rank is not the registered one.", nullptr, "", &Ingest<&I::rank_mismatches>},
    {kCounter, "conductor_publisher_orphans_total",
     "Events that had to wait for a block they follow.", nullptr, "", &Ingest<&I::orphaned>},
    {kCounter, "conductor_publisher_orphans_detached_total",
     "Of these, those without tokens: they wait for their own names.", nullptr, "",
     &Ingest<&I::detached>},
    {kCounter, "conductor_publisher_orphans_joined_total", "Of these, those that found it.",
     nullptr, "", &Ingest<&I::joined>},
    {kCounter, "conductor_publisher_orphans_dropped_total",
     "Of these, those dropped because too many bytes waited.", nullptr, "",
     &Ingest<&I::waiting_dropped>},
    {kGauge, "conductor_publisher_orphans_waiting", "Events that wait now.", nullptr, "",
     &Ingest<&I::waiting_events>},
    {kGauge, "conductor_publisher_orphans_waiting_bytes", "Bytes that wait now.", nullptr, "",
     &Ingest<&I::waiting_bytes>},
    {kCounter, "conductor_publisher_hash_checked_blocks_total",
     "Blocks whose announced hash was recomputed under the declared profile.", nullptr, "",
     &OfHashes<&I::hash_checked>},
    {kCounter, "conductor_publisher_hash_matched_blocks_total", "Of these, those that agree.",
     nullptr, "", &OfHashes<&I::hash_matched>},
    {kGauge, "conductor_publisher_hash_match_ratio", "Matched of checked; none before the first.",
     nullptr, "",
     [](const PublisherStatus& status) {
       const auto& [checked, matched] =
           std::pair(status.ingest.hash_checked, status.ingest.hash_matched);
       return checked == 0 ? -1 : static_cast<double>(matched) / static_cast<double>(checked);
     }},
    {kGauge, "conductor_publisher_pool_objects", "Objects that the pool holds.", nullptr, "",
     &OfPool<&I::objects>},
    {kGauge, "conductor_publisher_pool_blocks",
     "Blocks of the pool; detached: whole, but announced by no engine.", "parts", "whole",
     &OfPool<&I::pool_blocks>},
    {kGauge, "conductor_publisher_pool_blocks", "", "parts", "partial",
     &OfPool<&I::partial_blocks>},
    {kGauge, "conductor_publisher_pool_blocks", "", "parts", "detached",
     &OfPool<&I::detached_blocks>},
    {kCounter, "conductor_publisher_pool_events_total", "Events of objects applied, by kind.",
     "kind", "stored", &OfPool<&I::objects_stored>},
    {kCounter, "conductor_publisher_pool_events_total", "", "kind", "removed",
     &OfPool<&I::objects_removed>},
    {kCounter, "conductor_publisher_pool_objects_unused_total",
     "Objects passed over: of unknown keys, or of models that the registration does not name.",
     "reason", "unread", &OfPool<&I::objects_unread>},
    {kCounter, "conductor_publisher_pool_objects_unused_total", "", "reason", "foreign",
     &OfPool<&I::objects_foreign>},
};

void AppendNumbers(const std::vector<PublisherStatus>& publishers,
                   std::vector<MetricFamily>& families) {
  const char* last = "";
  for (const PublisherNumber& number : kPublisherNumbers) {
    if (std::string_view(last) != number.name) {
      families.push_back(FamilyOf(number.type, number.name, number.help).Take());
      last = number.name;
    }
    for (const PublisherStatus& status : publishers) {
      const double value = number.get(status);
      if (value < 0) continue;
      Labels labels = LabelsOf(status.registration);
      if (number.label != nullptr) labels = With(std::move(labels), number.label, number.value);
      ClientMetric metric;
      metric.label = std::move(labels);
      (number.type == kCounter ? metric.counter.value : metric.gauge.value) = value;
      families.back().metric.push_back(std::move(metric));
    }
  }
}

MetricFamily States(const std::vector<PublisherStatus>& publishers) {
  FamilyOf states(kGauge, "conductor_publisher_state", "1 for the state it is in, 0 for others.");
  for (const PublisherStatus& status : publishers) {
    for (const auto state :
         {stream::TrustState::kConnecting, stream::TrustState::kReplaying,
          stream::TrustState::kLive, stream::TrustState::kDegraded, stream::TrustState::kStale}) {
      states.Add(
          With(LabelsOf(status.registration), "state", std::string(stream::TrustStateName(state))),
          status.trust.state == state ? 1 : 0);
    }
  }
  return states.Take();
}

MetricFamily Reasons(const std::vector<PublisherStatus>& publishers) {
  FamilyOf reasons(kGauge, "conductor_publisher_reason",
                   "1, with the reason of its state where there is one.");
  for (const PublisherStatus& status : publishers) {
    if (status.trust.reason.empty()) continue;
    reasons.Add(With(LabelsOf(status.registration), "reason", status.trust.reason), 1);
  }
  return reasons.Take();
}

MetricFamily DecodeErrors(const std::vector<PublisherStatus>& publishers) {
  FamilyOf errors(kCounter, "conductor_publisher_decode_errors_total",
                  "Payloads, events and fields that could not be read, by reason.");
  for (const PublisherStatus& status : publishers) {
    for (const auto& [reason, count] : status.decode_skips) {
      errors.Add(With(LabelsOf(status.registration), "reason", reason), static_cast<double>(count));
    }
  }
  return errors.Take();
}

double ResidentBytes() {
  std::ifstream statm("/proc/self/statm");
  uint64_t size = 0;
  uint64_t resident = 0;
  statm >> size >> resident;
  return static_cast<double>(resident) * static_cast<double>(::sysconf(_SC_PAGESIZE));
}

}  // namespace

// Of what there is none yet there is no sample.
std::vector<MetricFamily> SnapshotMetrics(const Snapshots::Stats& stats,
                                          const RestoreTally& restored) {
  const auto number = [](uint64_t value) { return static_cast<double>(value); };
  FamilyOf age(kGauge, "conductor_snapshot_age_seconds", "Since the newest snapshot was begun.");
  FamilyOf bytes(kGauge, "conductor_snapshot_bytes", "The size of the newest snapshot.");
  FamilyOf blocks(kGauge, "conductor_snapshot_blocks", "Blocks in the newest snapshot.");
  if (stats.info) {
    age.Add({}, stats.age);
    bytes.Add({}, number(stats.info->bytes));
    blocks.Add({}, number(stats.info->blocks));
  }
  return {age.Take(),
          bytes.Take(),
          blocks.Take(),
          FamilyOf(kCounter, "conductor_snapshot_saves_total", "Saves, by outcome.")
              .Add({{"outcome", "saved"}}, number(stats.saved))
              .Add({{"outcome", "failed"}}, number(stats.failed))
              .Take(),
          Single(kGauge, "conductor_snapshot_duration_seconds", "What the last save took.",
                 stats.seconds),
          FamilyOf(kGauge, "conductor_snapshot_restored_publishers",
                   "Publishers of the snapshot that had applied anything, by what became of what "
                   "they held.")
              .Add({{"outcome", "undecided"}}, number(restored.undecided))
              .Add({{"outcome", "proven"}}, number(restored.proven))
              .Add({{"outcome", "dropped"}}, number(restored.dropped))
              .Add({{"outcome", "doubted"}}, number(restored.doubted))
              .Add({{"outcome", "left_out"}}, number(restored.left_out))
              .Take(),
          FamilyOf(kGauge, "conductor_snapshot_restored_holdings",
                   "What they held, for each rank and tier, by what became of it.")
              .Add({{"outcome", "proven"}}, number(restored.proven_holdings))
              .Add({{"outcome", "dropped"}}, number(restored.dropped_holdings))
              .Add({{"outcome", "doubted"}}, number(restored.doubted_holdings))
              .Add({{"outcome", "left_out"}}, number(restored.left_out_holdings))
              .Take()};
}

struct Metrics::Impl : public prometheus::Collectable {
  Impl(const Registry& given_registry, std::function<HttpConnections()> given_connections)
      : registry(given_registry),
        connections(std::move(given_connections)),
        requests(prometheus::BuildCounter()
                     .Name("conductor_http_requests_total")
                     .Help("Requests by route and status code.")
                     .Register(http)),
        refusals(prometheus::BuildCounter()
                     .Name("conductor_http_refusals_total")
                     .Help("Requests that no handler saw, by reason.")
                     .Register(http)),
        latencies(prometheus::BuildHistogram()
                      .Name("conductor_http_request_duration_seconds")
                      .Help("From the complete request to the answer's last byte.")
                      .Register(http)),
        ingested(prometheus::BuildCounter()
                     .Name("conductor_ingest_accepted_total")
                     .Help("What POST /v1/ingest took, by kind.")
                     .Register(http)),
        ingest_deferred(prometheus::BuildCounter()
                            .Name("conductor_ingest_deferred_total")
                            .Help("What found no room there and is to be handed in again, by kind.")
                            .Register(http)),
        ingest_refusals(prometheus::BuildCounter()
                            .Name("conductor_ingest_refusals_total")
                            .Help("Bodies of which not all was taken there, by reason.")
                            .Register(http)) {
    for (const char* kind : {"frames", "events"}) {
      ingested.Add({{"kind", kind}});
      ingest_deferred.Add({{"kind", kind}});
    }
    ingest_refusals.Add({{"reason", "queue_full"}});
  }

  [[nodiscard]] std::vector<MetricFamily> Collect() const override {
    const std::vector<PublisherStatus> publishers = registry.Publishers();
    const index::IndexStats index = registry.index().Stats();
    const HttpConnections http_connections = connections();
    const EventStream::Counters events = registry.events().counters();
    const auto number = [](uint64_t value) { return static_cast<double>(value); };
    std::vector<MetricFamily> families = {
        FamilyOf(kGauge, "conductor_build_info", "1; the version is its label.")
            .Add({{"version", CONDUCTOR_VERSION}}, 1)
            .Take(),
        Single(kGauge, "conductor_publishers", "Registered publishers.", number(publishers.size())),
        Single(kGauge, "conductor_index_blocks", "Distinct blocks known.", number(index.blocks)),
        Single(kGauge, "conductor_index_released_blocks",
               "Of these, those held by nobody, remembered for their names.",
               number(index.released)),
        Single(kGauge, "conductor_index_holdings", "Blocks held, by each holder on each tier.",
               number(index.holdings)),
        Single(kGauge, "conductor_index_aliases", "Engines' names of blocks.",
               number(index.aliases)),
        Single(kGauge, "conductor_index_holders", "Ranks in namespaces that may hold blocks.",
               number(index.holders)),
        Single(kCounter, "conductor_index_name_conflicts_total",
               "Held names that were announced again for another block, and blocks that had too "
               "many names.",
               number(index.name_conflicts)),
        Single(kGauge, "conductor_index_runs", "Pieces of chains, of up to 64 blocks.",
               number(index.runs)),
        Single(kGauge, "conductor_index_bytes", "Memory of the index.", number(index.bytes)),
        Single(kGauge, "conductor_index_memory_limit_bytes", "Its --memory-limit; 0: none.",
               number(registry.index().options().memory_limit)),
        Single(kCounter, "conductor_index_trims_total",
               "Times that leaves were given up because the limit was reached.",
               number(index.trims)),
        Single(kCounter, "conductor_index_trimmed_blocks_total", "Blocks that were given up.",
               number(index.trimmed)),
        Single(kGauge, "conductor_http_connections", "Open connections.",
               number(http_connections.open)),
        Single(kGauge, "conductor_http_threads", "Threads that serve connections.",
               number(http_connections.threads)),
        Single(kCounter, "conductor_http_connections_accepted_total", "Connections served.",
               number(http_connections.accepted)),
        Single(kCounter, "conductor_http_connections_rejected_total",
               "Connections answered 503 because too many were open.",
               number(http_connections.rejected)),
        Single(kCounter, "conductor_http_tls_failures_total",
               "Connections that ended before their TLS handshake did.",
               number(http_connections.unopened)),
        Single(kGauge, "conductor_http_body_bytes",
               "Bodies of requests that are being received or handled.",
               number(http_connections.body_bytes)),
        Single(kGauge, "conductor_event_readers", "Connections that follow /v1/events.",
               number(events.readers)),
        Single(kCounter, "conductor_event_stream_told_total",
               "Events put into the queues of those connections.", number(events.told)),
        Single(kCounter, "conductor_event_stream_lost_total",
               "Events that did not fit there, because a client was slow.", number(events.lost)),
        Single(kGauge, "process_resident_memory_bytes", "Resident memory.", ResidentBytes()),
        Single(kGauge, "process_start_time_seconds", "Start, in seconds since 1970.", start_time),
        States(publishers),
        Reasons(publishers),
        DecodeErrors(publishers)};
    AppendNumbers(publishers, families);
    return families;
  }

  const Registry& registry;
  const std::function<HttpConnections()> connections;
  std::function<QueryStats()> query_endpoint;   // where there is one
  std::function<Snapshots::Stats()> snapshots;  // where there are any
  const double start_time = UnixNow();
  prometheus::Registry http;
  prometheus::Family<prometheus::Counter>& requests;
  prometheus::Family<prometheus::Counter>& refusals;
  prometheus::Family<prometheus::Histogram>& latencies;
  prometheus::Family<prometheus::Counter>& ingested;
  prometheus::Family<prometheus::Counter>& ingest_deferred;
  prometheus::Family<prometheus::Counter>& ingest_refusals;
};

Metrics::Metrics(const Registry& registry, std::function<HttpConnections()> connections)
    : impl_(std::make_unique<Impl>(registry, std::move(connections))) {}

Metrics::~Metrics() = default;

void Metrics::ShowQueryEndpoint(std::function<QueryStats()> stats) {
  impl_->query_endpoint = std::move(stats);
}

void Metrics::ShowSnapshots(std::function<Snapshots::Stats()> stats) {
  impl_->snapshots = std::move(stats);
}

void Metrics::Count(const HttpExchange& exchange) {
  const std::string route(exchange.route);
  impl_->requests.Add({{"route", route}, {"code", std::to_string(exchange.status)}}).Increment();
  if (!exchange.reason.empty()) {
    impl_->refusals.Add({{"reason", std::string(exchange.reason)}}).Increment();
  }
  if (exchange.seconds < 0) return;
  impl_->latencies.Add({{"route", route}}, kLatencyBuckets).Observe(exchange.seconds);
}

void Metrics::Count(const IngestExchange& exchange) {
  const std::map<std::string, std::string> kind = {{"kind", exchange.events ? "events" : "frames"}};
  impl_->ingested.Add(kind).Increment(static_cast<double>(exchange.accepted));
  impl_->ingest_deferred.Add(kind).Increment(static_cast<double>(exchange.deferred));
  if (!exchange.reason.empty())
    impl_->ingest_refusals.Add({{"reason", exchange.reason}}).Increment();
}

std::string Metrics::Scrape() const {
  std::vector<MetricFamily> families = impl_->Collect();
  if (impl_->query_endpoint) {
    std::vector<MetricFamily> queries = QueryMetrics(impl_->query_endpoint());
    families.insert(families.end(), std::make_move_iterator(queries.begin()),
                    std::make_move_iterator(queries.end()));
  }
  std::vector<MetricFamily> snapshots = SnapshotMetrics(
      impl_->snapshots ? impl_->snapshots() : Snapshots::Stats{}, impl_->registry.restored());
  families.insert(families.end(), std::make_move_iterator(snapshots.begin()),
                  std::make_move_iterator(snapshots.end()));
  std::vector<MetricFamily> http = impl_->http.Collect();
  families.insert(families.end(), std::make_move_iterator(http.begin()),
                  std::make_move_iterator(http.end()));
  return prometheus::TextSerializer().Serialize(families);
}

}  // namespace conductor::serve
