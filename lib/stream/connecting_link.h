#ifndef CONDUCTOR_LIB_STREAM_CONNECTING_LINK_H_
#define CONDUCTOR_LIB_STREAM_CONNECTING_LINK_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "lib/base/clock.h"
#include "lib/base/endpoint.h"
#include "lib/base/result.h"
#include "lib/stream/live_link.h"
#include "lib/stream/peer_socket.h"
#include "lib/stream/publisher_stream.h"
#include "lib/stream/replay_link.h"
#include "lib/stream/resolver.h"
#include "lib/stream/transport.h"
#include "lib/stream/zmq_socket.h"

namespace conductor::stream {

// A SUB socket that connects to one publisher.
//
// The order of frames and connection changes matters (a frame of a restarted engine must not be
// taken for the next one of its former life) but libzmq tells them through two sockets. Two facts
// put them together: the event of a connection's handshake is visible before any of its frames,
// and each frame knows its connection.
//
// libzmq is given numeric addresses only. A name is looked up anew for every connection, for its
// addresses move, and they are tried in turn; each try has sockets of its own, so that nothing that
// is told of the former one is taken for the present one's.
class ConnectingLink : public LiveLink {
 public:
  // All references must outlive the link. `task` is what `watcher` is told.
  ConnectingLink(void* context, Resolver& resolver, Watcher& watcher, uint64_t task,
                 const Transport::Options& options, const PublisherAddress& address,
                 size_t inbox_limit, PublisherStream& stream, ReplayLink& replay);
  ~ConnectingLink() override;

  [[nodiscard]] Status Open() override;
  void Begin() override;
  void Turn(bool monitor, MonoTime until) override;
  [[nodiscard]] bool HasMoreWork() const override;
  [[nodiscard]] std::optional<MonoTime> Deadline() const override;

 private:
  [[nodiscard]] Status OpenLive(const std::string& endpoint);
  void CloseLive();
  void Dial();
  void LookUp();
  void TurnLookup();
  void CannotResolve(const std::string& why);
  [[nodiscard]] Duration Backoff(Duration least) const;
  [[nodiscard]] std::string Shown() const;
  [[nodiscard]] bool RedialIsDue() const { return redial_at_ && MonoNow() >= *redial_at_; }
  void HandleEvents(size_t count);
  void HandleEvent(const SocketEvent& event);
  void HandleLive(const ZmqMessage& message);
  void HandshakeFailed(const std::string& why);

  void* const context_;
  Resolver& resolver_;
  Watcher& watcher_;
  const uint64_t task_;
  const Transport::Options& options_;
  const PublisherAddress address_;
  const size_t inbox_limit_;
  PublisherStream& stream_;
  ReplayLink& replay_;
  const std::optional<Endpoint> name_;  // nothing when libzmq can be given the endpoint as it is

  std::shared_ptr<Lookup> lookup_;  // of name_'s host
  std::optional<MonoTime> lookup_late_at_;
  std::deque<std::string> untried_;  // addresses that it found
  std::string live_address_;         // the one that live_ connects to

  MonitoredSocket live_;  // null while a name is looked up
  uint64_t dials_ = 0;
  bool monitor_fresh_ = false;  // libzmq signals nothing before the first attempt to receive
  bool abandoned_ = false;      // the sockets are to be closed
  Inbox inbox_;
  std::vector<SocketEvent> events_;  // not handled yet, oldest first
  bool live_drained_ = true;
  bool up_ = false;
  std::optional<ZmqFrame> of_connection_;  // a frame of the present connection, for comparison
  uint32_t failures_ = 0;                  // to connect, in a row
  std::optional<MonoTime> redial_at_;
  // Whether the next "retried" event means that an attempt failed: the first after a lost
  // connection only says that there will be one.
  bool retry_is_news_ = true;
};

}  // namespace conductor::stream

#endif  // CONDUCTOR_LIB_STREAM_CONNECTING_LINK_H_
