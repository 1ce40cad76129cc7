#include "lib/stream/publisher_stream.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <utility>

#include "lib/base/bytes.h"

namespace conductor::stream {
namespace {

// New lives without a proof of one in between, after which the publisher is asked with back-off
// only: two engines behind one address, or a replay endpoint that belongs to another engine, would
// otherwise be replayed without end.
constexpr uint32_t kLivesInARow = 4;

// "sequence 4 of ENDPOINT was lost", "sequences 4 to 6 of ENDPOINT were lost".
std::string Lost(uint64_t first, uint64_t last, const std::string& endpoint) {
  if (first == last) return fmt::format("sequence {} of {} was lost", first, endpoint);
  return fmt::format("sequences {} to {} of {} were lost", first, last, endpoint);
}

}  // namespace

uint64_t PublisherStream::DigestOf(std::string_view payload) {
  return XXH3_64bits(payload.data(), payload.size());
}

PublisherStream::PublisherStream(StreamOptions options, Consumer& consumer, ReplayOutbox& outbox)
    : options_(std::move(options)),
      consumer_(consumer),
      outbox_(outbox),
      life_(options_.digest_window),
      backoff_(options_.backoff_min),
      jitter_state_(options_.jitter_seed),
      listing_backoff_(options_.backoff_min) {
  if (options_.resume) TakeUp(*options_.resume);
}

void PublisherStream::Start(MonoTime now) {
  if (options_.resume) {
    life_.Worsen(options_.resume->damage, options_.resume->damage_detail, now);
    resume_until_ = now + options_.stale_grace;
  }
  if (options_.resume && !options_.has_replay) {
    life_.Worsen(Damage::Kind::kDoubtful,
                 WithRemedy(fmt::format(
                     "restored from a snapshot, and nothing that {} sends can prove that it still "
                     "holds it",
                     options_.endpoint)),
                 now);
  }
  counters_.cursor = life_.cursor;
  trust_ = Judge();
  consumer_.TrustChanged(trust_);
}

void PublisherStream::Connected(MonoTime now) {
  ++counters_.connects;
  const bool again = std::exchange(was_connected_, true);
  connected_ = true;
  unanswered_ = 0;
  backoff_ = options_.backoff_min;
  ring_keeps_nothing_ = false;
  if (again && life_.cursor) unproven_ = true;
  if (options_.has_replay) {
    // What waits came from a connection that is gone: the replay has it, or it is an old life's.
    DropQueue();
    AbandonRebuild();
    if (gap_) gap_->asks = 0;
    first_probe_due_ = true;
    OpenFromCursor(now, Purpose::kCatchUp);
  } else if (unproven_) {
    life_.Worsen(HoleDamage(life_),
                 WithRemedy(fmt::format("the connection to {} was lost and came back, and it has "
                                        "no replay endpoint: nothing that it sends tells what was "
                                        "missed or whether it was restarted",
                                        options_.endpoint)),
                 now);
  }
  if (Listed()) {
    CloseListing();
    list_at_.reset();
    listing_backoff_ = options_.backoff_min;
    first_probe_due_ = true;
    NeedListing(now);
  }
  Tell();
}

void PublisherStream::Disconnected(MonoTime /*now*/) {
  if (!connected_) return;
  ++counters_.disconnects;
  connected_ = false;
  CloseListing();
  link_reason_ = "unreachable";
  link_detail_ = fmt::format(
      "the connection to {} was lost; trying to reach it again. Is the "
      "engine still running?",
      options_.endpoint);
  Tell();
}

void PublisherStream::ConnectFailed(MonoTime /*now*/, std::string reason, std::string detail) {
  if (connected_) return;
  link_reason_ = std::move(reason);
  link_detail_ = std::move(detail);
  Tell();
}

void PublisherStream::LiveMessage(MonoTime now, std::span<const std::string_view> frames) {
  ++counters_.frames;
  if (frames.size() != 3) {
    Malformed(fmt::format("a message of {} frames instead of 3 (topic, sequence, payload)",
                          frames.size()));
    return;
  }
  if (frames[1].size() != 8) {
    Malformed(fmt::format("a sequence of {} bytes instead of 8", frames[1].size()));
    return;
  }
  const uint64_t sequence = LoadBigEndian64(frames[1]);
  if (sequence == kEndMarker) {
    Malformed("the end marker of a replay as a live sequence");
    return;
  }
  if (!connected_) Connected(now);  // older ZMTP peers have no handshake that could be told
  if (!std::exchange(heard_, true)) ++counters_.lives;
  unanswered_ = 0;
  if (request_ && request_->purpose == Purpose::kProbe && !hidden_) Close();
  if (!request_) {
    ProcessLive(now, sequence, frames[2], false);
    if (!request_) ScheduleProbe(now);
  } else if (request_->purpose == Purpose::kRetry && !hidden_) {
    // May never be answered: the visible set goes on, and the frame also waits for the hidden one.
    const uint64_t open = request_->id;
    ProcessLive(now, sequence, frames[2], false);
    if (request_ && request_->id == open) Enqueue(sequence, frames[2], true);
  } else {
    Enqueue(sequence, frames[2], false);
  }
  Tell();
}

void PublisherStream::LiveLost(MonoTime now, uint64_t count) {
  counters_.pending_dropped += count;
  if (!connected_) return;  // what follows is asked for then, or not believed
  if (request_ && request_->purpose == Purpose::kProbe && !hidden_) Close();
  if (options_.has_replay && !request_ && !Retrying()) {
    OpenFromCursor(now, Purpose::kCatchUp);
  } else if (request_) {
    queue_dropped_ = true;  // its answer may have been on its way: asked again at its end
  }
  if (!options_.has_replay || Retrying()) {
    ++counters_.gaps;
    ++(Listed() ? gaps_unlisted_ : counters_.gaps_lost);
    life_.Worsen(HoleDamage(life_),
                 WithRemedy(fmt::format("{} messages of {} came faster than they could be applied "
                                        "and were dropped",
                                        count, options_.endpoint)),
                 now);
    needs_rebuild_ = options_.has_replay;
    NeedListing(now);
  }
  Tell();
}

void PublisherStream::Shared(MonoTime /*now*/, std::string detail) {
  shared_ = std::move(detail);
  Tell();
}

void PublisherStream::ProcessLive(MonoTime now, uint64_t sequence, std::string_view payload,
                                  bool seen) {
  counters_.highest_seen = std::max(counters_.highest_seen.value_or(0), sequence);
  if (!life_.cursor) {
    ProcessFirst(now, sequence, payload);
  } else if (sequence <= *life_.cursor) {
    ProcessBehind(now, sequence, payload, seen);
  } else if (sequence == *life_.cursor + 1) {
    Apply(now, life_, sequence, payload, Source::kLive);
  } else {
    ProcessAhead(now, sequence, payload);
  }
}

// A frame of a life of which nothing is applied yet.
void PublisherStream::ProcessFirst(MonoTime now, uint64_t sequence, std::string_view payload) {
  const bool believed = !options_.has_replay || lives_in_a_row_ <= kLivesInARow;
  // What a listing told may be a former life's.
  if (sequence <= options_.first_sequence && believed && !life_.listed) {
    life_.Absolve();
    needs_rebuild_ = false;
    retry_at_.reset();
    if (Listed()) {
      CloseListing();
      first_probe_due_ = false;
      NeedListing(now);
    }
    Apply(now, life_, sequence, payload, Source::kLive);
    return;
  }
  if (!options_.has_replay) {
    life_.Worsen(
        HoleDamage(life_),
        WithRemedy(fmt::format("first heard of {} at sequence {}: what it stored before is unknown",
                               options_.endpoint, sequence)),
        now);
    // One that was asked before may have been answered before this connection's first frame.
    NeedListing(now);
  } else if (Retrying()) {
    life_.Worsen(Damage::Kind::kIncomplete,
                 fmt::format("first heard of {} at sequence {}, and {} does not answer replay "
                             "requests: what it stored before is unknown until it does",
                             options_.endpoint, sequence, options_.replay_endpoint),
                 now);
    needs_rebuild_ = true;
  } else {
    SeeGap(options_.first_sequence, sequence);
    if (gap_->asks < kAsksPerHole) {
      ++gap_->asks;
      PutBack(sequence, payload);
      Open(now, Purpose::kCatchUp, /*rebuild=*/true);
      return;
    }
    ring_keeps_nothing_ = last_answer_empty_;
    EndGap(&StreamCounters::gaps_partial);
    life_.Worsen(Damage::Kind::kIncomplete,
                 fmt::format("{} sent sequence {} but the replay from {} has nothing of it. Is "
                             "that the replay endpoint of the same engine, and is its buffer_steps "
                             "above 0?",
                             options_.endpoint, sequence, options_.replay_endpoint),
                 now);
  }
  Apply(now, life_, sequence, payload, Source::kLive);
}

// A frame at or below the cursor: a duplicate, or another life.
void PublisherStream::ProcessBehind(MonoTime now, uint64_t sequence, std::string_view payload,
                                    bool seen) {
  if (const auto known = life_.digests.Find(sequence)) {
    if (*known == DigestOf(payload)) {
      if (!seen) ++counters_.duplicates;
      return;
    }
  } else {
    if (seen) return;
    const auto time = options_.batch_time ? options_.batch_time(payload) : std::nullopt;
    const bool later = time && life_.newest_time && *time > *life_.newest_time;
    if (!later && !unproven_) {
      ++counters_.late;
      return;
    }
  }
  NewLife(now);
  // A replay that is asked for now has this frame, or its life is over as well.
  if (!request_) ProcessLive(now, sequence, payload, false);
}

// A frame beyond a hole.
void PublisherStream::ProcessAhead(MonoTime now, uint64_t sequence, std::string_view payload) {
  const uint64_t missing = *life_.cursor + 1;
  if (Listed()) {
    ++counters_.gaps;
    ++gaps_unlisted_;
  } else {
    SeeGap(missing, sequence);
  }
  if (!options_.has_replay) {
    if (gap_) EndGap(&StreamCounters::gaps_lost);
    life_.Worsen(HoleDamage(life_),
                 WithRemedy(Lost(missing, sequence - 1, options_.endpoint) +
                            " and it has no replay endpoint"),
                 now);
    NeedListing(now);
  } else if (Retrying()) {
    EndGap(&StreamCounters::gaps_lost);
    life_.Worsen(
        HoleDamage(life_),
        fmt::format("{} and {} does not answer replay requests; it is asked again until it "
                    "does. Is that port open?",
                    Lost(missing, sequence - 1, options_.endpoint), options_.replay_endpoint),
        now);
    needs_rebuild_ = true;
  } else if (gap_->asks < kAsksPerHole) {
    ++gap_->asks;
    PutBack(sequence, payload);
    Open(now, Purpose::kCatchUp, /*rebuild=*/false);
    return;
  } else {
    EndGap(&StreamCounters::gaps_partial);
    life_.Worsen(
        HoleDamage(life_),
        fmt::format("{} and the replay from {} does not have that. Clear the engine's "
                    "cache, or resync",
                    Lost(missing, sequence - 1, options_.endpoint), options_.replay_endpoint),
        now);
  }
  Apply(now, life_, sequence, payload, Source::kLive);
}

void PublisherStream::Enqueue(uint64_t sequence, std::string_view payload, bool seen) {
  if (!queue_.empty() && sequence <= queue_.back().sequence) {
    const auto at = std::lower_bound(
        queue_.begin(), queue_.end(), sequence,
        [](const Waiting& waiting, uint64_t number) { return waiting.sequence < number; });
    if (at->sequence == sequence && at->payload == payload) {
      if (!seen) ++counters_.duplicates;
      return;
    }
    // Out of order, or the first of another life: what waited may be an old life's that happens to
    // fit behind the replay. The publisher tells what is true.
    DropQueue();
    queue_dropped_ = true;
  }
  const size_t bytes = payload.size() + sizeof(Waiting);
  if (queue_bytes_ + bytes > options_.max_pending_bytes) {
    counters_.pending_dropped += queue_.size() + 1;
    DropQueue();
    queue_dropped_ = true;
    return;
  }
  queue_bytes_ += bytes;
  queue_.push_back({sequence, std::string(payload), seen});
}

// The frame that was just taken from the front, or came while nothing waited.
void PublisherStream::PutBack(uint64_t sequence, std::string_view payload) {
  queue_bytes_ += payload.size() + sizeof(Waiting);
  queue_.push_front({sequence, std::string(payload), false});
}

void PublisherStream::Drain(MonoTime now) {
  while (!request_ && !queue_.empty()) {
    const Waiting waiting = std::move(queue_.front());
    queue_.pop_front();
    queue_bytes_ -= waiting.payload.size() + sizeof(Waiting);
    ProcessLive(now, waiting.sequence, waiting.payload, waiting.seen);
  }
}

void PublisherStream::DropQueue() {
  queue_.clear();
  queue_bytes_ = 0;
  queue_dropped_ = false;
}

void PublisherStream::Apply(MonoTime now, Life& life, uint64_t sequence, std::string_view payload,
                            Source source) {
  const bool visible = &life == &life_;
  if (visible && unproven_ && options_.has_replay && source == Source::kLive) {
    life.Worsen(HoleDamage(life),
                fmt::format("after a reconnect to {} the replay endpoint {} did not prove that it "
                            "is still the same engine; it is asked again until it does",
                            options_.endpoint, options_.replay_endpoint),
                now);
    needs_rebuild_ = true;
    if (!Retrying()) ScheduleRetry(now);
  }
  if (visible && unproven_ && Listed()) {
    // The next number of this life, or by chance of another: what came between the listing's answer
    // and this frame is in neither.
    life.Worsen(HoleDamage(life),
                WithRemedy(fmt::format("the connection to {} is new, and nothing tells whether "
                                       "messages were missed before sequence {}",
                                       options_.endpoint, sequence)),
                now);
    NeedListing(now);
  }
  if (visible) {
    unproven_ = false;
    EndResume(Consumer::ResumeEnd::kDoubted,
              "a batch came after it before anything proved that it is of the same life");
  }
  const Consumer::Applied applied = consumer_.Apply(Sequence{sequence}, payload);
  if (!life.first) life.first = sequence;
  life.cursor = sequence;
  life.digests.Add(sequence, DigestOf(payload));
  if (options_.batch_time) {
    if (const auto time = options_.batch_time(payload)) {
      life.newest_time = std::max(life.newest_time.value_or(*time), *time);
    }
  }
  life.holds_nothing = applied.holds_nothing && applied.lost != Consumer::Lost::kRemovals;
  if (life.holds_nothing) {
    life.Absolve();
    if (visible) {
      needs_rebuild_ = false;
      retry_at_.reset();
    }
  }
  NoteLost(now, life, sequence, applied);
  if (source == Source::kReplay) {
    ++counters_.applied_replay;
    request_->moved = true;
  } else {
    ++counters_.applied_live;
  }
  counters_.highest_seen = std::max(counters_.highest_seen.value_or(0), sequence);
  if (!gap_ || sequence < gap_->missing) return;
  if (sequence + 1 >= gap_->next) {
    EndGap(&StreamCounters::gaps_healed);
  } else {
    gap_->missing = sequence + 1;
    gap_->asks = 0;
  }
}

void PublisherStream::NoteLost(MonoTime now, Life& life, uint64_t sequence,
                               const Consumer::Applied& applied) {
  if (applied.lost == Consumer::Lost::kNothing) return;
  ++counters_.lossy_batches;
  const bool removals = applied.lost == Consumer::Lost::kRemovals;
  const auto kind = removals ? Damage::Kind::kDoubtful : Damage::Kind::kIncomplete;
  // Some publishers lose something with every batch.
  if (kind <= std::min(life.damage.kind, life.since_listing.kind)) return;
  const std::string_view effect = removals ? "removals may be lost with what could not be used of"
                                           : "stored blocks are missing from";
  life.Worsen(
      kind,
      fmt::format("{} sequence {} of {}: {}. {} ends it", effect, sequence, options_.endpoint,
                  applied.what, Listed() ? "A resync" : "Clearing the engine's cache"),
      now);
}

void PublisherStream::NewLife(MonoTime now) {
  ++counters_.lives;
  ++lives_in_a_row_;
  if (gap_) EndGap(&StreamCounters::gaps_lost);
  CloseListing();
  counters_.gaps_lost += std::exchange(gaps_unlisted_, 0);
  counters_.highest_seen.reset();
  unproven_ = false;
  EndResume(Consumer::ResumeEnd::kDropped, "its publisher began a new life meanwhile");
  needs_rebuild_ = false;
  last_answer_empty_ = false;
  ring_keeps_nothing_ = false;
  Close();
  consumer_.NewLife();
  life_ = Life(options_.digest_window);
  if (hidden_) hidden_.emplace(options_.digest_window);
  first_probe_due_ = true;
  if (!options_.has_replay) return;
  // What waits came before the request that follows, so the answer has it, or it is an old life's.
  DropQueue();
  if (lives_in_a_row_ <= kLivesInARow) {
    Open(now, Purpose::kCatchUp, /*rebuild=*/true);
    return;
  }
  AbandonRebuild();
  needs_rebuild_ = true;
  life_.Worsen(Damage::Kind::kIncomplete,
               fmt::format("{} and {} contradicted each other {} times in a row: do several "
                           "engines share one of these addresses?",
                           options_.endpoint, options_.replay_endpoint, lives_in_a_row_),
               now);
  ScheduleRetry(now);
}

void PublisherStream::SeeGap(uint64_t missing, uint64_t next) {
  if (gap_ && gap_->missing == missing) return;
  if (gap_) EndGap(&StreamCounters::gaps_lost);
  gap_ = Gap{.missing = missing, .next = next, .asks = 0};
  ++counters_.gaps;
}

void PublisherStream::EndGap(uint64_t StreamCounters::*outcome) {
  ++(counters_.*outcome);
  gap_.reset();
}

Damage::Kind PublisherStream::HoleDamage(const Life& life) {
  return life.holds_nothing ? Damage::Kind::kIncomplete : Damage::Kind::kDoubtful;
}

// A sentence on what was missed, and what comes of it.
std::string PublisherStream::WithRemedy(std::string what) const {
  if (options_.has_replay) return what + "; it is asked again";
  if (Listed()) return what + "; all that it holds is asked for";
  return fmt::format("{}. {}, or restart it", what, options_.remedy);
}

std::optional<Position> PublisherStream::position() const {
  if (!life_.cursor) return std::nullopt;
  return Position{*life_.cursor, *life_.digests.Find(*life_.cursor)};
}

void PublisherStream::Malformed(std::string what) {
  ++counters_.malformed_frames;
  malformed_ = std::move(what);
  Tell();
}

}  // namespace conductor::stream
