#ifndef CONDUCTOR_TESTS_STREAM_STREAM_FIXTURE_H_
#define CONDUCTOR_TESTS_STREAM_STREAM_FIXTURE_H_

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/bytes.h"
#include "lib/stream/consumer.h"
#include "lib/stream/publisher_stream.h"

namespace conductor::stream {

// Keeps what a stream did: the payloads of the visible set in order, and those of the hidden one.
// The payload "clear" leaves nothing held; of "lost stores" and "lost removals" that is lost; both
// may stand in one payload.
class RecordingConsumer : public Consumer {
 public:
  Applied Apply(Sequence sequence, std::string_view payload) override {
    std::vector<std::string>& set = rebuilding ? hidden : visible;
    set.emplace_back(payload);
    sequences.push_back(static_cast<uint64_t>(sequence));
    Applied applied{.holds_nothing = payload.starts_with("clear")};
    if (payload.ends_with("lost stores")) applied.lost = Lost::kStores;
    if (payload.ends_with("lost removals")) applied.lost = Lost::kRemovals;
    if (applied.lost != Lost::kNothing) applied.what = "an event that nobody can read";
    return applied;
  }
  void NewLife() override {
    ++new_lives;
    visible.clear();
    hidden.clear();
  }
  void BeginRebuild() override {
    misuse |= rebuilding;
    rebuilding = true;
    hidden.clear();
  }
  void CommitRebuild() override {
    misuse |= !rebuilding;
    rebuilding = false;
    ++commits;
    visible = std::move(hidden);
    hidden.clear();
  }
  void AbandonRebuild() override {
    misuse |= !rebuilding;
    rebuilding = false;
    ++abandons;
    hidden.clear();
  }
  void OpenListing(uint64_t request) override {
    misuse |= listing.has_value();
    listing = request;
    ++listings;
  }
  void CloseListing(uint64_t request) override {
    misuse |= listing != request;
    listing.reset();
  }
  void TrustChanged(const Trust& trust) override { told.push_back(trust); }
  void ResumeEnded(ResumeEnd end, std::string_view why) override {
    misuse |= resume_end.has_value();
    resume_end = end;
    resume_why = why;
  }

  std::vector<std::string> visible;
  std::vector<std::string> hidden;
  std::vector<uint64_t> sequences;
  std::vector<Trust> told;
  bool rebuilding = false;
  bool misuse = false;
  int new_lives = 0;
  int commits = 0;
  int abandons = 0;
  std::optional<uint64_t> listing;  // the open one
  int listings = 0;                 // ever asked for
  std::optional<ResumeEnd> resume_end;
  std::string resume_why;
};

class RecordingOutbox : public ReplayOutbox {
 public:
  void OpenReplay(uint64_t request, uint64_t from) override {
    misuse |= open.has_value();
    open = request;
    asked.push_back(from);
  }
  void CloseReplay(uint64_t request) override {
    misuse |= open != request;
    open.reset();
  }

  std::optional<uint64_t> open;  // id of the open request
  std::vector<uint64_t> asked;   // first sequence of each request, ever
  bool misuse = false;
};

// "3.5 text": a payload whose batch time is 3.5.
inline std::optional<double> LeadingNumber(std::string_view payload) {
  if (payload.empty() || payload[0] < '0' || payload[0] > '9') return std::nullopt;
  return std::stod(std::string(payload));
}

// Batch('a', 3) is "a3": what life a told with sequence 3.
inline std::string Batch(char life, uint64_t sequence) {
  std::string text = std::to_string(sequence);
  text.insert(text.begin(), life);
  return text;
}

inline constexpr uint64_t kEnd = ~uint64_t{0};

// One stream with its time and its neighbours, and short words for what happens to it.
struct StreamUnderTest {
  explicit StreamUnderTest(StreamOptions with) : options(std::move(with)) {
    options.endpoint = "tcp://engine:5557";
    if (options.has_replay) options.replay_endpoint = "tcp://engine:5558";
    options.batch_time = LeadingNumber;
    stream.emplace(options, consumer, outbox);
    stream->Start(now);
  }

  void Live(uint64_t sequence, std::string_view payload) {
    const auto number = StoreBigEndian64(sequence);
    const std::array<std::string_view, 3> frames = {"topic", {number.data(), 8}, payload};
    stream->LiveMessage(now, frames);
  }
  // One message of the answer to the open request, or to `request`.
  void Replayed(uint64_t sequence, std::string_view payload,
                std::optional<uint64_t> request = std::nullopt) {
    const auto number = StoreBigEndian64(sequence);
    const std::array<std::string_view, 3> frames = {"", {number.data(), 8}, payload};
    stream->ReplayMessage(now, request ? *request : outbox.open.value_or(0), frames);
  }
  void End() { Replayed(kEnd, ""); }
  // The open listing was taken in.
  void List() {
    const uint64_t request = consumer.listing.value_or(0);
    consumer.listing.reset();
    stream->ListingDone(now, request);
  }
  void FailListing(const std::string& why) {
    stream->ListingFailed(now, consumer.listing.value_or(0), why);
  }
  void Connect() { stream->Connected(now); }
  void Disconnect() { stream->Disconnected(now); }
  void Reconnect() {
    Disconnect();
    Connect();
  }
  // Lets time pass, each deadline at its own time.
  void Pass(Duration duration) {
    const MonoTime until = now + duration;
    while (const auto deadline = stream->NextDeadline()) {
      if (*deadline > until) break;
      now = std::max(now, *deadline);
      stream->Tick(now);
    }
    now = until;
    stream->Tick(now);
  }

  [[nodiscard]] std::string State() const {
    const Trust& trust = stream->trust();
    std::string text(TrustStateName(trust.state));
    if (!trust.reason.empty()) text += " " + trust.reason;
    return text;
  }
  [[nodiscard]] const StreamCounters& Counters() const { return stream->counters(); }

  StreamOptions options;
  MonoTime now{std::chrono::hours(1)};
  RecordingConsumer consumer;
  RecordingOutbox outbox;
  std::optional<PublisherStream> stream;
};

}  // namespace conductor::stream

#endif  // CONDUCTOR_TESTS_STREAM_STREAM_FIXTURE_H_
