#include "daemon/serve/pool_consumer.h"

#include <utility>
#include <variant>

#include "daemon/serve/ingest_profile.h"

namespace conductor::serve {
namespace {

using Lost = stream::Consumer::Lost;

bool HasCleared(const wire::EventBatch& batch) {
  for (const wire::KvEvent& event : batch.events) {
    if (std::holds_alternative<wire::ScopeCleared>(event)) return true;
  }
  return false;
}

class CopyOfPool : public PublisherCopy {
 public:
  explicit CopyOfPool(std::unique_ptr<ingest::PoolCopy> pool) : pool_(std::move(pool)) {}
  bool Step() override { return pool_->Step(); }
  void Take(store::SavedPublisher& saved) override { saved.pool = pool_->Take(); }

 private:
  std::unique_ptr<ingest::PoolCopy> pool_;
};

}  // namespace

PoolConsumer::PoolConsumer(index::PrefixIndex& index, const Registration& registration,
                           const ingest::IngestLimits& limits,
                           std::shared_ptr<PublisherBoard> board,
                           std::shared_ptr<ListingRequests> listings)
    : PublisherConsumer(registration, std::move(board)),
      ingest_(index, PoolProfile(registration), limits),
      listings_(std::move(listings)) {}

void PoolConsumer::OpenListing(uint64_t request) {
  open_ = request;
  ingest_.BeginListing();
  const std::lock_guard lock(listings_->mutex);
  listings_->wanted = request;
  listings_->changed.notify_all();
}

void PoolConsumer::CloseListing(uint64_t request) {
  if (open_ != request) return;
  open_.reset();
  ingest_.AbandonListing();
  const std::lock_guard lock(listings_->mutex);
  if (listings_->wanted == request) listings_->wanted.reset();
}

std::unique_ptr<PublisherCopy> PoolConsumer::BeginCopy(MonoTime now) const {
  return std::make_unique<CopyOfPool>(ingest_.BeginCopy(now));
}

bool PoolConsumer::Listed(std::span<const ingest::ListedObject> objects) {
  const bool speaks_for_all = ingest_.ApplyListing(objects);
  open_.reset();
  Publish();
  return speaks_for_all;
}

std::vector<std::string> PoolConsumer::AskForTiers(size_t most) {
  return ingest_.AskForTiers(most);
}

void PoolConsumer::TiersLearnt(std::span<const ingest::ListedObject> objects) {
  ingest_.TiersLearnt(objects);
  Publish();
}

uint64_t PoolConsumer::last_event_id() const { return ingest_.Counters().last_event_id; }

void PoolConsumer::Ingest(stream::Sequence, const wire::EventBatch& batch, Applied& applied) {
  const uint64_t engine_events = ingest_.Counters().refused_shape;
  ingest_.Apply(batch, MonoNow());
  applied.holds_nothing = HasCleared(batch) && ingest_.HoldsNothing();
  if (ingest_.Counters().refused_shape == engine_events || applied.lost != Lost::kNothing) return;
  applied.lost = Lost::kStores;
  applied.what = "it sends an engine's events: is its type right?";
}

void PoolConsumer::DropAll() { ingest_.NewLife(); }

ingest::IngestCounters PoolConsumer::Counters() const { return ingest_.Counters(); }

std::optional<MonoTime> PoolConsumer::NextDeadline() const { return ingest_.NextDeadline(); }

void PoolConsumer::Tick(MonoTime now) {
  ingest_.Tick(now);
  Publish();
}

stream::Trust PoolConsumer::Judge(const stream::Trust& of_stream) const {
  const auto doubt = ingest_.doubt();
  if (!doubt) return of_stream;
  stream::Trust trust{.state = stream::TrustState::kDegraded,
                      .reason = doubt->too_high ? "doubtful" : "incomplete",
                      .detail = doubt->detail};
  return stream::Worse(trust, of_stream) ? trust : of_stream;
}

}  // namespace conductor::serve
