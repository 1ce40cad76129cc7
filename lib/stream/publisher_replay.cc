// PublisherStream's requests: what is asked and when, and what the answers mean.

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "lib/base/bytes.h"
#include "lib/stream/publisher_stream.h"

namespace conductor::stream {

void PublisherStream::Open(MonoTime now, Purpose purpose, bool rebuild) {
  Close();
  retry_at_.reset();
  probe_at_.reset();
  const Life* onto = &life_;
  if (rebuild) onto = hidden_ ? &*hidden_ : nullptr;
  Request request;
  request.id = ++last_request_;
  request.purpose = purpose;
  request.rebuild = rebuild;
  request.from = onto && onto->cursor ? *onto->cursor : 0;
  request.deadline = now + options_.replay_timeout;
  request_ = request;
  ++(purpose == Purpose::kProbe ? counters_.probes : counters_.replays);
  outbox_.OpenReplay(request.id, request.from);
}

// From the cursor where that can still lead to a complete set, otherwise from the first sequence.
void PublisherStream::OpenFromCursor(MonoTime now, Purpose purpose) {
  Open(now, purpose, hidden_ || needs_rebuild_ || !life_.cursor);
}

void PublisherStream::Close() {
  if (!request_) return;
  outbox_.CloseReplay(request_->id);
  request_.reset();
}

void PublisherStream::ReplayMessage(MonoTime now, uint64_t request,
                                    std::span<const std::string_view> frames) {
  if (!request_ || request_->id != request) return;
  if (frames.size() != 3 && frames.size() != 4) {
    Malformed(fmt::format("a replay message of {} frames instead of 3 or 4", frames.size()));
    return;
  }
  const std::string_view payload = frames[frames.size() - 1];
  const std::string_view number = frames[frames.size() - 2];
  if (number.size() != 8) {
    Malformed(fmt::format("a replayed sequence of {} bytes instead of 8", number.size()));
    return;
  }
  const uint64_t sequence = LoadBigEndian64(number);
  if (sequence == kEndMarker && !payload.empty()) {
    Malformed("a replay's end marker with a payload");
    return;
  }
  if (!std::exchange(heard_, true)) ++counters_.lives;
  unanswered_ = 0;
  ever_answered_ = true;
  replay_problem_.clear();
  const bool nothing_at_all = sequence == kEndMarker && !life_.cursor;
  if (request_->rebuild && !hidden_ && !nothing_at_all) BeginRebuild();
  if (sequence == kEndMarker) {
    OnEnd(now);
  } else {
    OnReplayed(now, sequence, payload);
  }
  Tell();
}

void PublisherStream::OnReplayed(MonoTime now, uint64_t sequence, std::string_view payload) {
  Request& request = *request_;
  if (sequence < request.from || (request.highest && sequence <= *request.highest)) {
    ++counters_.duplicates;  // not an answer to what was asked; no progress
    return;
  }
  request.highest = sequence;
  request.deadline = now + std::min(options_.replay_timeout, options_.replay_stall);
  Life& life = request.rebuild ? *hidden_ : life_;
  if (!life.cursor) {
    if (sequence > options_.first_sequence) {
      const bool no_gain = request.purpose == Purpose::kRetry && life_.cursor &&
                           life_.damage.kind == Damage::Kind::kIncomplete &&
                           *life_.first <= sequence;
      if (no_gain) {
        // What is held reaches further back than the ring, which will not grow again.
        AbandonRebuild();
        needs_rebuild_ = false;
        Close();
        Settle(now);
        return;
      }
      life.Worsen(Damage::Kind::kIncomplete,
                  fmt::format("the replay from {} starts at sequence {}: older batches have left "
                              "its ring. Raise the engine's buffer_steps, or clear its cache",
                              options_.replay_endpoint, sequence),
                  now);
    }
    request.proven = true;
  } else if (sequence == *life.cursor) {
    OnBatchAtCursor(now, payload);
    return;
  } else if (!request.proven && !request.rebuild && unconfirmed_resume_) {
    // Whose batches these are nothing tells any more.
    EndResume(Consumer::ResumeEnd::kDropped,
              fmt::format("the replay from {} starts at sequence {}, after its last batch, {}",
                          options_.replay_endpoint, sequence, *life.cursor));
    NewLife(now);
    if (!request_) Settle(now);
    return;
  } else if (!request.proven) {
    OnOverrun(now, life, sequence);
    request.proven = true;
  } else if (sequence > *life.cursor + 1) {
    const uint64_t missing = *life.cursor + 1;
    SeeGap(missing, sequence);
    gap_->asks = std::max<uint32_t>(gap_->asks, 1);  // this request asked for it
    if (gap_->asks < kAsksPerHole) {
      ++gap_->asks;
      const Purpose purpose =
          request.purpose == Purpose::kProbe ? Purpose::kCatchUp : request.purpose;
      Open(now, purpose, request.rebuild);
      return;
    }
    EndGap(&StreamCounters::gaps_partial);
    life.Worsen(HoleDamage(life),
                fmt::format("the replay from {} lacks sequences {} to {}: the engine failed to "
                            "send them. Clear its cache",
                            options_.replay_endpoint, missing, sequence - 1),
                now);
  }
  Apply(now, life, sequence, payload, Source::kReplay);
}

// The batch that was asked for to see whether the publisher still lives the same life.
void PublisherStream::OnBatchAtCursor(MonoTime now, std::string_view payload) {
  const Life& life = request_->rebuild ? *hidden_ : life_;
  if (life.digests.Find(*life.cursor) == DigestOf(payload)) {
    request_->proven = true;
    lives_in_a_row_ = 0;
    if (!request_->rebuild) {
      unproven_ = false;
      EndResume(Consumer::ResumeEnd::kProven, "");
      if (std::exchange(rebuild_once_proven_, false)) {
        needs_rebuild_ = true;
        ScheduleRetry(now);
      }
    }
    return;
  }
  NewLife(now);
  if (!request_) Settle(now);
}

// The first batch of an answer is above the cursor: the ring has moved on.
void PublisherStream::OnOverrun(MonoTime now, Life& life, uint64_t sequence) {
  const uint64_t missing = *life.cursor + 1;
  const bool same_life = request_->rebuild || !unproven_;
  if (!request_->rebuild) unproven_ = false;
  if (sequence == missing && same_life) return;
  if (sequence != missing) {
    SeeGap(missing, sequence);
    EndGap(&StreamCounters::gaps_partial);
  }
  life.Worsen(HoleDamage(life),
              fmt::format("the replay from {} starts at sequence {}, after what was asked for "
                          "({}): its ring is too short for the outage. Raise the engine's "
                          "buffer_steps; clear its cache or resync",
                          options_.replay_endpoint, sequence, *life.cursor),
              now);
}

void PublisherStream::OnEnd(MonoTime now) {
  const Request request = *request_;
  const Life& life = request.rebuild && hidden_ ? *hidden_ : life_;
  if (life.cursor && !request.highest) {
    const bool contradicts_itself = ring_keeps_nothing_ && !unproven_;
    if (!contradicts_itself) {
      NewLife(now);
      if (!request_) Settle(now);
      return;
    }
  }
  last_answer_empty_ = !request.highest;
  if (request.highest) ring_keeps_nothing_ = false;
  if (lives_in_a_row_ <= 1) backoff_ = options_.backoff_min;
  Close();
  if (request.rebuild) CommitRebuild();
  if (std::exchange(queue_dropped_, false)) {
    // More came than could wait; the publisher has it.
    OpenFromCursor(now, Purpose::kCatchUp);
    return;
  }
  Settle(now);
}

// No progress for too long, or cut off.
void PublisherStream::GiveUp(MonoTime now) {
  const Request request = *request_;
  const bool going_on_alone = request.purpose == Purpose::kRetry && !hidden_;
  Close();
  if (request.purpose != Purpose::kProbe) ++counters_.replays_failed;
  if (request.moved) {
    // A missing end marker is a time limit, not an end: there may be more.
    Open(now, request.purpose == Purpose::kProbe ? Purpose::kCatchUp : request.purpose,
         request.rebuild);
    return;
  }
  ++unanswered_;
  AbandonRebuild();
  if (request.purpose == Purpose::kProbe) {
    Settle(now);
    return;
  }
  if (request.rebuild || gap_ || queue_dropped_) needs_rebuild_ = true;
  if (!life_.cursor || queue_dropped_) {
    life_.Worsen(HoleDamage(life_),
                 fmt::format("{} did not answer a replay request in time; it is asked again. Is "
                             "that port open, and is it this engine's replay endpoint?",
                             options_.replay_endpoint),
                 now);
  }
  ScheduleRetry(now);
  if (going_on_alone) DropQueue();
  queue_dropped_ = false;
  Settle(now);
}

void PublisherStream::ReplayLost(MonoTime now, uint64_t request, std::string why) {
  if (!request_ || request_->id != request) return;
  replay_problem_ = std::move(why);
  GiveUp(now);
  Tell();
}

void PublisherStream::BeginRebuild() {
  hidden_.emplace(options_.digest_window);
  consumer_.BeginRebuild();
}

void PublisherStream::CommitRebuild() {
  needs_rebuild_ = false;
  if (!hidden_) {
    // It holds nothing and says so, as before.
    life_ = Life(options_.digest_window);
    return;
  }
  const bool other_life =
      life_.cursor &&
      (!hidden_->cursor || *hidden_->cursor < *life_.cursor ||
       hidden_->digests.Find(*life_.cursor).value_or(*life_.digests.Find(*life_.cursor)) !=
           *life_.digests.Find(*life_.cursor));
  if (other_life) {
    ++counters_.lives;
    counters_.highest_seen = hidden_->cursor;
  }
  life_ = std::move(*hidden_);
  hidden_.reset();
  unproven_ = false;
  EndResume(Consumer::ResumeEnd::kDropped, "a replay from the first sequence took its place");
  consumer_.CommitRebuild();
}

void PublisherStream::AbandonRebuild() {
  if (!hidden_) return;
  hidden_.reset();
  consumer_.AbandonRebuild();
}

// No request is open any more: what waited goes on.
void PublisherStream::Settle(MonoTime now) {
  Drain(now);
  if (!request_) ScheduleProbe(now);
}

void PublisherStream::Tick(MonoTime now) {
  TickResume(now);
  TickListing(now);
  if (request_ && now >= request_->deadline) GiveUp(now);
  if (!request_ && connected_ && retry_at_ && now >= *retry_at_) {
    const bool rebuild = needs_rebuild_ || !life_.cursor;
    Open(now, rebuild ? Purpose::kRetry : Purpose::kCatchUp, rebuild);
  }
  if (!request_ && connected_ && !retry_at_ && probe_at_ && now >= *probe_at_) {
    first_probe_due_ = false;
    Open(now, Purpose::kProbe, /*rebuild=*/!life_.cursor);
  }
  const auto doubt = DoubtDeadline();
  if (doubt && now >= *doubt) DropDoubtful(now);
  Tell();
}

std::optional<MonoTime> PublisherStream::NextDeadline() const {
  std::optional<MonoTime> next = DoubtDeadline();
  const auto sooner = [&next](const std::optional<MonoTime>& time) {
    if (time && (!next || *time < *next)) next = time;
  };
  if (request_) {
    sooner(request_->deadline);
  } else if (connected_) {
    sooner(retry_at_ ? retry_at_ : probe_at_);
  }
  sooner(ListingDeadline());
  sooner(resume_until_);
  return next;
}

void PublisherStream::Resync(MonoTime now) {
  if (gap_) EndGap(&StreamCounters::gaps_lost);
  Close();
  AbandonRebuild();
  DropQueue();
  retry_at_.reset();
  ring_keeps_nothing_ = false;
  if (options_.has_replay) {
    needs_rebuild_ = true;
    if (connected_) OpenFromCursor(now, Purpose::kCatchUp);
  } else if (Listed()) {
    CloseListing();
    list_at_.reset();
    listing_backoff_ = options_.backoff_min;
    NeedListing(now);
  } else {
    consumer_.NewLife();
    life_ = Life(options_.digest_window);
    unproven_ = false;
    EndResume(Consumer::ResumeEnd::kDropped, "it was resynchronised");
    life_.Worsen(Damage::Kind::kIncomplete,
                 WithRemedy(fmt::format("resynchronised: what {} stored before is unknown",
                                        options_.endpoint)),
                 now);
  }
  Tell();
}

void PublisherStream::Clear(MonoTime now) {
  const bool asked = request_.has_value();
  Close();
  AbandonRebuild();
  DropQueue();
  retry_at_.reset();
  needs_rebuild_ = rebuild_once_proven_ = false;
  CloseListing();
  listing_due_ = false;
  list_at_.reset();
  DropHeld(now, fmt::format("what {} held was cleared by request; what it stored before counts "
                            "again after a resync, or when it is stored again",
                            options_.endpoint));
  if (asked && connected_) OpenFromCursor(now, Purpose::kCatchUp);
  Tell();
}

void PublisherStream::NewIncarnation(MonoTime now) {
  AbandonRebuild();
  DropQueue();
  lives_in_a_row_ = 0;  // nobody contradicts anybody
  NewLife(now);
  NeedListing(now);
  Tell();
}

// A rebuild that failed is being tried again, so nothing else is worth asking.
bool PublisherStream::Retrying() const {
  return retry_at_ || (request_ && request_->purpose == Purpose::kRetry);
}

void PublisherStream::ScheduleRetry(MonoTime now) {
  retry_at_ = now + Jittered(backoff_);
  backoff_ = std::min(backoff_ * 2, options_.backoff_max);
}

void PublisherStream::ScheduleProbe(MonoTime now) {
  if (!options_.has_replay) return;
  // Short of the interval, so that what a probe finds is there within it.
  const Duration most = options_.probe_interval / 10 * 9;
  probe_at_ = now + (first_probe_due_ ? options_.first_probe : Jittered(most));
}

std::optional<MonoTime> PublisherStream::DoubtDeadline() const {
  if (life_.damage.kind != Damage::Kind::kDoubtful) return std::nullopt;
  if (request_ || hidden_ || listing_) return std::nullopt;
  return life_.damage.since + options_.doubt_grace;
}

void PublisherStream::DropDoubtful(MonoTime now) {
  if (!CanBeProven()) EndResume(Consumer::ResumeEnd::kDropped, "nothing could prove it");
  DropHeld(now, fmt::format("what was doubtful was dropped after a while; the cause: {}",
                            life_.damage.detail));
}

void PublisherStream::DropHeld(MonoTime now, std::string why) {
  consumer_.NewLife();
  life_.holds_nothing = true;
  if (life_.cursor) life_.first = *life_.cursor + 1;
  life_.damage = {Damage::Kind::kIncomplete, std::move(why), now};
}

// 60 to 100 % of `greatest`, by a generator of our own (splitmix64) so that a seed means the same
// times everywhere.
Duration PublisherStream::Jittered(Duration greatest) {
  jitter_state_ += 0x9e3779b97f4a7c15;
  uint64_t bits = jitter_state_;
  bits = (bits ^ (bits >> 30)) * 0xbf58476d1ce4e5b9;
  bits = (bits ^ (bits >> 27)) * 0x94d049bb133111eb;
  bits ^= bits >> 31;
  const auto permille = static_cast<int64_t>(600 + bits % 401);
  return greatest / 1000 * permille;
}

}  // namespace conductor::stream
