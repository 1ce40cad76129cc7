#include "daemon/serve/engine_consumer.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>
#include <variant>

#include "daemon/serve/ingest_profile.h"
#include "lib/base/log.h"

namespace conductor::serve {
namespace {

using Lost = stream::Consumer::Lost;

// Compared blocks from which a rate is told, and the rate below which something is wrong.
constexpr uint64_t kEnoughCompared = 16;
constexpr double kLowMatchRate = 0.95;

// Where memory is limited, another publisher's events can push out what this one holds.
constexpr Duration kBetweenLooks = std::chrono::seconds(1);

// Of what no batch brings.
index::Occasion Now() { return {std::nullopt, UnixNow()}; }

bool HasCleared(const wire::EventBatch& batch) {
  for (const wire::KvEvent& event : batch.events) {
    if (std::holds_alternative<wire::AllBlocksCleared>(event)) return true;
    if (std::holds_alternative<wire::ScopeCleared>(event)) return true;
  }
  return false;
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

class EngineCopy : public PublisherCopy {
 public:
  explicit EngineCopy(std::unique_ptr<ingest::LifeCopy> life) : life_(std::move(life)) {}
  bool Step() override { return life_->Step(); }
  void Take(store::SavedPublisher& saved) override { saved.life = life_->Take(); }

 private:
  std::unique_ptr<ingest::LifeCopy> life_;
};

}  // namespace

EngineConsumer::EngineConsumer(index::PrefixIndex& index, const Registration& registration,
                               const ingest::IngestLimits& limits, uint32_t number,
                               std::shared_ptr<PublisherBoard> board)
    : PublisherConsumer(registration, std::move(board)),
      index_(index),
      ingest_(index, EngineProfile(registration), limits, number) {}

EngineConsumer::~EngineConsumer() { ingest_.Leave(Now()); }

void EngineConsumer::Ingest(stream::Sequence sequence, const wire::EventBatch& batch,
                            Applied& applied) {
  const ingest::IngestCounters before = ingest_.Counters();
  ingest_.Apply(batch, MonoNow(), {static_cast<uint64_t>(sequence), UnixNow()});
  const ingest::IngestCounters after = ingest_.Counters();
  // A clearing is of one rank. Where there are several, what was missed may be another's.
  applied.holds_nothing = HasCleared(batch) && !after.several_ranks && ingest_.HoldsNothing();
  NoteRefused(before, after, applied);
  NoteHashes(after);
}

void EngineConsumer::NoteHashes(const ingest::IngestCounters& counters) {
  if (counters.hash_checked < kEnoughCompared) return;
  const double rate =
      static_cast<double>(counters.hash_matched) / static_cast<double>(counters.hash_checked);
  const bool differ = rate < kLowMatchRate;
  if (differ == std::exchange(hashes_differ_, differ)) return;
  if (differ) {
    log::Warn("{}: {:.0f} % of {} announced hashes are those of its hash_profile: {}", name(),
              rate * 100, counters.hash_checked, counters.hash_hint);
  } else {
    log::Info("{}: its hashes are those of its hash_profile again", name());
  }
}

void EngineConsumer::DropAll() { ingest_.NewLife(Now()); }

ingest::IngestCounters EngineConsumer::Counters() const { return ingest_.Counters(); }

void EngineConsumer::BeginRebuild() {
  ingest_.BeginRebuild();
  TellRebuild("begun");
}

void EngineConsumer::CommitRebuild() {
  ingest_.CommitRebuild(Now());
  TellRebuild("complete");
  Publish();
}

void EngineConsumer::AbandonRebuild() {
  ingest_.AbandonRebuild();
  TellRebuild("abandoned");
  Publish();
}

std::unique_ptr<PublisherCopy> EngineConsumer::BeginCopy(MonoTime now) const {
  return std::make_unique<EngineCopy>(ingest_.BeginCopy(now));
}

std::optional<MonoTime> EngineConsumer::NextDeadline() const {
  const auto of_ingest = ingest_.NextDeadline();
  if (index_.options().memory_limit == 0) return of_ingest;
  return of_ingest ? std::min(*of_ingest, next_look_) : next_look_;
}

stream::Trust EngineConsumer::Judge(const stream::Trust& of_stream) const {
  const uint64_t trimmed = ingest_.Counters().trimmed_blocks;
  if (trimmed == 0) return of_stream;
  stream::Trust trust{
      .state = stream::TrustState::kDegraded,
      .reason = "incomplete",
      .detail =
          fmt::format("{} of its blocks were given up for room: raise --memory-limit", trimmed)};
  return stream::Worse(trust, of_stream) ? trust : of_stream;
}

void EngineConsumer::Tick(MonoTime now) {
  next_look_ = now + kBetweenLooks;
  ingest_.Tick(now, Now());
  Publish();
}

}  // namespace conductor::serve
