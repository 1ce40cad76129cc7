#ifndef CONDUCTOR_LIB_STREAM_PUBLISHER_LINK_H_
#define CONDUCTOR_LIB_STREAM_PUBLISHER_LINK_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "lib/base/clock.h"
#include "lib/base/endpoint.h"
#include "lib/base/result.h"
#include "lib/stream/guarded_consumer.h"
#include "lib/stream/publisher_stream.h"
#include "lib/stream/resolver.h"
#include "lib/stream/transport.h"
#include "lib/stream/zmq_socket.h"

namespace conductor::stream {

// Where a link's file descriptors are watched.
class Watcher {
 public:
  virtual ~Watcher() = default;
  virtual void Watch(int fd, uint64_t link, bool monitor) = 0;
  virtual void Unwatch(int fd) = 0;
};

// Messages that were taken from a socket and wait for their turn, bounded in bytes.
struct Inbox {
  std::deque<ZmqMessage> messages;
  size_t bytes = 0;

  // Takes what the socket has, up to `limit` bytes. True when the socket is empty now.
  bool Fill(ZmqSocket& socket, size_t limit);
  [[nodiscard]] ZmqMessage Pop();
};

// One publisher's sockets and its stream: turns what sockets do into calls of the stream, in the
// order in which it happened, and opens a DEALER for each replay request. Of one ingest thread.
//
// The order of frames and connection changes matters (a frame of a restarted engine must not be
// taken for the next one of its former life) but libzmq tells them through two sockets. Two facts
// put them together: the event of a connection's handshake is visible before any of its frames,
// and each frame knows its connection.
//
// libzmq is given numeric addresses only. A name is looked up anew for every connection, for its
// addresses move, and they are tried in turn; each try has sockets of its own, so that nothing that
// is told of the former one is taken for the present one's.
class PublisherLink : public ReplayOutbox {
 public:
  // `context`, `resolver`, `watcher` and `options` must outlive the link. `id` is what `watcher` is
  // told.
  PublisherLink(void* context, Resolver& resolver, Watcher& watcher, uint64_t id,
                const Transport::Options& options, PublisherAddress address,
                StreamOptions stream_options, std::unique_ptr<Consumer> consumer);
  ~PublisherLink() override;

  // Opens the sockets and starts to connect.
  [[nodiscard]] Status Open(MonoTime now);

  // One bounded piece of work. `monitor`: the monitor's descriptor is readable. True when there is
  // more to do at once. The first turn comes right after Open, with `monitor` set: libzmq signals
  // nothing before the first attempt to receive.
  bool Turn(bool monitor);

  // When Turn has something to do although no descriptor is readable.
  [[nodiscard]] std::optional<MonoTime> Deadline() const;

  [[nodiscard]] PublisherStream& stream() { return stream_; }
  [[nodiscard]] Consumer& consumer() { return consumer_; }

  void OpenReplay(uint64_t request, uint64_t from) override;
  void CloseReplay(uint64_t request) override;

 private:
  struct LinkEvent {
    int event = 0;
    int value = 0;
  };
  struct Replay {
    uint64_t request = 0;
    uint64_t from = 0;
    MonoTime opened{};
    bool answered = false;
    std::shared_ptr<Lookup> lookup;  // of the endpoint's name, before there is a socket
    ZmqSocket socket;                // closed when the answer was cut off
    int fd = -1;
    Inbox inbox;
    bool lost = false;
    std::string why;  // it was lost, for people
    // libzmq signals nothing for a socket before the first attempt to receive.
    bool polled = false;
  };

  void ConfigureSocket(ZmqSocket& socket, const std::string& endpoint) const;
  [[nodiscard]] Status OpenLive(const std::string& endpoint);
  void CloseLive();
  void Dial();
  void LookUp();
  void TurnLookup();
  void CannotResolve(const std::string& why);
  [[nodiscard]] Duration Backoff(Duration least) const;
  [[nodiscard]] std::string Shown() const;
  void DrainMonitor();
  void HandleEvents(size_t count);
  void HandleEvent(const LinkEvent& event);
  void HandleLive(const ZmqMessage& message);
  void HandshakeFailed(const std::string& why);
  void TurnReplay(MonoTime until);
  void TurnReplayLookup();
  void AskReplay(const std::string& endpoint);
  void LoseReplay(std::string why);
  [[nodiscard]] bool HasMoreWork() const;

  void* const context_;
  Resolver& resolver_;
  Watcher& watcher_;
  const uint64_t id_;
  const Transport::Options& options_;
  const PublisherAddress address_;
  const size_t inbox_limit_;
  const Duration replay_timeout_;
  // The endpoints whose host is a name; nothing for those that libzmq can be given as they are.
  const std::optional<Endpoint> live_name_;
  const std::optional<Endpoint> replay_name_;

  GuardedConsumer consumer_;
  PublisherStream stream_;

  std::shared_ptr<Lookup> lookup_;  // of live_name_'s host
  std::optional<MonoTime> lookup_late_at_;
  std::deque<std::string> untried_;  // addresses that it found
  std::string live_address_;         // the one that live_ connects to
  // Which of the addresses of the replay endpoint's name is asked: the next one after each request
  // in vain.
  size_t replay_turn_ = 0;

  ZmqSocket live_;  // null while a name is looked up
  ZmqSocket monitor_;
  uint64_t dials_ = 0;
  bool monitor_fresh_ = false;  // libzmq signals nothing before the first attempt to receive
  bool abandoned_ = false;      // the sockets are to be closed
  Inbox inbox_;
  std::vector<LinkEvent> events_;  // not handled yet, oldest first
  bool live_drained_ = true;
  bool up_ = false;
  std::optional<ZmqFrame> of_connection_;  // a frame of the present connection, for comparison
  uint32_t failures_ = 0;                  // to connect, in a row
  std::optional<MonoTime> redial_at_;
  // Whether the next "retried" event means that an attempt failed: the first after a lost
  // connection only says that there will be one.
  bool retry_is_news_ = true;
  std::unique_ptr<Replay> replay_;
};

}  // namespace conductor::stream

#endif  // CONDUCTOR_LIB_STREAM_PUBLISHER_LINK_H_
