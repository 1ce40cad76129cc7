#include "daemon/serve/publisher_consumer.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <variant>

#include "lib/base/log.h"

namespace conductor::serve {
namespace {

ingest::PublisherProfile ProfileOf(const Registration& registration) {
  return ingest::PublisherProfile{
      .instance_id = registration.instance_id,
      .tenant = registration.tenant,
      .model = registration.model,
      .lora_name = registration.lora_name,
      .additional_salt = registration.additional_salt,
      .block_size = registration.block_size,
      .dp_rank = registration.dp_rank,
      .copies = registration.copies,
  };
}

bool HasCleared(const wire::EventBatch& batch) {
  for (const wire::KvEvent& event : batch.events) {
    if (std::holds_alternative<wire::AllBlocksCleared>(event)) return true;
  }
  return false;
}

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

// What came between two readings of the counters and could not be taken into the index.
void NoteRefused(const ingest::IngestCounters& before, const ingest::IngestCounters& after,
                 stream::Consumer::Applied& applied) {
  std::string what;
  if (after.refused_block_size > before.refused_block_size) {
    what = fmt::format("blocks of {} tokens do not fit blocks of {}", after.last_refused_block_size,
                       after.block_size);
  } else if (after.refused_shape > before.refused_shape) {
    what = "hashes, tokens and block size of an event do not fit one another";
  } else if (after.refused_names > before.refused_names) {
    what = "it names more ranks, adapters or groups than one publisher may";
  } else if (after.waiting_dropped > before.waiting_dropped) {
    what = "events whose parent is unknown filled the memory that they may take";
  } else if (after.orphaned - after.detached > before.orphaned - before.detached) {
    what = "it stored blocks after one that was never announced";
  }
  if (what.empty() || applied.lost != Lost::kNothing) return;
  applied.lost = Lost::kStores;
  applied.what = std::move(what);
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

PublisherConsumer::PublisherConsumer(index::PrefixIndex& index, const Registration& registration,
                                     const ingest::IngestLimits& limits, uint32_t number,
                                     std::shared_ptr<PublisherBoard> board)
    : name_(fmt::format("publisher {} at {}", registration.Key(), registration.endpoint)),
      type_(registration.type),
      ingest_(index, ProfileOf(registration), limits, number),
      decoder_(registration.type),
      board_(std::move(board)) {}

stream::Consumer::Applied PublisherConsumer::Apply(stream::Sequence sequence,
                                                   std::string_view payload) {
  const auto where = [&] { return fmt::format("sequence {}", static_cast<uint64_t>(sequence)); };
  if (type_ != PublisherType::kVllm) {
    CountSkip("unread_dialect", 1,
              where() + ": events of a Mooncake master are received but not indexed");
    return {.lost = Lost::kStores, .what = "events of a Mooncake master are not indexed"};
  }
  const Result<wire::EventBatch> batch = decoder_.Decode(payload);
  if (!batch) {
    CountSkip("not_a_batch", 1, Error(batch.error()).Within(where()).Message());
    return {.lost = Lost::kRemovals, .what = "it is no batch: " + batch.error().Message()};
  }
  const ingest::IngestCounters before = ingest_.Counters();
  ingest_.Apply(*batch);
  const ingest::IngestCounters after = ingest_.Counters();
  for (const auto& [reason, count] : batch->skipped) {
    const auto skip = std::ranges::find(batch->skips, reason, &wire::Skip::reason);
    std::string error;
    if (skip != batch->skips.end()) {
      error = fmt::format("{}, {}", where(), skip->Describe());
    }
    CountSkip(std::string(wire::SkipReasonName(reason)), count, error);
  }
  {
    const std::lock_guard lock(board_->mutex);
    board_->ingest = after;
    board_->last_applied = MonoNow();
    if (batch->timestamp > 0) board_->last_lag_seconds = UnixNow() - batch->timestamp;
  }
  Applied applied{.holds_nothing = HasCleared(*batch) && ingest_.HoldsNothing()};
  NoteSkips(*batch, applied);
  NoteRefused(before, after, applied);
  return applied;
}

void PublisherConsumer::NewLife() {
  log::Info("{}: what it held is dropped: it began a new life, or was in doubt for too long",
            name_);
  ingest_.NewLife();
  PublishCounters();
}

void PublisherConsumer::BeginRebuild() { ingest_.BeginRebuild(); }

void PublisherConsumer::CommitRebuild() {
  ingest_.CommitRebuild();
  PublishCounters();
}

void PublisherConsumer::AbandonRebuild() {
  ingest_.AbandonRebuild();
  PublishCounters();
}

void PublisherConsumer::TrustChanged(const stream::Trust& trust) {
  stream::Trust before;
  {
    const std::lock_guard lock(board_->mutex);
    before = std::exchange(board_->trust, trust);
  }
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
    board_->last_decode_error = error;
  }
  if (first) log::Warn("{}: {} (more of {} are only counted)", name_, error, reason);
}

void PublisherConsumer::PublishCounters() {
  const std::lock_guard lock(board_->mutex);
  board_->ingest = ingest_.Counters();
}

}  // namespace conductor::serve
