#ifndef CONDUCTOR_LIB_STREAM_ZMQ_SOCKET_H_
#define CONDUCTOR_LIB_STREAM_ZMQ_SOCKET_H_

#include <zmq.h>

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lib/base/result.h"

namespace conductor::stream {

// One frame, owned.
class ZmqFrame {
 public:
  ZmqFrame() { zmq_msg_init(&message_); }
  ~ZmqFrame() { zmq_msg_close(&message_); }
  ZmqFrame(ZmqFrame&& other) noexcept : ZmqFrame() { zmq_msg_move(&message_, &other.message_); }
  ZmqFrame& operator=(ZmqFrame&& other) noexcept {
    zmq_msg_move(&message_, &other.message_);
    return *this;
  }
  // Another reference to the same bytes and the same connection.
  ZmqFrame(const ZmqFrame& other) : ZmqFrame() {
    zmq_msg_copy(&message_, const_cast<zmq_msg_t*>(&other.message_));
  }
  ZmqFrame& operator=(const ZmqFrame& other) {
    zmq_msg_copy(&message_, const_cast<zmq_msg_t*>(&other.message_));
    return *this;
  }

  // Valid until this frame is moved from or destroyed.
  [[nodiscard]] std::string_view view() const {
    auto* message = const_cast<zmq_msg_t*>(&message_);  // libzmq's getters are not const
    return {static_cast<const char*>(zmq_msg_data(message)), zmq_msg_size(message)};
  }

  // What connection the frame came through: equal for two frames that are alive at the same time
  // exactly when they came through the same one. Null where libzmq does not say (inproc, peers
  // older than ZMTP 3). libzmq keeps one property table for each connection and every frame
  // refers to it.
  [[nodiscard]] const void* connection() const { return zmq_msg_gets(&message_, "Socket-Type"); }

  // The numeric address of its peer; empty where there is none (ipc, inproc).
  [[nodiscard]] std::string_view peer_address() const {
    const char* address = zmq_msg_gets(&message_, "Peer-Address");
    return address ? address : std::string_view();
  }
  // The file descriptor of its connection, as monitors name it; -1 where libzmq does not say.
  [[nodiscard]] int source_fd() const { return zmq_msg_get(&message_, ZMQ_SRCFD); }

  [[nodiscard]] zmq_msg_t* raw() { return &message_; }

 private:
  zmq_msg_t message_;
};

// One message of any number of frames; frames beyond kMostFrames are not kept.
struct ZmqMessage {
  static constexpr size_t kMostFrames = 8;
  std::vector<ZmqFrame> frames;
  size_t bytes = 0;  // memory, roughly
};

// A libzmq socket that belongs to the thread that uses it. Closed without lingering.
class ZmqSocket {
 public:
  ZmqSocket() = default;
  ~ZmqSocket() { Close(); }
  ZmqSocket(ZmqSocket&& other) noexcept : socket_(std::exchange(other.socket_, nullptr)) {}
  ZmqSocket& operator=(ZmqSocket&& other) noexcept {
    if (this != &other) {
      Close();
      socket_ = std::exchange(other.socket_, nullptr);
    }
    return *this;
  }

  [[nodiscard]] static Result<ZmqSocket> Create(void* context, int type);

  // False when libzmq refuses the value.
  bool Set(int option, int value);
  bool Set(int option, std::string_view value);
  bool SetInt64(int option, int64_t value);

  // Begins to connect; only an address that can never work is an error. A host name would be
  // looked up on the I/O threads of all sockets: see Resolver.
  [[nodiscard]] Status Connect(const std::string& endpoint);

  // Never blocks. False when the message could not be queued.
  [[nodiscard]] bool Send(std::span<const std::string_view> frames);
  // The same with one frame more, which is handed over as it is where copying it would cost more.
  [[nodiscard]] bool Send(std::span<const std::string_view> frames, std::string last);

  // Never blocks. False when there is no message now.
  [[nodiscard]] bool Receive(ZmqMessage& message);

  // Readable when something may have changed; then receive until there is nothing more.
  [[nodiscard]] int fd() const;

  [[nodiscard]] void* raw() const { return socket_; }
  explicit operator bool() const { return socket_ != nullptr; }

 private:
  void Close();
  [[nodiscard]] bool SendFrames(std::span<const std::string_view> frames, bool more);

  void* socket_ = nullptr;
};

}  // namespace conductor::stream

#endif  // CONDUCTOR_LIB_STREAM_ZMQ_SOCKET_H_
