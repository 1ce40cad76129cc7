#ifndef CONDUCTOR_LIB_STREAM_PUBLISHER_STREAM_H_
#define CONDUCTOR_LIB_STREAM_PUBLISHER_STREAM_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/clock.h"
#include "lib/stream/consumer.h"
#include "lib/stream/publisher_life.h"
#include "lib/stream/trust.h"

namespace conductor::stream {

// The last applied batch of a publisher: proves, when it is found again, that a publisher still
// lives the same life.
struct Position {
  uint64_t cursor = 0;
  uint64_t digest = 0;  // XXH3-64 of the payload at the cursor

  friend bool operator==(const Position&, const Position&) = default;
};

// All that another process needs to go on with a life that it finds again.
struct Resume : Position {
  Resume() = default;
  Resume(const Position& position) : Position(position) {}  // NOLINT: nothing else is known of it

  // Of the batches directly before the cursor, in their order; not that at the cursor.
  std::vector<uint64_t> digests;
  std::optional<uint64_t> first;      // as Life::first, so at most cursor + 1; nothing: the cursor
  std::optional<double> newest_time;  // the latest batch time, Unix seconds
  Damage::Kind damage = Damage::Kind::kNone;
  std::string damage_detail;
  bool needs_rebuild = false;  // something is missing that only a replay from 0 can bring
};

struct StreamOptions {
  bool has_replay = false;
  uint64_t first_sequence = 0;  // of a new life: 0 for engines, 1 for a Mooncake master
  Duration replay_timeout = std::chrono::seconds(5);  // until an answer begins
  // Without progress once it has begun; publishers send their answers in one go.
  Duration replay_stall = std::chrono::milliseconds(1500);
  // Of silence, at most, before the publisher is asked; the true time is 50 to 90 % of it.
  Duration probe_interval = std::chrono::seconds(5);
  Duration first_probe = std::chrono::seconds(1);  // after the first replay (slow joiner)
  // Between attempts at a replay that is not answered. The greatest stays below five seconds so
  // that a replay socket that comes back by itself is found again in that time.
  Duration backoff_min = std::chrono::milliseconds(500);
  Duration backoff_max = std::chrono::seconds(4);
  // After this long what is doubtful is dropped and the publisher is incomplete instead.
  Duration doubt_grace = std::chrono::minutes(15);
  uint32_t digest_window = 4096;  // batches whose digests are kept
  // Live frames that wait: for a replay, and as much again that wait for the consumer.
  size_t max_pending_bytes = 64 << 20;
  uint64_t jitter_seed = 0;  // spreads the timers of many publishers
  // The consumer can ask for all that the publisher holds (Consumer::OpenListing): what mends the
  // stream of one that has no replay. Means nothing where has_replay.
  bool has_listing = false;
  Duration listing_timeout = std::chrono::seconds(30);  // then it is asked for again
  // The batch's own time in Unix seconds, for judging late frames; nothing when it has none.
  std::function<std::optional<double>(std::string_view payload)> batch_time;
  // The batch's data-parallel rank; nothing when it names none. Used only to tell publishers apart
  // that connect to one bound endpoint.
  std::function<std::optional<int64_t>(std::string_view payload)> batch_rank;
  // What is held already, restored from a snapshot: stale until the publisher proves it.
  std::optional<Resume> resume;
  // So long a publisher that does not answer, or is not there, is waited for; then what was
  // restored of it is dropped.
  Duration stale_grace = std::chrono::minutes(5);
  // For Trust::detail only. The transport fills in the publisher's address when they are empty.
  std::string endpoint;
  std::string replay_endpoint;
  // What people can do so that what was missed can be asked for: where there is neither replay nor
  // listing.
  std::string remedy = "Register its replay endpoint";
};

// What happened to a stream since it was added.
struct StreamCounters {
  uint64_t frames = 0;            // live messages received
  uint64_t malformed_frames = 0;  // wrong number or size of frames, live or replayed
  uint64_t applied_live = 0;      // batches
  uint64_t applied_replay = 0;    // those of abandoned rebuilds among them
  uint64_t duplicates = 0;        // received again and ignored, live or replayed
  uint64_t late = 0;              // older than the digest window, ignored
  // Holes in the sequence. gaps = healed + partial + lost, but for one that is being asked for, or
  // those that wait for a listing.
  uint64_t gaps = 0;
  uint64_t gaps_healed = 0;
  uint64_t gaps_partial = 0;    // replay began later than the hole, or had a hole itself
  uint64_t gaps_lost = 0;       // no replay, no answer, or a restart before it
  uint64_t lives = 0;           // incarnations seen
  uint64_t replays = 0;         // asked for, probes not among them
  uint64_t replays_failed = 0;  // of these: given up without an end
  uint64_t probes = 0;
  uint64_t listings = 0;         // asked for
  uint64_t listings_failed = 0;  // of these
  uint64_t connects = 0;
  uint64_t disconnects = 0;
  uint64_t pending_dropped = 0;  // live frames dropped for max_pending_bytes
  // Bound endpoints: messages there that fit no registration, or several; the same number for all
  // publishers of the endpoint.
  uint64_t unrouted = 0;
  uint64_t lossy_batches = 0;            // of which the consumer could not use something
  std::optional<uint64_t> cursor;        // last applied sequence of this life
  std::optional<uint64_t> highest_seen;  // highest sequence received in this life
};

// Where a PublisherStream's replay requests go. The calls only start something: answers come
// later, through PublisherStream::ReplayMessage.
class ReplayOutbox {
 public:
  virtual ~ReplayOutbox() = default;

  // Asks the publisher for everything from `from`, inclusive. `request` is a fresh number; at most
  // one request is open at a time.
  virtual void OpenReplay(uint64_t request, uint64_t from) = 0;
  // No answer to `request` is wanted any more.
  virtual void CloseReplay(uint64_t request) = 0;
};

// One publisher's life, from raw frames to batches that are applied exactly once and in order, and
// to how far the result can be trusted. No sockets, no clock, no threads: everything that happens
// is a call with the time at which it happened, times never falling. docs/architecture.md has the
// rules; every one is a test in tests/stream/publisher_stream_test.cc.
//
// In short: first contact replays from sequence 0 into a hidden set while live frames wait in
// order. A hole, a reconnect and a while of silence are replayed from the cursor, inclusive: the
// digest of the batch there proves the same life or shows a new one, of which nothing old
// survives. A publisher without replay that can be listed is listed in these cases, and live frames
// go on being applied meanwhile: a listing mends what was lost before it was opened. Where nothing
// can help, Trust says what may be wrong.
class PublisherStream {
 public:
  // `consumer` and `outbox` must outlive the stream and must not call it back.
  PublisherStream(StreamOptions options, Consumer& consumer, ReplayOutbox& outbox);
  PublisherStream(const PublisherStream&) = delete;
  PublisherStream& operator=(const PublisherStream&) = delete;

  // Tells the consumer the first Trust. Call it once, before anything else.
  void Start(MonoTime now);

  // The live socket finished its handshake; lost its connection; could not get one. Frames of one
  // connection come between its Connected and its Disconnected. `reason` is a Trust::reason,
  // `detail` one sentence.
  void Connected(MonoTime now);
  void Disconnected(MonoTime now);
  void ConnectFailed(MonoTime now, std::string reason, std::string detail);

  // One live message: topic, 8-byte sequence, payload. Anything else is counted and ignored.
  void LiveMessage(MonoTime now, std::span<const std::string_view> frames);

  // The transport had to drop `count` live messages that would have come after the last one: as if
  // a frame beyond a hole had come.
  void LiveLost(MonoTime now, uint64_t count);

  // Live messages cannot be told apart from another publisher's, for the reason and with the remedy
  // that `detail` gives: "degraded", "shared_endpoint" until a call with an empty one.
  void Shared(MonoTime now, std::string detail);

  // One message of an answer to `request`: [delimiter] [topic] sequence payload, of 3 or 4 frames.
  // Those of a closed request are ignored.
  void ReplayMessage(MonoTime now, uint64_t request, std::span<const std::string_view> frames);

  // The answer to `request` was cut off by the transport: as if it had timed out now. `why` is a
  // clause for Trust::detail; empty for what needs nobody.
  void ReplayLost(MonoTime now, uint64_t request, std::string why);

  // The consumer has taken in the answer to OpenListing(request); or there is none, `why` being a
  // clause for Trust::detail ("http://master:9003/get_all_keys answers 404"). Those of a closed
  // listing are ignored.
  void ListingDone(MonoTime now, uint64_t request);
  void ListingFailed(MonoTime now, uint64_t request, std::string why);

  // When Tick has something to do next; nothing while only events can change anything.
  [[nodiscard]] std::optional<MonoTime> NextDeadline() const;
  void Tick(MonoTime now);

  // Forgets what it knows and replays from 0, or has it listed; what is held stays visible until
  // that is complete. Without either everything is dropped and collected anew.
  void Resync(MonoTime now);

  // Drops what is held and asks for none of it again: for a publisher whose cache is known to be
  // empty though it did not say so. It is the same life, and what it stores from here on counts.
  void Clear(MonoTime now);

  // The publisher is known from elsewhere to have begun a new life.
  void NewIncarnation(MonoTime now);

  [[nodiscard]] const Trust& trust() const { return trust_; }
  [[nodiscard]] const StreamCounters& counters() const { return counters_; }
  // Of the visible set; nothing before the first batch.
  [[nodiscard]] std::optional<Position> position() const;
  // The same, with all that StreamOptions::resume takes.
  [[nodiscard]] std::optional<Resume> resume() const;

 private:
  // The end marker of a replay, eight FF bytes: no batch has this number.
  static constexpr uint64_t kEndMarker = ~uint64_t{0};
  // A hole that this many requests did not fill is permanent.
  static constexpr uint32_t kAsksPerHole = 2;

  enum class Purpose : uint8_t {
    kCatchUp,  // live frames wait for it
    kRetry,    // of a rebuild that failed: live frames go on until it is answered
    kProbe,    // after silence: a live frame ends it
  };
  struct Request {
    uint64_t id = 0;
    Purpose purpose = Purpose::kCatchUp;
    bool rebuild = false;  // into the hidden set; otherwise on top of the visible one
    uint64_t from = 0;
    MonoTime deadline{};
    bool answered = false;            // by anything
    bool moved = false;               // it brought a batch that was applied
    bool proven = false;              // it had the batch at our cursor
    std::optional<uint64_t> highest;  // sequence in the answer
  };
  struct Waiting {
    uint64_t sequence = 0;
    std::string payload;
    bool seen = false;  // was applied to the visible set already
  };
  // A hole from the cursor up to the next sequence known to exist.
  struct Gap {
    uint64_t missing = 0;
    uint64_t next = 0;
    uint32_t asks = 0;
  };
  struct Listing {
    uint64_t id = 0;
    MonoTime deadline{};
    bool confirms = false;  // nothing is known to be missing
    uint64_t gaps = 0;      // seen before it was opened
  };
  enum class Source : uint8_t { kLive, kReplay };

  [[nodiscard]] static uint64_t DigestOf(std::string_view payload);

  // publisher_stream.cc: frames, batches, lives.
  void ProcessLive(MonoTime now, uint64_t sequence, std::string_view payload, bool seen);
  void ProcessFirst(MonoTime now, uint64_t sequence, std::string_view payload);
  void ProcessBehind(MonoTime now, uint64_t sequence, std::string_view payload, bool seen);
  void ProcessAhead(MonoTime now, uint64_t sequence, std::string_view payload);
  void Enqueue(uint64_t sequence, std::string_view payload, bool seen);
  void PutBack(uint64_t sequence, std::string_view payload);
  void Drain(MonoTime now);
  void DropQueue();
  void Apply(MonoTime now, Life& life, uint64_t sequence, std::string_view payload, Source source);
  void NoteLost(MonoTime now, Life& life, uint64_t sequence, const Consumer::Applied& applied);
  void NewLife(MonoTime now);
  void SeeGap(uint64_t missing, uint64_t next);
  void EndGap(uint64_t StreamCounters::*outcome);
  [[nodiscard]] static Damage::Kind HoleDamage(const Life& life);
  [[nodiscard]] std::string WithRemedy(std::string what) const;
  void Malformed(std::string what);

  // publisher_replay.cc: replay requests, their answers, and time.
  void Open(MonoTime now, Purpose purpose, bool rebuild);
  void OpenFromCursor(MonoTime now, Purpose purpose);
  void Close();
  void OnReplayed(MonoTime now, uint64_t sequence, std::string_view payload);
  void OnBatchAtCursor(MonoTime now, std::string_view payload);
  void OnOverrun(MonoTime now, Life& life, uint64_t sequence);
  void OnEnd(MonoTime now);
  void GiveUp(MonoTime now);
  void BeginRebuild();
  void CommitRebuild();
  void AbandonRebuild();
  void Settle(MonoTime now);
  [[nodiscard]] bool Retrying() const;
  void ScheduleRetry(MonoTime now);
  void ScheduleProbe(MonoTime now);
  [[nodiscard]] std::optional<MonoTime> DoubtDeadline() const;
  void DropDoubtful(MonoTime now);
  // What is held goes, the life goes on.
  void DropHeld(MonoTime now, std::string why);
  [[nodiscard]] Duration Jittered(Duration greatest);

  // publisher_listing.cc: what is asked of a publisher that has no replay.
  [[nodiscard]] bool Listed() const { return options_.has_listing && !options_.has_replay; }
  void NeedListing(MonoTime now);
  void OpenListing(MonoTime now, bool confirms);
  void CloseListing();
  void FailListing(MonoTime now, std::string why);
  void ScheduleListing(MonoTime now);
  void TickListing(MonoTime now);
  [[nodiscard]] std::optional<MonoTime> ListingDeadline() const;

  // publisher_resume.cc: what was restored.
  void TakeUp(const Resume& resume);
  void EndResume(Consumer::ResumeEnd end, std::string_view why);
  void TickResume(MonoTime now);
  [[nodiscard]] bool CanBeProven() const { return options_.has_replay || Listed(); }

  // publisher_trust.cc: the state as it is to be told.
  [[nodiscard]] Trust Judge() const;
  void Tell();

  const StreamOptions options_;
  Consumer& consumer_;
  ReplayOutbox& outbox_;

  Life life_;                   // visible
  std::optional<Life> hidden_;  // between BeginRebuild and CommitRebuild or AbandonRebuild
  std::optional<Request> request_;
  uint64_t last_request_ = 0;
  std::deque<Waiting> queue_;
  size_t queue_bytes_ = 0;
  bool queue_dropped_ = false;  // frames of this queue were dropped: ask again at the end
  std::optional<Gap> gap_;

  bool heard_ = false;  // anything well-formed, ever
  bool connected_ = false;
  bool was_connected_ = false;
  std::string link_reason_ = "not_connected";
  std::string link_detail_;
  // The socket has reconnected since the last applied batch, or that batch was restored: nothing
  // but a replay proves that the publisher is still the same.
  bool unproven_ = false;
  bool unconfirmed_resume_ = false;
  std::optional<MonoTime> resume_until_;  // while it is unconfirmed
  bool rebuild_once_proven_ = false;      // what needs_rebuild_ was of what was restored
  bool needs_rebuild_ = false;            // only a replay from 0 can still heal
  bool last_answer_empty_ = false;
  bool ring_keeps_nothing_ = false;  // its replay does not know batches that it sent
  uint32_t unanswered_ = 0;          // requests in a row
  bool ever_answered_ = false;       // by a replay endpoint
  uint32_t lives_in_a_row_ = 0;      // without a proof of one of them in between
  bool first_probe_due_ = false;     // since the last connect
  Duration backoff_;
  std::optional<MonoTime> retry_at_;
  std::optional<MonoTime> probe_at_;
  uint64_t jitter_state_;

  std::optional<Listing> listing_;
  uint64_t last_listing_ = 0;
  bool listing_due_ = false;       // something was lost since one was opened, or none was
  uint64_t gaps_unlisted_ = 0;     // seen since one was opened
  uint32_t relists_ = 0;           // in a row, each because of what was lost during the former
  uint32_t listing_failures_ = 0;  // in a row
  Duration listing_backoff_;
  std::optional<MonoTime> list_at_;
  std::string listing_problem_;  // why the last one failed

  std::string shared_;          // what Shared() said
  std::string malformed_;       // what was wrong with the last malformed message
  std::string replay_problem_;  // why the last request could not be made

  Trust trust_;
  StreamCounters counters_;
};

}  // namespace conductor::stream

#endif  // CONDUCTOR_LIB_STREAM_PUBLISHER_STREAM_H_
