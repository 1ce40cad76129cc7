#ifndef CONDUCTOR_DAEMON_TOOLKIT_TAP_LIVE_H_
#define CONDUCTOR_DAEMON_TOOLKIT_TAP_LIVE_H_

#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "daemon/toolkit/tap.h"
#include "daemon/toolkit/tap_recorder.h"
#include "daemon/toolkit/tap_view.h"
#include "lib/base/clock.h"
#include "lib/base/result.h"
#include "lib/stream/peer_socket.h"
#include "lib/stream/zmq_socket.h"

namespace conductor::toolkit {

// Publishers over ZeroMQ: a SUB socket for each endpoint, which the engine sees as one subscriber
// more and nothing else. What comes goes to the recorder, then to the view, message by message.
//
// Memory is bounded: a socket takes kQueued messages ahead, then TCP holds the publisher back,
// which drops for this subscriber alone what its own queue does not hold: a gap, and told.
//
// With a replay endpoint: its answer first, live messages wait; then those that it did not have. A
// gap is asked for again, once; nothing is once there was no answer.
class TapLive {
 public:
  // All outlive it.
  TapLive(const TapOptions& options, TapView& view, TapRecorder& recorder);
  ~TapLive();
  TapLive(const TapLive&) = delete;
  TapLive& operator=(const TapLive&) = delete;

  // An error for what can never work: an address that is taken or not this machine's.
  [[nodiscard]] Status Open();

  // What zmq_poll() is to look at.
  void Poll(std::vector<zmq_pollitem_t>& items) const;
  // Takes what has come, a bounded number of messages; true when there may be more.
  bool Turn(MonoTime now);
  // Before the end: takes what has come and was not taken, whatever waits for a replay included, so
  // that nothing of it is lost. Ends when the publishers are silent for `quiet`, within which what
  // has come to this machine is taken from its connection, or, as they may never be, after `most`.
  void Drain(Duration quiet = std::chrono::milliseconds(50),
             Duration most = std::chrono::milliseconds(500));
  [[nodiscard]] std::optional<MonoTime> Deadline() const;

  // Whether any endpoint was ever connected.
  [[nodiscard]] bool reached() const;

  // Publishers behind all bound endpoints that are told apart; the others of each are one, so that
  // there are fewer than a recording takes.
  static constexpr size_t kMostPeers = trace::kMostPublishers / 2;

 private:
  // Which publisher behind a bound endpoint: peer, topic, rank.
  using Peer = std::tuple<std::string, std::string, std::optional<int64_t>>;
  struct Link {
    std::string endpoint;
    bool bound = false;
    stream::MonitoredSocket socket;
    std::optional<uint32_t> publisher;  // of an endpoint that is connected to
    std::map<Peer, uint32_t> peers;     // of one that is bound
    std::optional<uint32_t> others;     // those that are too many
    uint64_t connections = 0;           // ever
    uint64_t messages = 0;
    bool tried = false;     // its address is known, and a connection was begun
    bool accepted = false;  // somebody took it
    bool retried = false;   // it failed
    bool told_unreachable = false;
    bool told_silent = false;
    MonoTime begun{};
    std::optional<MonoTime> connected_at;
    std::optional<MonoTime> redial_at;
  };
  struct Message {
    int64_t time_ns = 0;
    std::vector<stream::ZmqFrame> frames;
    size_t bytes = 0;
  };
  struct Replay {
    stream::ZmqSocket socket;
    MonoTime progress{};
    uint64_t from = 0;
    uint64_t answered = 0;
  };

  [[nodiscard]] Status OpenLink(Link& link);
  uint32_t AddPublisher(const std::string& endpoint, const Peer* peer);
  [[nodiscard]] uint32_t PublisherOf(Link& link, const std::vector<stream::ZmqFrame>& frames);
  void TakeEvents(Link& link, MonoTime now);
  [[nodiscard]] uint32_t OthersOf(Link& link);
  bool TakeMessages(Link& link);
  [[nodiscard]] static std::string WhyUnreachable(const Link& link, const std::string& after);
  void TellWhatIsMissing(Link& link, MonoTime now);
  void Mark(const Link& link, trace::MarkKind kind, std::string detail = {});

  void Live(uint32_t publisher, Message message);
  // False when it has to wait for a replay.
  bool Deliver(uint32_t publisher, const Message& message);
  void Give(int64_t time_ns, uint32_t publisher, bool replayed,
            std::span<const std::string_view> frames);
  void Ask(uint64_t from, MonoTime now);
  bool TakeReplay(MonoTime now);
  void EndReplay();

  const TapOptions& options_;
  TapView& view_;
  TapRecorder& recorder_;
  void* context_;
  std::vector<std::unique_ptr<Link>> links_;
  size_t peers_ = 0;     // of all links
  bool ending_ = false;  // nothing is asked for any more

  std::optional<MonoTime> ask_at_;  // the first replay
  std::unique_ptr<Replay> replay_;
  std::optional<uint64_t> asked_for_hole_;
  bool replays_ = true;          // until an answer fails to come
  std::deque<Message> waiting_;  // for the end of a replay
  size_t waiting_bytes_ = 0;
};

}  // namespace conductor::toolkit

#endif  // CONDUCTOR_DAEMON_TOOLKIT_TAP_LIVE_H_
