#ifndef CONDUCTOR_TESTS_STREAM_TRANSPORT_FIXTURE_H_
#define CONDUCTOR_TESTS_STREAM_TRANSPORT_FIXTURE_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "fake_publisher.h"
#include "lib/stream/transport.h"

namespace conductor::stream {

using std::chrono::milliseconds;
using std::chrono::seconds;
using Payloads = std::vector<std::string>;

inline constexpr Duration kSoon =
    seconds(60);  // on a loaded machine; waits end when the thing is true

// What consumers of one publisher saw; outlives them.
class Board {
 public:
  // Waits until `holds` is true of what was seen, or of anything else that it looks at. A freeze of
  // the machine counts as a tenth of a second: the others have to run after it.
  bool Wait(const std::function<bool(const Board&)>& holds) {
    Duration left = kSoon;
    MonoTime before = MonoNow();
    std::unique_lock lock(mutex_);
    while (!holds(*this)) {
      const MonoTime now = MonoNow();
      left -= std::min<Duration>(now - before, milliseconds(100));
      before = now;
      if (left < Duration(0)) return false;
      changed_.wait_for(lock, milliseconds(10));
    }
    return true;
  }
  bool WaitFor(TrustState state, const Payloads& payloads) {
    return Wait([&](const Board& b) { return b.trust.state == state && b.visible == payloads; });
  }
  bool WaitForReason(const std::string& reason) {
    return Wait([&](const Board& b) { return b.trust.reason == reason; });
  }
  Trust LastTrust() {
    const std::lock_guard lock(mutex_);
    return trust;
  }
  void Change(const std::function<void()>& change) {
    const std::lock_guard lock(mutex_);
    change();
    changed_.notify_all();
  }

  // Guarded by the mutex; read in Wait, or when the transport is gone.
  Payloads visible;
  Payloads hidden;
  Trust trust;
  bool rebuilding = false;
  bool destroyed = false;
  Duration apply_takes{0};
  std::optional<MonoTime> tick_at;  // the consumer's next deadline
  int ticks = 0;
  bool throws = false;

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
};

class BoardConsumer : public Consumer {
 public:
  explicit BoardConsumer(std::shared_ptr<Board> board) : board_(std::move(board)) {}
  ~BoardConsumer() override {
    board_->Change([&] { board_->destroyed = true; });
  }
  Applied Apply(Sequence, std::string_view payload) override {
    Duration takes{};
    bool throws = false;
    board_->Change([&] { takes = board_->apply_takes; });
    if (takes.count() > 0) std::this_thread::sleep_for(takes);
    board_->Change([&] {
      (board_->rebuilding ? board_->hidden : board_->visible).emplace_back(payload);
      throws = board_->throws;
    });
    if (throws) throw std::runtime_error("the index is on fire");
    return {};
  }
  void NewLife() override {
    board_->Change([&] {
      board_->visible.clear();
      board_->hidden.clear();
    });
  }
  void BeginRebuild() override {
    board_->Change([&] { board_->rebuilding = true; });
  }
  void CommitRebuild() override {
    board_->Change([&] {
      board_->visible = std::move(board_->hidden);
      board_->hidden.clear();
      board_->rebuilding = false;
    });
  }
  void AbandonRebuild() override {
    board_->Change([&] {
      board_->hidden.clear();
      board_->rebuilding = false;
    });
  }
  [[nodiscard]] std::optional<MonoTime> NextDeadline() const override {
    std::optional<MonoTime> next;
    board_->Change([&] { next = board_->tick_at; });
    return next;
  }
  void Tick(MonoTime) override {
    board_->Change([&] {
      ++board_->ticks;
      board_->tick_at.reset();
    });
  }
  void TrustChanged(const Trust& trust) override {
    board_->Change([&] { board_->trust = trust; });
  }

 private:
  std::shared_ptr<Board> board_;
};

inline StreamOptions QuickStream(bool has_replay) {
  return {.has_replay = has_replay,
          .replay_timeout = milliseconds(500),
          .probe_interval = milliseconds(400),
          .first_probe = milliseconds(100),
          .backoff_min = milliseconds(50),
          .backoff_max = milliseconds(200)};
}

// Whatever hangs does so for a minute.
inline StreamOptions PatientStream(bool has_replay) {
  StreamOptions options = QuickStream(has_replay);
  options.replay_timeout = seconds(60);
  return options;
}

inline Transport::Options QuickTransport() {
  return {.threads = 2,
          .max_publishers = 400,
          .handshake_timeout = milliseconds(300),
          .heartbeat_interval = milliseconds(500),
          .reconnect_min = milliseconds(20),
          .reconnect_max = milliseconds(100)};
}

// Whatever has connected stays so, however long this machine stands still.
inline Transport::Options PatientTransport() {
  Transport::Options options = QuickTransport();
  options.handshake_timeout = seconds(60);
  options.heartbeat_interval = seconds(30);
  return options;
}

class TransportTest : public testing::Test {
 protected:
  std::shared_ptr<Board> Listen(const PublisherAddress& address, const StreamOptions& options) {
    auto board = std::make_shared<Board>();
    const auto added = transport->Add(address, options, std::make_unique<BoardConsumer>(board));
    EXPECT_TRUE(added) << (added ? "" : added.error().Message());
    last_id = added.value_or(0);
    return board;
  }
  // Listens and returns where to look.
  std::shared_ptr<Board> Listen(const std::string& endpoint, const std::string& replay_endpoint,
                                const std::function<void(Board&)>& prepare = {}) {
    auto board = std::make_shared<Board>();
    if (prepare) prepare(*board);
    const auto added = transport->Add({.endpoint = endpoint, .replay_endpoint = replay_endpoint},
                                      QuickStream(!replay_endpoint.empty()),
                                      std::make_unique<BoardConsumer>(board));
    EXPECT_TRUE(added) << (added ? "" : added.error().Message());
    last_id = added.value_or(0);
    return board;
  }
  std::shared_ptr<Board> Listen(FakePublisher& publisher) {
    return Listen(publisher.endpoint(), publisher.replay_endpoint());
  }

  std::unique_ptr<Transport> transport = std::make_unique<Transport>(QuickTransport());
  Transport::PublisherId last_id = 0;
};

}  // namespace conductor::stream

#endif  // CONDUCTOR_TESTS_STREAM_TRANSPORT_FIXTURE_H_
