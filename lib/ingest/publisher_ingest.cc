#include "lib/ingest/publisher_ingest.h"

#include <utility>

#include "lib/ingest/publisher_life.h"

namespace conductor::ingest {

PublisherIngest::PublisherIngest(index::PrefixIndex& index, PublisherProfile profile,
                                 IngestLimits limits, uint32_t publisher)
    : index_(index), profile_(std::move(profile)), limits_(limits), publisher_(publisher) {
  visible_ = MakeLife(true);
}

PublisherIngest::~PublisherIngest() = default;

// At most two lives of a publisher exist at once, so two numbers are enough to keep them apart.
std::unique_ptr<PublisherLife> PublisherIngest::MakeLife(bool visible) {
  uint32_t number = publisher_ * 2;
  if (visible_ && visible_->number() == number) ++number;
  return std::make_unique<PublisherLife>(index_, profile_, limits_, number, visible, counters_);
}

void PublisherIngest::Apply(const wire::EventBatch& batch, MonoTime now,
                            const index::Occasion& occasion) {
  ++counters_.batches;
  if (batch.last_event_id) counters_.last_event_id = *batch.last_event_id;
  (hidden_ ? hidden_ : visible_)->Apply(batch, now, occasion);
}

std::optional<MonoTime> PublisherIngest::NextDeadline() const {
  std::optional<MonoTime> next = visible_->NextDeadline();
  const auto of_hidden = hidden_ ? hidden_->NextDeadline() : std::nullopt;
  if (of_hidden && (!next || *of_hidden < *next)) next = of_hidden;
  return next;
}

void PublisherIngest::Tick(MonoTime now, const index::Occasion& occasion) {
  visible_->Tick(now, occasion);
  if (hidden_) hidden_->Tick(now, occasion);
}

void PublisherIngest::Leave(const index::Occasion& occasion) {
  visible_->Leave(index::RemovalCause::kUnregistered, occasion);
}

void PublisherIngest::NewLife(const index::Occasion& occasion) {
  const bool rebuilding = hidden_ != nullptr;
  hidden_.reset();
  visible_->Leave(index::RemovalCause::kNewLife, occasion);
  visible_.reset();
  visible_ = MakeLife(true);
  if (rebuilding) hidden_ = MakeLife(false);
}

void PublisherIngest::BeginRebuild() {
  hidden_.reset();
  hidden_ = MakeLife(false);
}

void PublisherIngest::CommitRebuild(const index::Occasion& occasion) {
  if (!hidden_) return;
  hidden_->Replace(*visible_, occasion);
  visible_ = std::move(hidden_);
}

void PublisherIngest::AbandonRebuild() { hidden_.reset(); }

std::unique_ptr<LifeCopy> PublisherIngest::BeginCopy(MonoTime now) const {
  return visible_->BeginCopy(now);
}

PublisherIngest::Restored PublisherIngest::Restore(index::PrefixIndex::Writer& writer,
                                                   const SavedLife& saved, MonoTime now,
                                                   Duration elapsed) {
  return visible_->Restore(writer, saved, now, elapsed);
}

uint64_t PublisherIngest::Holdings() const { return visible_->Holdings(); }

bool PublisherIngest::HoldsNothing() const {
  return (hidden_ ? hidden_ : visible_)->HoldsNothing();
}

IngestCounters PublisherIngest::Counters() const {
  const PublisherLife& life = *(hidden_ ? hidden_ : visible_);
  IngestCounters counters = counters_;
  counters.waiting_events = life.waiting().size();
  counters.waiting_bytes = life.waiting().bytes();
  counters.trimmed_blocks = visible_->TrimmedBlocks();
  if (const HashCheck* check = life.hash_check()) {
    counters.hash_checked = check->checked();
    counters.hash_matched = check->matched();
    counters.hash_hint = check->hint();
    counters.hash_fit = check->fit();
  }
  counters.block_size = life.block_size() != 0 ? life.block_size() : visible_->block_size();
  return counters;
}

}  // namespace conductor::ingest
