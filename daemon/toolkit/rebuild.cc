#include "daemon/toolkit/rebuild.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <utility>
#include <variant>

#include "daemon/serve/ingest_profile.h"
#include "lib/ingest/pool_ingest.h"
#include "lib/wire/decoder.h"
#include "lib/wire/timestamp.h"

namespace conductor::toolkit {
namespace {

using Lost = stream::Consumer::Lost;

// A recording's clock may be wrong by any amount, and the stream adds its time limits to it.
constexpr double kLongestSeconds = 3e8;

bool Clears(const wire::KvEvent& event) {
  return std::holds_alternative<wire::AllBlocksCleared>(event) ||
         std::holds_alternative<wire::ScopeCleared>(event);
}

// What the batch's decoding lost.
void NoteSkips(const wire::EventBatch& batch, stream::Consumer::Applied& applied) {
  if (!batch.lost_stores && !batch.lost_removals) return;
  applied.lost = batch.lost_removals ? Lost::kRemovals : Lost::kStores;
  applied.what = batch.skips.empty() ? "an event that cannot be read" : batch.skips[0].Describe();
}

}  // namespace

class Rebuild::Publisher : private stream::Consumer, private stream::ReplayOutbox {
 public:
  Publisher(Rebuild& rebuild, uint32_t number, SourcePublisher publisher)
      : rebuild_(rebuild), number_(number), publisher_(std::move(publisher)) {}

  void Feed(const SourceFrame& frame) {
    if (!frame.IsMessage()) return FeedMark(frame);
    counts_.first_at = counts_.first_at.value_or(frame.at);
    counts_.last_at = frame.at;
    if (!stream_) Begin(frame);
    const std::vector<std::string_view> views(frame.frames.begin(), frame.frames.end());
    stream_->LiveMessage(Now(), views);
  }

  [[nodiscard]] PublisherResult Result() const {
    PublisherResult result{.publisher = publisher_, .counts = counts_};
    if (stream_) {
      result.stream = stream_->counters();
      result.trust = stream_->trust();
    }
    if (engine_) result.ingest = engine_->Counters();
    if (pool_) result.ingest = pool_->Counters();
    return result;
  }

 private:
  [[nodiscard]] MonoTime Now() const { return rebuild_.now_; }
  [[nodiscard]] RebuildObserver* observer() const { return rebuild_.observer_; }

  // Before the first message there is nothing that they could change.
  void FeedMark(const SourceFrame& frame) {
    if (!stream_) return;
    if (frame.kind == SourceFrame::Kind::kConnected) {
      if (!std::exchange(connected_, true)) stream_->Connected(Now());
    } else if (frame.kind == SourceFrame::Kind::kDisconnected) {
      if (std::exchange(connected_, false)) stream_->Disconnected(Now());
    } else {
      stream_->LiveLost(Now(), frame.count);
    }
  }

  void Begin(const SourceFrame& frame) {
    GuessType(publisher_, frame);
    const serve::Registration& as = publisher_.read_as;
    if (serve::IsPool(as.type)) {
      pool_.emplace(rebuild_.index_, serve::PoolProfile(as), rebuild_.options_.limits);
    } else {
      engine_.emplace(rebuild_.index_, serve::EngineProfile(as), rebuild_.options_.limits, number_);
    }
    decoder_.emplace(as.type);
    if (observer() != nullptr) observer()->Begin(number_, publisher_);
    stream::StreamOptions options;
    options.first_sequence = serve::IsPool(as.type) ? 1 : 0;
    options.batch_time = wire::PeekTimestamp;
    options.endpoint = publisher_.name;
    options.remedy = "Record it from its first batch";
    stream_.emplace(std::move(options), static_cast<stream::Consumer&>(*this),
                    static_cast<stream::ReplayOutbox&>(*this));
    stream_->Start(Now());
    stream_->Connected(Now());
  }

  // stream::ReplayOutbox; a recording cannot be asked for anything.
  void OpenReplay(uint64_t, uint64_t) override {}
  void CloseReplay(uint64_t) override {}

  // stream::Consumer
  Applied Apply(stream::Sequence sequence, std::string_view payload) override {
    const auto batch = decoder_->Decode(payload);
    const auto where = [&] { return fmt::format("sequence {}", static_cast<uint64_t>(sequence)); };
    if (!batch) {
      ++counts_.not_batches;
      NoteProblem(Error(batch.error()).Within(where()).Message());
      return {.lost = Lost::kRemovals, .what = "it is no batch: " + batch.error().Message()};
    }
    counts_.Count(*batch);
    if (!batch->skips.empty()) {
      NoteProblem(fmt::format("{}, {}", where(), batch->skips[0].Describe()));
    }
    Applied applied;
    NoteSkips(*batch, applied);
    if (observer() != nullptr) observer()->Before(number_, sequence, *batch);
    Ingest(sequence, *batch, applied);
    if (observer() != nullptr) observer()->After(number_, sequence, *batch);
    return applied;
  }

  void Ingest(stream::Sequence sequence, const wire::EventBatch& batch, Applied& applied) {
    const bool clears = std::ranges::any_of(batch.events, Clears);
    if (pool_) {
      pool_->Apply(batch, Now());
      applied.holds_nothing = clears && pool_->HoldsNothing();
      return;
    }
    const auto refused = [&](const ingest::IngestCounters& counters) {
      return counters.refused_block_size + counters.refused_shape + counters.refused_names +
             counters.waiting_dropped + (counters.orphaned - counters.detached);
    };
    const uint64_t before = refused(engine_->Counters());
    engine_->Apply(batch, Now(), {static_cast<uint64_t>(sequence), counts_.last_at.value_or(0)});
    const ingest::IngestCounters after = engine_->Counters();
    applied.holds_nothing = clears && !after.several_ranks && engine_->HoldsNothing();
    if (refused(after) == before || applied.lost != Lost::kNothing) return;
    applied.lost = Lost::kStores;
    applied.what = "it stored blocks that cannot be placed: see its counters";
  }

  void NewLife() override {
    if (engine_) engine_->NewLife();
    if (pool_) pool_->NewLife();
    if (observer() != nullptr) observer()->NewLife(number_);
  }
  // Only a replay builds anything hidden.
  void BeginRebuild() override {}
  void CommitRebuild() override {}
  void AbandonRebuild() override {}
  void TrustChanged(const stream::Trust&) override {}

  void NoteProblem(std::string problem) {
    if (counts_.first_problem.empty()) counts_.first_problem = std::move(problem);
  }

  Rebuild& rebuild_;
  const uint32_t number_;
  SourcePublisher publisher_;
  RebuildCounts counts_;
  std::optional<wire::Decoder> decoder_;           // this and the following: since the first frame
  std::optional<ingest::PublisherIngest> engine_;  // one of these two
  std::optional<ingest::PoolIngest> pool_;
  std::optional<stream::PublisherStream> stream_;
  bool connected_ = true;
};

Rebuild::Rebuild(const Options& options, const std::vector<SourcePublisher>& publishers,
                 RebuildObserver* observer)
    : options_(options),
      index_({.hash_seed = options.hash_seed, .memory_limit = options.memory_limit, .history = 0}),
      observer_(observer) {
  for (const SourcePublisher& publisher : publishers) {
    const auto number = static_cast<uint32_t>(publishers_.size());
    publishers_.push_back(std::make_unique<Publisher>(*this, number, publisher));
  }
}

Rebuild::~Rebuild() = default;

void Rebuild::Feed(const SourceFrame& frame) {
  first_ = first_.value_or(frame.at);
  const double since = std::clamp(frame.at - *first_, 0.0, kLongestSeconds);
  now_ = std::max(now_, MonoTime(std::chrono::duration_cast<MonoTime::duration>(
                            std::chrono::duration<double>(since))));
  publishers_.at(frame.publisher)->Feed(frame);
}

std::vector<Rebuild::PublisherResult> Rebuild::Results() const {
  std::vector<PublisherResult> results;
  for (const auto& publisher : publishers_) results.push_back(publisher->Result());
  return results;
}

}  // namespace conductor::toolkit
