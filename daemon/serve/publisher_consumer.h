#ifndef CONDUCTOR_DAEMON_SERVE_PUBLISHER_CONSUMER_H_
#define CONDUCTOR_DAEMON_SERVE_PUBLISHER_CONSUMER_H_

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "daemon/serve/registration.h"
#include "lib/base/clock.h"
#include "lib/index/prefix_index.h"
#include "lib/ingest/publisher_ingest.h"
#include "lib/stream/consumer.h"
#include "lib/wire/decoder.h"

namespace conductor::serve {

// What a publisher's ingest thread tells the threads that answer requests.
struct PublisherBoard {
  std::mutex mutex;  // guards everything below
  stream::Trust trust;
  ingest::IngestCounters ingest;
  std::map<std::string, uint64_t> decode_skips;
  std::string last_decode_error;
  std::optional<MonoTime> last_applied;
  double last_lag_seconds = -1;
};

// One publisher's stream, decoded and taken into the index. Used by its ingest thread alone; the
// board is shared.
class PublisherConsumer : public stream::Consumer {
 public:
  // `number` as in ingest::PublisherIngest. `index` must outlive it.
  PublisherConsumer(index::PrefixIndex& index, const Registration& registration,
                    const ingest::IngestLimits& limits, uint32_t number,
                    std::shared_ptr<PublisherBoard> board);

  Applied Apply(stream::Sequence sequence, std::string_view payload) override;
  void NewLife() override;
  void BeginRebuild() override;
  void CommitRebuild() override;
  void AbandonRebuild() override;
  void TrustChanged(const stream::Trust& trust) override;

 private:
  void CountSkip(const std::string& reason, uint64_t count, const std::string& error);
  void PublishCounters();

  const std::string name_;  // for log lines: key and endpoint
  const PublisherType type_;
  ingest::PublisherIngest ingest_;
  wire::Decoder decoder_;
  std::shared_ptr<PublisherBoard> board_;
};

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_PUBLISHER_CONSUMER_H_
