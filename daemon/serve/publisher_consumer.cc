#include "daemon/serve/publisher_consumer.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "daemon/serve/registry.h"
#include "lib/base/log.h"

namespace conductor::serve {
namespace {

using Lost = stream::Consumer::Lost;

// What the batch's decoding lost.
void NoteSkips(const wire::EventBatch& batch, stream::Consumer::Applied& applied) {
  if (!batch.lost_stores && !batch.lost_removals) return;
  applied.lost = batch.lost_removals ? Lost::kRemovals : Lost::kStores;
  const auto skip =
      std::ranges::find(batch.skips, wire::SkipReason::kMalformedEvent, &wire::Skip::reason);
  // Only the first skips have a text.
  applied.what = skip != batch.skips.end() ? skip->Describe() : "an event that cannot be read";
}

std::string Describe(const stream::Trust& trust) {
  std::string text(stream::TrustStateName(trust.state));
  if (!trust.reason.empty()) text += fmt::format(" ({})", trust.reason);
  return text;
}

// What every publisher goes through when it is added is no news; what needs somebody is a warning.
log::Level LevelOf(const stream::Trust& trust) {
  if (trust.reason == "not_connected" || trust.reason == "no_events_yet") {
    return log::Level::kDebug;
  }
  const bool good =
      trust.state == stream::TrustState::kLive || trust.state == stream::TrustState::kReplaying;
  return good ? log::Level::kInfo : log::Level::kWarn;
}

}  // namespace

PublisherConsumer::PublisherConsumer(const Registration& registration,
                                     std::shared_ptr<PublisherBoard> board)
    : name_(fmt::format("publisher {} at {}", registration.Key(), registration.Source())),
      decoder_(registration.type),
      board_(std::move(board)),
      teller_(board_->events, registration) {}

stream::Consumer::Applied PublisherConsumer::Apply(stream::Sequence sequence,
                                                   std::string_view payload) {
  const auto where = [&] { return fmt::format("sequence {}", static_cast<uint64_t>(sequence)); };
  const Result<wire::EventBatch> batch = decoder_.Decode(payload);
  if (!batch) {
    CountSkip("not_a_batch", 1, Error(batch.error()).Within(where()).Message());
    return {.lost = Lost::kRemovals, .what = "it is no batch: " + batch.error().Message()};
  }
  Applied applied;
  NoteSkips(*batch, applied);
  Ingest(sequence, *batch, applied);
  const ingest::IngestCounters counters = Counters();
  teller_.Applied(sequence, *batch, counters);
  for (const auto& [reason, count] : batch->skipped) {
    const auto skip = std::ranges::find(batch->skips, reason, &wire::Skip::reason);
    std::string error;
    if (skip != batch->skips.end()) error = fmt::format("{}, {}", where(), skip->Describe());
    CountSkip(std::string(wire::SkipReasonName(reason)), count, error);
  }
  TellCounters(counters, MonoNow());
  if (batch->timestamp > 0) board_->last_lag_seconds = UnixNow() - batch->timestamp;
  TellTrust();
  return applied;
}

void PublisherConsumer::NewLife() {
  log::Info("{}: what it held is dropped: it began a new life, or was in doubt for too long",
            name_);
  DropAll();
  teller_.NewLife();
  Publish();
}

void PublisherConsumer::TrustChanged(const stream::Trust& trust) {
  of_stream_ = trust;
  TellTrust();
}

void PublisherConsumer::Restored(uint64_t holdings, std::shared_ptr<RestoreTally> tally) {
  restored_holdings_ = holdings;
  tally_ = std::move(tally);
  ++tally_->undecided;
  Publish();
}

void PublisherConsumer::ResumeEnded(ResumeEnd end, std::string_view why) {
  if (!tally_) return;
  --tally_->undecided;
  switch (end) {
    case ResumeEnd::kProven:
      ++tally_->proven;
      tally_->proven_holdings += restored_holdings_;
      log::Info("{}: what was restored is proven: it holds {} blocks still", name_,
                restored_holdings_);
      break;
    case ResumeEnd::kDropped:
      ++tally_->dropped;
      tally_->dropped_holdings += restored_holdings_;
      log::Warn("{}: what was restored is dropped, {} blocks: {}", name_, restored_holdings_, why);
      break;
    case ResumeEnd::kDoubted:
      ++tally_->doubted;
      tally_->doubted_holdings += restored_holdings_;
      log::Warn("{}: what was restored is in doubt, {} blocks: {}", name_, restored_holdings_, why);
      break;
  }
}

void PublisherConsumer::TellTrust() {
  const stream::Trust trust = Judge(of_stream_);
  stream::Trust before;
  {
    const std::lock_guard lock(board_->mutex);
    if (board_->trust == trust) return;
    before = std::exchange(board_->trust, trust);
  }
  board_->Changed();
  teller_.TrustChanged(trust);
  if (before.state == trust.state && before.reason == trust.reason) return;
  log::Write(LevelOf(trust),
             fmt::format("{}: {} -> {}{}{}", name_, Describe(before), Describe(trust),
                         trust.detail.empty() ? "" : ": ", trust.detail));
}

void PublisherConsumer::CountSkip(const std::string& reason, uint64_t count,
                                  const std::string& error) {
  bool first = false;
  {
    const std::lock_guard lock(board_->mutex);
    uint64_t& counted = board_->decode_skips[reason];
    first = counted == 0;
    counted += count;
    if (!error.empty()) board_->last_decode_error = error;
  }
  if (first) log::Warn("{}: {} (more of {} are only counted)", name_, error, reason);
}

void PublisherConsumer::TellCounters(const ingest::IngestCounters& counters,
                                     std::optional<MonoTime> applied) {
  bool changed = false;
  {
    const std::lock_guard lock(board_->mutex);
    changed = counters.block_size != board_->ingest.block_size;
    board_->ingest = counters;
    if (applied) board_->last_applied = applied;
  }
  if (changed) board_->Changed();
}

void PublisherConsumer::Publish() {
  TellCounters(Counters());
  TellTrust();
}

}  // namespace conductor::serve
