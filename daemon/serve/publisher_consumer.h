#ifndef CONDUCTOR_DAEMON_SERVE_PUBLISHER_CONSUMER_H_
#define CONDUCTOR_DAEMON_SERVE_PUBLISHER_CONSUMER_H_

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "daemon/serve/churn.h"
#include "daemon/serve/event_document.h"
#include "daemon/serve/event_stream.h"
#include "daemon/serve/registration.h"
#include "lib/base/clock.h"
#include "lib/ingest/publisher_ingest.h"
#include "lib/store/saved_publisher.h"
#include "lib/stream/consumer.h"
#include "lib/wire/decoder.h"

namespace conductor::serve {

// What a publisher's ingest thread tells the threads that answer requests.
struct PublisherBoard {
  // Counted up after a change of what EngineTable has, where somebody wants to know.
  std::shared_ptr<std::atomic<uint64_t>> changes = nullptr;
  std::atomic<double> last_lag_seconds = -1;  // in no order with the rest

  // Where every event is told as it is applied; nullptr: nowhere. Set before the consumer is made.
  EventStream* events = nullptr;
  std::mutex mutex;  // guards everything below
  stream::Trust trust;
  ingest::IngestCounters ingest;
  std::map<std::string, uint64_t> decode_skips;
  std::string last_decode_error;
  std::optional<MonoTime> last_applied;
  Churn churn{MonoNow()};  // of `ingest`, which the registry looks at now and then

  void Changed() const {
    if (changes) changes->fetch_add(1);
  }
};

struct RestoreTally;

// A publisher's own part of a snapshot, copied piece by piece while it is held still.
class PublisherCopy {
 public:
  virtual ~PublisherCopy() = default;
  // A tenth of a millisecond of work; false when all is copied.
  virtual bool Step() = 0;
  // At the end, once.
  virtual void Take(store::SavedPublisher& saved) = 0;
};

// One publisher's stream, decoded and handed to whatever takes its events into the index: what
// EngineConsumer and PoolConsumer share. Used by the publisher's ingest thread alone; the board is
// shared.
class PublisherConsumer : public stream::Consumer {
 public:
  Applied Apply(stream::Sequence sequence, std::string_view payload) final;
  void NewLife() final;
  void TrustChanged(const stream::Trust& trust) final;
  void ResumeEnded(ResumeEnd end, std::string_view why) final;

  [[nodiscard]] virtual std::unique_ptr<PublisherCopy> BeginCopy(MonoTime now) const = 0;
  // (block, holder, tier) that it holds now.
  [[nodiscard]] virtual uint64_t Holdings() const = 0;
  // What its counters are, for people: of a publisher of which no batch comes.
  void ShowCounters() { Publish(); }
  // It was restored with so many holdings; what becomes of them is counted in `tally`.
  void Restored(uint64_t holdings, std::shared_ptr<RestoreTally> tally);

 protected:
  PublisherConsumer(const Registration& registration, std::shared_ptr<PublisherBoard> board);

  // Takes the events in. What the batch's decoding lost is in `applied` already.
  virtual void Ingest(stream::Sequence sequence, const wire::EventBatch& batch,
                      Applied& applied) = 0;
  // Everything that was told goes.
  virtual void DropAll() = 0;
  [[nodiscard]] virtual ingest::IngestCounters Counters() const = 0;
  // What is to be told: the stream's trust, or what is worse.
  [[nodiscard]] virtual stream::Trust Judge(const stream::Trust& of_stream) const {
    return of_stream;
  }

  [[nodiscard]] const std::string& name() const { return name_; }  // for log lines
  // "begun", "complete" or "abandoned".
  void TellRebuild(std::string_view phase) const { teller_.Rebuild(phase); }
  // After a change that no batch brought: counters and trust as they are now.
  void Publish();

 private:
  void CountSkip(const std::string& reason, uint64_t count, const std::string& error);
  void TellTrust();
  // What the counters are, onto the board; `applied`: when a batch was.
  void TellCounters(const ingest::IngestCounters& counters,
                    std::optional<MonoTime> applied = std::nullopt);

  const std::string name_;  // key and endpoint
  wire::Decoder decoder_;
  std::shared_ptr<PublisherBoard> board_;
  EventTeller teller_;
  stream::Trust of_stream_;
  uint64_t restored_holdings_ = 0;
  std::shared_ptr<RestoreTally> tally_;  // of what was restored; null: nothing was
};

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_PUBLISHER_CONSUMER_H_
