// One stream, and everything that its neighbours can do to it: a publisher that tells the truth,
// loses some of it, restarts, or lies; a transport that connects, cuts off and is late; an operator
// who resyncs. The input: two bytes of options, then one byte for each thing that happens with the
// bytes that it needs.

#include "lib/stream/publisher_stream.h"

#include <array>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "fuzz_target.h"
#include "lib/base/bytes.h"

namespace conductor::stream {
namespace {

using fuzz::Require;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr uint64_t kEnd = ~uint64_t{0};

// A set of applied batches, as far as it can be judged without knowing the truth.
struct AppliedSet {
  std::optional<uint64_t> last;
  bool whole = true;     // no hole since it began, or since it was last known to be empty
  bool lost = false;     // something could not be used since then
  bool listed = false;   // all before its first batch came with a listing
  uint64_t applied = 0;  // batches
};

// Checks the order of the calls that a stream makes.
class CheckingConsumer : public Consumer {
 public:
  CheckingConsumer(uint64_t first_sequence, std::optional<uint64_t> resumed)
      : first_sequence_(first_sequence) {
    visible_.last = resumed;
  }

  Applied Apply(Sequence sequence, std::string_view payload) override {
    const auto number = static_cast<uint64_t>(sequence);
    AppliedSet& set = rebuilding_ ? hidden_ : visible_;
    Require(!set.last || number > *set.last, "sequences rise strictly in one set");
    Require(number != kEnd, "the end marker is no batch");
    const bool clears = payload.starts_with("clear");
    const bool follows =
        set.last ? number == *set.last + 1 : set.listed || number <= first_sequence_;
    // What came before the batch that called for a listing is in it.
    listed_.whole = (listed_.whole && (follows || just_opened_ || !set.last)) || clears;
    set.whole = (set.whole && follows) || clears;
    set.last = number;
    ++set.applied;
    ++applied_;
    Applied applied{.holds_nothing = clears};
    if (payload.ends_with("stores")) applied.lost = Lost::kStores;
    if (payload.ends_with("removals")) applied.lost = Lost::kRemovals;
    set.lost = (set.lost && !clears) || applied.lost != Lost::kNothing;
    listed_.lost = (listed_.lost && !clears) || (applied.lost != Lost::kNothing && !just_opened_);
    return applied;
  }
  void NewLife() override {
    visible_ = {};
    hidden_ = {};
    listed_ = {};
  }
  void OpenListing(uint64_t request) override {
    Require(!listing_, "one listing at a time");
    listing_ = request;
    listed_ = {};
    just_opened_ = true;
  }
  // Whatever called for a listing is over.
  void EndStep() { just_opened_ = false; }
  void CloseListing(uint64_t request) override {
    Require(listing_ == request, "only the open listing is closed");
    listing_.reset();
  }
  // The listing came: what was lost before it was opened is mended. Nothing when none is open.
  std::optional<uint64_t> TakeListing() {
    if (listing_) {
      visible_.whole = listed_.whole;
      visible_.lost = listed_.lost;
      visible_.listed = true;
    }
    return std::exchange(listing_, std::nullopt);
  }
  void BeginRebuild() override {
    Require(!std::exchange(rebuilding_, true), "one rebuild at a time");
    hidden_ = {};
  }
  void CommitRebuild() override {
    Require(std::exchange(rebuilding_, false), "only a rebuild is committed");
    visible_ = std::exchange(hidden_, {});
  }
  void AbandonRebuild() override {
    Require(std::exchange(rebuilding_, false), "only a rebuild is abandoned");
    hidden_ = {};
  }
  void TrustChanged(const Trust& trust) override {
    Require(told_ != trust, "a state is told when it changes");
    told_ = trust;
  }

  [[nodiscard]] const AppliedSet& visible() const { return visible_; }
  [[nodiscard]] bool rebuilding() const { return rebuilding_; }
  [[nodiscard]] std::optional<uint64_t> listing() const { return listing_; }
  [[nodiscard]] uint64_t applied() const { return applied_; }
  [[nodiscard]] const std::optional<Trust>& told() const { return told_; }

 private:
  uint64_t first_sequence_;
  AppliedSet visible_;
  AppliedSet hidden_;
  std::optional<uint64_t> listing_;  // open
  bool just_opened_ = false;
  AppliedSet listed_;  // what the visible set will be when it comes
  bool rebuilding_ = false;
  uint64_t applied_ = 0;
  std::optional<Trust> told_;
};

class CheckingOutbox : public ReplayOutbox {
 public:
  void OpenReplay(uint64_t request, uint64_t from) override {
    Require(!open, "one request at a time");
    Require(request > last, "request numbers are fresh");
    open = request;
    last = request;
    next = from;
  }
  void CloseReplay(uint64_t request) override {
    Require(open == request, "only the open request is closed");
    open.reset();
  }

  std::optional<uint64_t> open;
  uint64_t last = 0;
  uint64_t next = 0;  // sequence of the next truthful message to the open request
};

StreamOptions Options(uint8_t flags, uint8_t sizes) {
  StreamOptions options;
  options.has_replay = (flags & 1) != 0;
  options.first_sequence = (flags & 2) != 0 ? 1 : 0;
  if ((flags & 4) != 0) options.resume = Position{.cursor = sizes, .digest = 7};
  if ((flags & 8) != 0) options.digest_window = 2;
  if ((flags & 16) != 0) options.max_pending_bytes = sizes;
  options.has_listing = (flags & 32) != 0;
  options.jitter_seed = sizes;
  options.endpoint = "tcp://engine:5557";
  options.replay_endpoint = options.has_replay ? "tcp://engine:5558" : "";
  options.batch_time = [](std::string_view payload) -> std::optional<double> {
    if (payload.size() < 6) return std::nullopt;
    return static_cast<double>(payload[5]);
  };
  return options;
}

class World {
 public:
  World(uint8_t flags, uint8_t sizes)
      : options_(Options(flags, sizes)),
        consumer_(options_.first_sequence,
                  options_.resume ? std::optional(options_.resume->cursor) : std::nullopt),
        stream_(options_, consumer_, outbox_) {
    stream_.Start(now_);
  }

  void Step(fuzz::Decisions& input) {
    switch (input.Below(21)) {
      case 0:
      case 1:
        Publish(input.Byte());
        Live(published_.size() - 1 + options_.first_sequence, published_.back());
        break;
      case 2:  // never sent, but kept
        Publish(input.Byte());
        break;
      case 3:  // one of those before, or one that does not exist yet
        LiveNear(input);
        break;
      case 4:
        LiveOfAnyShape(input);
        break;
      case 5:
      case 6:
        AnswerTruly();
        break;
      case 7:
        for (int i = input.Byte(); i > 0 && outbox_.open; --i) AnswerTruly();
        break;
      case 8:
        AnswerFalsely(input);
        break;
      case 9:
        Answer(kEnd, "");
        break;
      case 10:
        stream_.ReplayLost(now_, Request(input.Below(3)),
                           input.Coin() ? "its answer is too large" : "");
        break;
      case 11:
        stream_.Connected(now_);
        break;
      case 12:
        stream_.Disconnected(now_);
        break;
      case 13:
        stream_.ConnectFailed(now_, "unreachable", "nobody listens there");
        break;
      case 14:
        Pass(milliseconds(20) * input.Byte());
        break;
      case 15:
        Pass(seconds(5) * input.Byte());
        break;
      case 16:
        input.Coin() ? stream_.Resync(now_) : stream_.NewIncarnation(now_);
        break;
      case 17:  // a restart that the transport does not see
        ++life_;
        published_.clear();
        kept_from_ = input.Below(4);
        break;
      case 18:
        AnswerListing(input.Byte());
        break;
      case 19:
        stream_.Clear(now_);
        break;
      case 20:
        stream_.LiveLost(now_, 1 + input.Below(8));
        break;
    }
    consumer_.EndStep();
    Check();
  }

 private:
  // What a batch says about itself to CheckingConsumer, and when it was made.
  void Publish(uint8_t kind) {
    constexpr std::array<std::string_view, 8> kKinds = {"", "",       "",         "",
                                                        "", "stores", "removals", ""};
    std::string payload = kind % 8 == 7 || kind % 64 == 5 ? "clear" : "batch";
    payload += static_cast<char>(kind / 8);
    payload += std::to_string(life_) + " " + std::to_string(published_.size());
    payload += kKinds[kind % 8];
    published_.push_back(std::move(payload));
  }

  [[nodiscard]] std::string_view Published(uint64_t sequence) const {
    const uint64_t place = sequence - options_.first_sequence;
    return place < published_.size() ? std::string_view(published_[place]) : "batch of nobody";
  }

  void AnswerListing(uint8_t how) {
    if ((how & 1) != 0 && consumer_.listing() != how) {
      stream_.ListingDone(now_, how);  // an old one, or one that never was
      return;
    }
    if ((how & 2) != 0 && consumer_.listing()) {
      stream_.ListingFailed(now_, *consumer_.listing(), "nobody answers");
      return;
    }
    if (const auto request = consumer_.TakeListing()) stream_.ListingDone(now_, *request);
  }

  void LiveNear(fuzz::Decisions& input) {
    const uint64_t sequence = published_.size() + input.Below(16) - 8;
    Live(sequence, input.Coin() ? Published(sequence) : input.Bytes(input.Below(32)));
  }

  void LiveOfAnyShape(fuzz::Decisions& input) {
    std::vector<std::string_view> frames(input.Below(6));
    for (std::string_view& frame : frames) frame = input.Bytes(input.Below(12));
    stream_.LiveMessage(now_, frames);
  }

  void Live(uint64_t sequence, std::string_view payload) {
    const auto number = StoreBigEndian64(sequence);
    const std::array<std::string_view, 3> frames = {"topic", {number.data(), 8}, payload};
    stream_.LiveMessage(now_, frames);
  }

  // The next message of what a publisher would answer.
  void AnswerTruly() {
    if (!outbox_.open) return;
    const uint64_t first = options_.first_sequence + kept_from_;
    const uint64_t sequence = std::max(outbox_.next, first);
    if (sequence - options_.first_sequence >= published_.size()) {
      Answer(kEnd, "");
      return;
    }
    outbox_.next = sequence + 1;
    Answer(sequence, Published(sequence));
  }

  void AnswerFalsely(fuzz::Decisions& input) {
    const uint8_t how = input.Byte();
    const uint64_t request = Request(how & 3);
    if ((how & 4) != 0) {
      std::vector<std::string_view> frames(input.Below(6));
      for (std::string_view& frame : frames) frame = input.Bytes(input.Below(12));
      stream_.ReplayMessage(now_, request, frames);
      return;
    }
    const uint64_t sequence =
        (how & 8) != 0 ? input.Number() : published_.size() + input.Below(16) - 8;
    AnswerTo(request, sequence,
             (how & 16) != 0 ? Published(sequence) : input.Bytes(input.Below(32)));
  }

  void Answer(uint64_t sequence, std::string_view payload) {
    AnswerTo(Request(0), sequence, payload);
  }

  void AnswerTo(uint64_t request, uint64_t sequence, std::string_view payload) {
    const auto number = StoreBigEndian64(sequence);
    const std::array<std::string_view, 4> frames = {"", "topic", {number.data(), 8}, payload};
    // Both forms of answers: with a topic and without.
    const auto all = std::span(frames);
    if (request % 2 == 0) {
      stream_.ReplayMessage(now_, request, all);
    } else {
      stream_.ReplayMessage(now_, request, all.subspan(1));
    }
  }

  // The open request, or one that is closed, or one that never was.
  [[nodiscard]] uint64_t Request(unsigned which) const {
    if (which == 0) return outbox_.open.value_or(outbox_.last);
    return which == 1 ? outbox_.last : outbox_.last + which - 3;
  }

  void Pass(Duration duration) {
    const MonoTime until = now_ + duration;
    const size_t most = 10'000 + static_cast<size_t>(duration / milliseconds(10));
    size_t ticks = 0;
    while (const auto deadline = stream_.NextDeadline()) {
      if (*deadline > until) break;
      now_ = std::max(now_, *deadline);
      stream_.Tick(now_);
      Require(++ticks <= most, "a tick moves the next deadline on");
    }
    now_ = until;
    stream_.Tick(now_);
  }

  void Check() const {
    const StreamCounters& counters = stream_.counters();
    const AppliedSet& visible = consumer_.visible();
    Require(counters.applied_live + counters.applied_replay == consumer_.applied(),
            "what is applied is counted");
    const uint64_t ended = counters.gaps_healed + counters.gaps_partial + counters.gaps_lost;
    const bool waits_for_listing = options_.has_listing && !options_.has_replay;
    Require(counters.gaps == ended || counters.gaps == ended + 1 ||
                (waits_for_listing && counters.gaps > ended),
            "every gap has one outcome");
    Require(consumer_.told() == stream_.trust(), "the state that was told is the state");
    Require(!outbox_.open || options_.has_replay, "without a replay endpoint none is asked");
    // What is doubtful for too long is dropped, and then the cursor alone is left.
    const auto position = stream_.position();
    Require(!visible.last || (position && position->cursor == *visible.last),
            "the cursor is the last batch of the visible set");
    if (stream_.trust().state != TrustState::kLive) return;
    Require(!consumer_.rebuilding(), "a set that is being rebuilt is not live");
    Require(visible.whole, "a set with a hole is not live");
    Require(!visible.lost, "a set of which something was lost is not live");
  }

  const StreamOptions options_;
  MonoTime now_{std::chrono::hours(1)};
  CheckingConsumer consumer_;
  CheckingOutbox outbox_;
  PublisherStream stream_;

  int life_ = 0;
  std::vector<std::string> published_;  // of this life
  uint64_t kept_from_ = 0;              // place of the first that its ring still has
};

}  // namespace
}  // namespace conductor::stream

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  conductor::fuzz::Decisions input(data, size);
  const uint8_t flags = input.Byte();
  conductor::stream::World world(flags, input.Byte());
  while (!input.over()) world.Step(input);
  return 0;
}
