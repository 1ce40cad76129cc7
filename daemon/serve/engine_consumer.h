#ifndef CONDUCTOR_DAEMON_SERVE_ENGINE_CONSUMER_H_
#define CONDUCTOR_DAEMON_SERVE_ENGINE_CONSUMER_H_

#include <cstdint>
#include <memory>
#include <optional>

#include "daemon/serve/publisher_consumer.h"
#include "lib/index/prefix_index.h"

namespace conductor::serve {

// An engine's events, on their way into the index.
class EngineConsumer : public PublisherConsumer {
 public:
  // `number` as in ingest::PublisherIngest. `index` must outlive it.
  EngineConsumer(index::PrefixIndex& index, const Registration& registration,
                 const ingest::IngestLimits& limits, uint32_t number,
                 std::shared_ptr<PublisherBoard> board);
  ~EngineConsumer() override;

  void BeginRebuild() override;
  void CommitRebuild() override;
  void AbandonRebuild() override;
  [[nodiscard]] std::optional<MonoTime> NextDeadline() const override;
  void Tick(MonoTime now) override;

  [[nodiscard]] std::unique_ptr<PublisherCopy> BeginCopy(MonoTime now) const override;
  [[nodiscard]] uint64_t Holdings() const override { return ingest_.Holdings(); }
  // See PublisherIngest::Restore.
  [[nodiscard]] ingest::PublisherIngest::Restored Restore(index::PrefixIndex::Writer& writer,
                                                          const ingest::SavedLife& saved,
                                                          Duration elapsed) {
    return ingest_.Restore(writer, saved, MonoNow(), elapsed);
  }

 protected:
  void Ingest(stream::Sequence sequence, const wire::EventBatch& batch, Applied& applied) override;
  void DropAll() override;
  [[nodiscard]] ingest::IngestCounters Counters() const override;
  [[nodiscard]] stream::Trust Judge(const stream::Trust& of_stream) const override;

 private:
  void NoteHashes(const ingest::IngestCounters& counters);

  const index::PrefixIndex& index_;
  ingest::PublisherIngest ingest_;
  MonoTime next_look_{};        // at what others' events have pushed out
  bool hashes_differ_ = false;  // as it was told last
};

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_ENGINE_CONSUMER_H_
