// One pool that can be listed against a master whose every fault is drawn from a seed: what is held
// while the state is live must be what the master holds, as far as anything told of it.

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <deque>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <utility>

#include "stream_fixture.h"

namespace conductor::stream {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using Objects = std::set<uint64_t>;

struct Faults {
  int drop = 0;           // percent of frames
  int lost = 0;           // percent of frames that the transport drops and tells of
  int fail = 0;           // percent of listings
  int silent = 0;         // percent of listings that are never answered
  bool restarts = false;  // with a reconnect, empty
  bool in_place = false;  // restarts that only the numbers show
  bool reconnects = false;
};

// Holds what events ("TIME +OBJECT", "TIME -OBJECT") and listings say, as a pool's consumer does:
// what events touched since the listing was opened is newer than its answer.
class PoolConsumer : public RecordingConsumer {
 public:
  Applied Apply(Sequence, std::string_view payload) override {
    const size_t space = payload.find(' ');
    const uint64_t object = std::stoull(std::string(payload.substr(space + 2)));
    if (payload[space + 1] == '+') {
      held.insert(object);
    } else {
      held.erase(object);
    }
    if (listing) touched.insert(object);
    return {};
  }
  void NewLife() override { held.clear(); }
  void OpenListing(uint64_t request) override {
    RecordingConsumer::OpenListing(request);
    touched.clear();
  }
  void TakeIn(const Objects& all) {
    for (auto object = held.begin(); object != held.end();) {
      object = touched.contains(*object) || all.contains(*object) ? std::next(object)
                                                                  : held.erase(object);
    }
    for (const uint64_t object : all) {
      if (!touched.contains(object)) held.insert(object);
    }
  }

  Objects held;
  Objects touched;
};

class World {
 public:
  World(uint64_t seed, const Faults& faults) : random_(seed), faults_(faults) {
    StreamOptions options;
    options.first_sequence = 1;
    options.has_listing = true;
    options.listing_timeout = seconds(1);
    options.jitter_seed = seed;
    options.batch_time = LeadingNumber;
    if (seed % 4 == 0) options.digest_window = 4;
    for (uint64_t i = Below(20); i > 0; --i) Publish();  // met late, mostly
    stream_.emplace(options, consumer_, outbox_);
    stream_->Start(now_);
  }

  void Run(int steps) {
    Connect();
    for (int i = 0; i < steps && !testing::Test::HasFailure(); ++i) {
      Step();
      Check();
    }
  }

  void Heal(Duration duration) {
    faults_ = {};
    if (!connected_) Connect();
    subscribed_ = true;
    Publish();
    const MonoTime until = now_ + duration;
    while (now_ < until && !testing::Test::HasFailure()) {
      Settle();
      Pass(milliseconds(50));
      if (Chance(5)) Publish();
      Settle();
      Check();
    }
  }

  void CheckHealed() const {
    EXPECT_EQ(stream_->trust().state, TrustState::kLive) << stream_->trust().detail;
    EXPECT_EQ(consumer_.held, truth_);
    const StreamCounters& c = stream_->counters();
    EXPECT_EQ(c.gaps, c.gaps_healed + c.gaps_partial + c.gaps_lost);
  }

 private:
  struct Frame {
    uint64_t sequence;
    std::string payload;
  };
  // On its way: what the master held when it answered, if it has.
  struct Listing {
    uint64_t request;
    bool failed;
    std::optional<Objects> all;
  };

  uint64_t Below(uint64_t bound) { return random_() % bound; }
  bool Chance(int percent) { return static_cast<int>(Below(100)) < percent; }

  void Step() {
    const uint64_t dice = Below(100);
    if (dice < 35) {
      Publish();
    } else if (dice < 62) {
      Deliver();
    } else if (dice < 70) {
      subscribed_ = connected_;
    } else if (dice < 84) {
      MoveListing();
    } else if (dice < 90) {
      Pass(milliseconds(Below(400)));
    } else if (dice < 92) {
      Pass(milliseconds(Below(6'000)));
    } else if (dice < 95 && faults_.reconnects) {
      connected_ ? Disconnect() : Connect();
    } else if (dice < 97 && faults_.restarts) {
      if (connected_) Disconnect();
      Restart();
    } else if (dice < 98 && faults_.in_place && connected_ && subscribed_) {
      while (!wire_.empty()) Deliver();
      Restart();
      const int drop = std::exchange(faults_.drop, 0);
      Publish();
      faults_.drop = drop;
      while (!wire_.empty()) Deliver();
    }
  }

  void Publish() {
    const uint64_t object = Below(12);
    const bool stores = !truth_.contains(object);
    if (stores) {
      truth_.insert(object);
    } else {
      truth_.erase(object);
    }
    ++clock_;
    std::string payload = std::to_string(clock_);
    payload.append(stores ? " +" : " -").append(std::to_string(object));
    const uint64_t sequence = ++last_;
    if (!connected_ || !subscribed_ || Chance(faults_.drop)) {
      untold_ = true;
      return;
    }
    wire_.push_back({sequence, std::move(payload)});
  }

  void Deliver() {
    if (wire_.empty()) return;
    const Frame frame = std::move(wire_.front());
    wire_.pop_front();
    if (Chance(faults_.lost)) {
      stream_->LiveLost(now_, 1);
      return;
    }
    const auto number = StoreBigEndian64(frame.sequence);
    const std::array<std::string_view, 3> frames = {"", {number.data(), 8}, frame.payload};
    stream_->LiveMessage(now_, frames);
    // What was lost before this frame shows by its number; what was lost after is still untold.
    if (wire_.empty() && frame.sequence == last_) untold_ = false;
  }

  // A listing is answered, or its answer arrives.
  void MoveListing() {
    if (consumer_.listing && (!listing_ || listing_->request != *consumer_.listing)) {
      listing_.reset();
      if (*consumer_.listing == ignored_) return;
      if (Chance(faults_.silent)) {
        ignored_ = *consumer_.listing;
        return;
      }
      listing_ = Listing{.request = *consumer_.listing, .failed = Chance(faults_.fail), .all = {}};
      return;
    }
    if (!listing_) return;
    if (!listing_->failed && !listing_->all) {
      listing_->all = truth_;
      return;
    }
    const Listing answer = std::move(*listing_);
    listing_.reset();
    if (consumer_.listing != answer.request) return;
    if (answer.failed) {
      stream_->ListingFailed(now_, answer.request, "the master answers 503");
      return;
    }
    consumer_.TakeIn(*answer.all);
    consumer_.listing.reset();
    stream_->ListingDone(now_, answer.request);
  }

  // Until nothing is on its way.
  void Settle() {
    for (int i = 0; i < 1000; ++i) {
      if (!wire_.empty()) {
        Deliver();
      } else if (listing_ || consumer_.listing) {
        if (consumer_.listing == ignored_ && !listing_) return;
        MoveListing();
      } else {
        return;
      }
    }
    ADD_FAILURE() << "listed without end";
  }

  void Pass(Duration duration) {
    const MonoTime until = now_ + duration;
    while (const auto deadline = stream_->NextDeadline()) {
      if (*deadline > until) break;
      now_ = std::max(now_, *deadline);
      stream_->Tick(now_);
    }
    now_ = until;
  }

  void Disconnect() {
    if (!wire_.empty()) untold_ = true;
    wire_.clear();
    connected_ = subscribed_ = false;
    stream_->Disconnected(now_);
  }

  void Connect() {
    connected_ = true;
    stream_->Connected(now_);
  }

  void Restart() {
    untold_ |= !truth_.empty();
    last_ = 0;
    truth_.clear();
  }

  void Check() {
    ASSERT_FALSE(consumer_.misuse);
    if (stream_->trust().state != TrustState::kLive) return;
    // Frames that are on their way, or that nothing tells of yet, are not known to exist.
    if (untold_ || !wire_.empty()) return;
    ASSERT_EQ(consumer_.held, truth_) << "live and wrong";
  }

  std::mt19937_64 random_;
  Faults faults_;
  MonoTime now_{std::chrono::hours(1)};
  PoolConsumer consumer_;
  RecordingOutbox outbox_;
  std::optional<PublisherStream> stream_;

  Objects truth_;
  uint64_t last_ = 0;  // sequence
  uint64_t clock_ = 0;
  std::deque<Frame> wire_;
  std::optional<Listing> listing_;
  uint64_t ignored_ = 0;
  bool connected_ = false;
  bool subscribed_ = false;
  bool untold_ = false;  // something happened of which no frame has told
};

Faults Draw(uint64_t seed) {
  std::mt19937_64 random(seed * 7919 + 1);
  const auto some = [&](int most) {
    return random() % 2 == 0 ? 0 : static_cast<int>(random() % static_cast<uint64_t>(most));
  };
  const auto sometimes = [&] { return random() % 2 == 0; };
  Faults faults;
  faults.drop = some(40);
  faults.lost = some(10);
  faults.fail = some(60);
  faults.silent = some(40);
  faults.restarts = sometimes();
  faults.in_place = sometimes();
  faults.reconnects = sometimes();
  return faults;
}

// Under a sanitizer a history takes many times longer; the other runs have them all.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr uint64_t kSeeds = 600;
#else
constexpr uint64_t kSeeds = 3000;
#endif

TEST(RandomPoolFaults, EndLiveAndEqualToTheMasterWithinFiveSeconds) {
  for (uint64_t seed = 0; seed < kSeeds && !testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE(seed);
    World world(seed, Draw(seed));
    world.Run(200);
    world.Heal(seconds(5));
    world.CheckHealed();
  }
}

}  // namespace
}  // namespace conductor::stream
