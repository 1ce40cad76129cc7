// One stream against a publisher whose every fault is drawn from a seed: what is visible while the
// state is live must be what was published, all of it, in order and once.

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <deque>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "lib/stream/publisher_stream.h"
#include "stream_fixture.h"

namespace conductor::stream {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

struct Faults {
  bool has_replay = true;
  size_t ring = 1'000'000;  // batches
  int drop = 0;             // percent of live frames
  int duplicate = 0;
  int reorder = 0;
  int unsent = 0;         // sequences that are taken and never sent nor kept
  int stall = 0;          // percent of requests that are never answered
  int cut = 0;            // percent of answers that stop without an end marker
  int lie = 0;            // percent of answers that end too early, with an end marker
  bool restarts = false;  // with a reconnect
  bool in_place = false;  // restarts that only the numbers show
  bool reconnects = false;
  int lost = 0;  // percent of live frames that the transport drops and tells of
};

class World {
 public:
  World(uint64_t seed, const Faults& faults)
      : random_(seed), faults_(faults), test_(Options(seed, faults)) {}

  void Run(int steps) {
    test_.Connect();
    connected_ = true;
    for (int i = 0; i < steps && !testing::Test::HasFailure(); ++i) {
      Step();
      Check();
    }
  }

  // No more faults: everything is delivered at once, for `duration`.
  void Heal(Duration duration) {
    const Faults none{.has_replay = faults_.has_replay, .ring = faults_.ring};
    faults_ = none;
    if (!connected_) Connect();
    const MonoTime until = test_.now + duration;
    while (test_.now < until && !testing::Test::HasFailure()) {
      Exchange();
      if (Chance(5)) Publish();
      Exchange();
      Pass(milliseconds(100));
      Check();
    }
    Exchange();
    Check();
  }

  // The publisher was away and is back.
  void Return() {
    if (connected_) Disconnect();
    Connect();
  }

  [[nodiscard]] const StreamUnderTest& test() const { return test_; }
  // Everything that the publisher said in its present life.
  [[nodiscard]] std::vector<std::string> Truth() const {
    std::vector<std::string> truth;
    if (published_.contains(life_)) {
      for (const auto& [sequence, payload] : published_.at(life_)) truth.push_back(payload);
    }
    return truth;
  }
  [[nodiscard]] bool whole() const { return !unsent_.contains(life_); }

 private:
  struct Frame {
    uint64_t sequence;
    std::string payload;
  };
  struct Answer {
    uint64_t request;
    std::deque<Frame> messages;
  };

  static StreamOptions Options(uint64_t seed, const Faults& faults) {
    StreamOptions options;
    options.has_replay = faults.has_replay;
    options.jitter_seed = seed;
    if (seed % 3 == 0) options.max_pending_bytes = 600;
    if (seed % 4 == 0) options.digest_window = 4;
    return options;
  }

  uint64_t Below(uint64_t bound) { return random_() % bound; }
  bool Chance(int percent) { return static_cast<int>(Below(100)) < percent; }

  void Step() {
    const uint64_t dice = Below(100);
    if (dice < 35) {
      Publish();
    } else if (dice < 60) {
      DeliverLive();
    } else if (dice < 80) {
      DeliverAnswer();
    } else if (dice < 90) {
      Pass(milliseconds(Below(400)));
    } else if (dice < 92) {
      Pass(milliseconds(Below(12'000)));
    } else if (dice < 94 && faults_.reconnects) {
      connected_ ? Disconnect() : Connect();
    } else if (dice < 96 && faults_.restarts) {
      if (connected_) Disconnect();
      NewLife();
      if (Chance(70)) Connect();
    } else if (dice < 97 && faults_.in_place && connected_ && !test_.outbox.open) {
      while (!wire_.empty()) DeliverLive();
      NewLife();
      keep_next_ = true;
      Publish();
    }
  }

  void Publish() {
    const uint64_t sequence = next_++;
    if (!keep_next_ && Chance(faults_.unsent)) {
      unsent_.insert(life_);
      return;
    }
    const std::string payload =
        std::to_string(++clock_) + ' ' + std::to_string(life_) + ' ' + std::to_string(sequence);
    published_[life_][sequence] = payload;
    ring_.push_back({sequence, payload});
    if (ring_.size() > faults_.ring) ring_.pop_front();
    const bool keep = std::exchange(keep_next_, false);
    if (!connected_ || (!keep && Chance(faults_.drop))) return;
    wire_.push_back({sequence, payload});
    if (keep) {
      DeliverLive();
      return;
    }
    if (Chance(faults_.duplicate)) wire_.push_back({sequence, payload});
    if (wire_.size() >= 2 && Chance(faults_.reorder)) {
      std::swap(wire_.back(), wire_[wire_.size() - 2]);
    }
  }

  void DeliverLive() {
    if (wire_.empty()) return;
    const Frame frame = std::move(wire_.front());
    wire_.pop_front();
    if (Chance(faults_.lost)) {
      test_.stream->LiveLost(test_.now, 1);
      return;
    }
    test_.Live(frame.sequence, frame.payload);
  }

  // Takes up what is asked, and delivers one message of what was answered.
  void DeliverAnswer() {
    TakeRequest();
    if (answers_.empty()) return;
    Answer& answer = answers_.front();
    if (answer.messages.empty()) {
      answers_.pop_front();
      return;
    }
    const Frame frame = std::move(answer.messages.front());
    answer.messages.pop_front();
    test_.Replayed(frame.sequence, frame.payload, answer.request);
  }

  void TakeRequest() {
    if (!test_.outbox.open || *test_.outbox.open == taken_) return;
    taken_ = *test_.outbox.open;
    if (Chance(faults_.stall)) return;
    Answer answer{.request = taken_, .messages = {}};
    for (const Frame& frame : ring_) {
      if (frame.sequence >= test_.outbox.asked.back()) answer.messages.push_back(frame);
    }
    const bool cut = Chance(faults_.cut);
    if (cut || Chance(faults_.lie)) answer.messages.resize(Below(answer.messages.size() + 1));
    if (!cut) answer.messages.push_back({kEnd, ""});
    answers_.push_back(std::move(answer));
  }

  // Until nothing is on its way.
  void Exchange() {
    for (int i = 0; i < 100'000; ++i) {
      TakeRequest();
      if (!wire_.empty()) {
        DeliverLive();
      } else if (!answers_.empty()) {
        DeliverAnswer();
      } else {
        return;
      }
    }
    ADD_FAILURE() << "the stream and the publisher talk without end, last from "
                  << test_.outbox.asked.back() << " in state " << test_.State();
  }

  void Pass(Duration duration) { test_.Pass(duration); }

  void Disconnect() {
    while (!wire_.empty() && Chance(80)) DeliverLive();
    wire_.clear();
    if (Chance(50)) answers_.clear();
    connected_ = false;
    test_.Disconnect();
  }

  void Connect() {
    connected_ = true;
    test_.Connect();
  }

  void NewLife() {
    ++life_;
    next_ = 0;
    ring_.clear();
    answers_.clear();
  }

  void Check() {
    ASSERT_FALSE(test_.consumer.misuse);
    ASSERT_FALSE(test_.outbox.misuse);
    const std::vector<std::string>& visible = test_.consumer.visible;
    if (checked_ != visible.size() || test_.State() != "live") {
      ASSERT_EQ(std::set<std::string>(visible.begin(), visible.end()).size(), visible.size())
          << "something was applied twice";
    }
    checked_ = visible.size();
    if (test_.State() != "live" || visible.empty()) return;
    uint64_t time = 0;
    uint64_t life = 0;
    uint64_t last = 0;
    ASSERT_EQ(std::sscanf(visible.back().c_str(), "%lu %lu %lu", &time, &life, &last), 3);
    ASSERT_EQ(test_.Counters().cursor, last);
    std::vector<std::string> expected;
    for (const auto& [sequence, payload] : published_.at(life)) {
      if (sequence <= last) expected.push_back(payload);
    }
    ASSERT_EQ(visible, expected) << "live and wrong";
    ASSERT_EQ(expected.size(), last + 1) << "live and not whole";
  }

  std::mt19937_64 random_;
  Faults faults_;
  StreamUnderTest test_;

  uint64_t life_ = 1;
  uint64_t next_ = 0;
  uint64_t clock_ = 0;
  std::map<uint64_t, std::map<uint64_t, std::string>> published_;  // by life and sequence
  std::set<uint64_t> unsent_;                                      // lives with a permanent hole
  std::deque<Frame> ring_;
  std::deque<Frame> wire_;
  std::deque<Answer> answers_;
  uint64_t taken_ = 0;  // the last request that arrived
  bool connected_ = false;
  bool keep_next_ = false;
  size_t checked_ = 0;
};

// Each fault is there or not, as the seed says.
Faults Draw(uint64_t seed) {
  std::mt19937_64 random(seed * 7919 + 1);
  const auto some = [&](int most) {
    return random() % 2 == 0 ? 0 : static_cast<int>(random() % static_cast<uint64_t>(most));
  };
  const auto sometimes = [&] { return random() % 2 == 0; };
  Faults faults;
  faults.drop = some(40);
  faults.duplicate = some(20);
  faults.reorder = some(20);
  faults.stall = some(50);
  faults.cut = some(50);
  faults.restarts = sometimes();
  faults.in_place = sometimes();
  faults.reconnects = sometimes();
  faults.lost = some(10);
  return faults;
}

// Under a sanitizer a history takes many times longer; the other runs have them all.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr uint64_t kSeeds = 300;
#else
constexpr uint64_t kSeeds = 1500;
#endif

void CheckGapCounters(const World& world) {
  const StreamCounters& c = world.test().Counters();
  const uint64_t ended = c.gaps_healed + c.gaps_partial + c.gaps_lost;
  EXPECT_TRUE(c.gaps == ended || c.gaps == ended + 1) << c.gaps << " and " << ended;
}

TEST(RandomFaults, WhatAReplayCanHealEndsLiveAndWhole) {
  for (uint64_t seed = 0; seed < kSeeds && !testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE(seed);
    World world(seed, Draw(seed));
    world.Run(200);
    world.Heal(seconds(20));
    EXPECT_EQ(world.test().State(), "live") << world.test().stream->trust().detail;
    EXPECT_EQ(world.test().consumer.visible, world.Truth());
    CheckGapCounters(world);
  }
}

TEST(RandomFaults, APublisherThatReturnsIsLiveAndWholeWithinFiveSeconds) {
  for (uint64_t seed = 0; seed < kSeeds && !testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE(seed);
    World world(seed, Draw(seed));
    world.Run(200);
    world.Return();
    world.Heal(seconds(5));
    EXPECT_EQ(world.test().State(), "live") << world.test().stream->trust().detail;
    EXPECT_EQ(world.test().consumer.visible, world.Truth());
  }
}

TEST(RandomFaults, WithAReplayEndpointThatAnswersNoFaultLastsFiveSeconds) {
  for (uint64_t seed = 0; seed < kSeeds && !testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE(seed);
    Faults faults = Draw(seed);
    faults.stall = faults.cut = 0;
    World world(seed, faults);
    world.Run(200);
    world.Heal(seconds(5));
    EXPECT_EQ(world.test().State(), "live") << world.test().stream->trust().detail;
    EXPECT_EQ(world.test().consumer.visible, world.Truth());
  }
}

TEST(RandomFaults, WhatNoReplayCanHealIsNeverCalledLive) {
  for (uint64_t seed = 0; seed < kSeeds && !testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE(seed);
    Faults faults = Draw(seed);
    if (seed % 2 == 0) faults.unsent = 5;
    if (seed % 3 == 0) faults.ring = 1 + seed % 20;
    if (seed % 5 == 0) faults.lie = 30;
    World world(seed, faults);
    world.Run(200);
    world.Heal(seconds(20));
    if (world.test().State() == "live" && world.whole()) {
      EXPECT_EQ(world.test().consumer.visible, world.Truth());
    }
    CheckGapCounters(world);
  }
}

TEST(RandomFaults, WithoutReplayNothingWrongIsCalledLive) {
  for (uint64_t seed = 0; seed < kSeeds && !testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE(seed);
    Faults faults = Draw(seed);
    faults.has_replay = false;
    World world(seed, faults);
    world.Run(200);
    CheckGapCounters(world);
  }
}

}  // namespace
}  // namespace conductor::stream
