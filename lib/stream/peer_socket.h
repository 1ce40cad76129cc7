#ifndef CONDUCTOR_LIB_STREAM_PEER_SOCKET_H_
#define CONDUCTOR_LIB_STREAM_PEER_SOCKET_H_

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lib/base/clock.h"
#include "lib/base/endpoint.h"
#include "lib/base/result.h"
#include "lib/stream/transport.h"
#include "lib/stream/zmq_socket.h"

namespace conductor::stream {

// What all sockets to publishers have in common.

// Where file descriptors are watched, and who takes turns for them.
class Watcher {
 public:
  virtual ~Watcher() = default;
  // `task` takes a turn whenever the descriptor is readable.
  virtual void Watch(int fd, uint64_t task, bool monitor) = 0;
  virtual void Unwatch(int fd) = 0;
  // `task` takes a turn soon.
  virtual void Ready(uint64_t task) = 0;
};

// Something that takes turns on an ingest thread.
class Task {
 public:
  virtual ~Task() = default;
  // One bounded piece of work. `monitor`: a descriptor that was watched as a monitor is readable.
  // True when there is more to do at once. The first turn has `monitor` set: libzmq signals
  // nothing before the first attempt to receive.
  virtual bool Turn(bool monitor) = 0;
  // When Turn has something to do although no descriptor is readable.
  [[nodiscard]] virtual std::optional<MonoTime> Deadline() const = 0;
};

// A turn takes about this long, so that the others of the thread get theirs.
inline constexpr Duration kTurn = std::chrono::milliseconds(2);

// Messages that were taken from a socket and wait for their turn, bounded in bytes.
struct Inbox {
  std::deque<ZmqMessage> messages;
  size_t bytes = 0;

  // Takes what the socket has, up to `limit` bytes. True when the socket is empty now.
  bool Fill(ZmqSocket& socket, size_t limit);
  [[nodiscard]] ZmqMessage Pop();
};

// The views of a message's frames, for the stream. Valid as long as the message is.
class FrameViews {
 public:
  explicit FrameViews(const ZmqMessage& message);
  [[nodiscard]] std::span<const std::string_view> get() const { return {views_.data(), count_}; }

 private:
  std::array<std::string_view, ZmqMessage::kMostFrames> views_;
  size_t count_ = 0;
};

// What a socket's monitor tells.
struct SocketEvent {
  int event = 0;  // ZMQ_EVENT_...
  int value = 0;
};

// A socket and the monitor of its connections. libzmq's I/O thread would wait without end to tell
// an event to a reader that is gone: hence the destructor's order, which this class is for.
class MonitoredSocket {
 public:
  MonitoredSocket() = default;
  ~MonitoredSocket() { Close(); }
  MonitoredSocket(MonitoredSocket&& other) noexcept = default;
  MonitoredSocket& operator=(MonitoredSocket&& other) noexcept {
    Close();
    socket_ = std::move(other.socket_);
    monitor_ = std::move(other.monitor_);
    return *this;
  }

  // `events`: of ZMQ_EVENT_... `name` is this monitor's alone within the process.
  [[nodiscard]] static Result<MonitoredSocket> Create(void* context, int type, int events,
                                                      const std::string& name);

  // Appends what the monitor has.
  void TakeEvents(std::vector<SocketEvent>& events);

  [[nodiscard]] ZmqSocket& socket() { return socket_; }
  [[nodiscard]] int fd() const { return socket_.fd(); }
  [[nodiscard]] int monitor_fd() const { return monitor_.fd(); }
  [[nodiscard]] void* monitor() const { return monitor_.raw(); }  // for zmq_poll()
  explicit operator bool() const { return static_cast<bool>(socket_); }

 private:
  void Close();

  ZmqSocket socket_;
  ZmqSocket monitor_;
};

// Limits and times of a socket that will be connected, or bound, to `endpoint`.
void ConfigureSocket(ZmqSocket& socket, const std::string& endpoint,
                     const Transport::Options& options);

[[nodiscard]] int Milliseconds(Duration duration);

// With or without a zone: "fe80::1%eth0".
[[nodiscard]] bool IsIpv6(const std::string& host);
// An IPv4 or IPv6 address.
[[nodiscard]] bool IsNumeric(const std::string& host);
// The one spelling of a numeric address; an IPv4 address that is mapped into IPv6 is the former.
// Nothing for what is none.
[[nodiscard]] std::optional<std::string> CanonicalAddress(std::string_view address);
// Empty for what is no endpoint.
[[nodiscard]] std::string HostOf(const std::string& endpoint);
// The endpoint when its host is a name.
[[nodiscard]] std::optional<Endpoint> NamedEndpoint(const std::string& text);
// Of a name's endpoint, with one of its addresses.
[[nodiscard]] std::string AtAddress(Endpoint endpoint, std::string address);

}  // namespace conductor::stream

#endif  // CONDUCTOR_LIB_STREAM_PEER_SOCKET_H_
