#ifndef CONDUCTOR_DAEMON_SERVE_POOL_CONSUMER_H_
#define CONDUCTOR_DAEMON_SERVE_POOL_CONSUMER_H_

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "daemon/serve/publisher_consumer.h"
#include "lib/index/prefix_index.h"
#include "lib/ingest/pool_ingest.h"

namespace conductor::serve {

// Where a pool's consumer leaves the listing that it wants, for the thread that gets it.
struct ListingRequests {
  std::mutex mutex;
  std::condition_variable changed;  // with mutex
  std::optional<uint64_t> wanted;   // guarded by mutex; the newest one that is not closed
  bool stopped = false;             // guarded by mutex
};

// A pool's objects, on their way into the index.
class PoolConsumer : public PublisherConsumer {
 public:
  // `index` must outlive it.
  PoolConsumer(index::PrefixIndex& index, const Registration& registration,
               const ingest::IngestLimits& limits, std::shared_ptr<PublisherBoard> board,
               std::shared_ptr<ListingRequests> listings);

  // Rebuilds come of replays, which no master has.
  void BeginRebuild() override {}
  void CommitRebuild() override {}
  void AbandonRebuild() override {}
  void OpenListing(uint64_t request) override;
  void CloseListing(uint64_t request) override;
  [[nodiscard]] std::optional<MonoTime> NextDeadline() const override;
  void Tick(MonoTime now) override;

  [[nodiscard]] std::unique_ptr<PublisherCopy> BeginCopy(MonoTime now) const override;
  [[nodiscard]] uint64_t Holdings() const override { return ingest_.Counters().pool_blocks; }
  // See PoolIngest::Restore.
  void Restore(index::PrefixIndex::Writer& writer, const ingest::SavedPool& saved,
               Duration elapsed) {
    ingest_.Restore(writer, saved, MonoNow(), elapsed);
  }

  // The listing that is open, if it is still `request`.
  [[nodiscard]] bool Wants(uint64_t request) const { return open_ == request; }
  // The answer to the open listing; see PoolIngest::ApplyListing.
  bool Listed(std::span<const ingest::ListedObject> objects);
  [[nodiscard]] std::vector<std::string> AskForTiers(size_t most);
  void TiersLearnt(std::span<const ingest::ListedObject> objects);
  // The highest event number received; 0: none yet.
  [[nodiscard]] uint64_t last_event_id() const;

 protected:
  void Ingest(stream::Sequence sequence, const wire::EventBatch& batch, Applied& applied) override;
  void DropAll() override;
  [[nodiscard]] ingest::IngestCounters Counters() const override;
  [[nodiscard]] stream::Trust Judge(const stream::Trust& of_stream) const override;

 private:
  ingest::PoolIngest ingest_;
  std::shared_ptr<ListingRequests> listings_;
  std::optional<uint64_t> open_;
};

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_POOL_CONSUMER_H_
