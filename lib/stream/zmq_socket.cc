#include "lib/stream/zmq_socket.h"

#include <fmt/format.h>

#include <memory>

namespace conductor::stream {
namespace {

// A text that libzmq has sent, on a thread of its own. It has a name for scripts/tsan.supp.
void EndSentText(void* /*data*/, void* text) { delete static_cast<std::string*>(text); }

}  // namespace

Result<ZmqSocket> ZmqSocket::Create(void* context, int type) {
  ZmqSocket socket;
  socket.socket_ = zmq_socket(context, type);
  if (!socket) {
    return Fail(fmt::format("no more ZeroMQ sockets can be opened: {}", zmq_strerror(zmq_errno())),
                {}, "fewer publishers, or a higher limit of open files (ulimit -n)");
  }
  socket.Set(ZMQ_LINGER, 0);
  return socket;
}

bool ZmqSocket::Set(int option, int value) {
  return zmq_setsockopt(socket_, option, &value, sizeof value) == 0;
}

bool ZmqSocket::Set(int option, std::string_view value) {
  return zmq_setsockopt(socket_, option, value.data(), value.size()) == 0;
}

bool ZmqSocket::SetInt64(int option, int64_t value) {
  return zmq_setsockopt(socket_, option, &value, sizeof value) == 0;
}

Status ZmqSocket::Connect(const std::string& endpoint) {
  if (zmq_connect(socket_, endpoint.c_str()) == 0) return {};
  return Fail(fmt::format("ZeroMQ cannot connect: {}", zmq_strerror(zmq_errno())),
              fmt::format("endpoint '{}'", endpoint), "tcp://HOST:PORT or ipc://PATH");
}

bool ZmqSocket::SendFrames(std::span<const std::string_view> frames, bool more) {
  for (size_t i = 0; i < frames.size(); ++i) {
    const int flag = more || i + 1 < frames.size() ? ZMQ_SNDMORE : 0;
    const auto& frame = frames[i];
    if (zmq_send(socket_, frame.data(), frame.size(), ZMQ_DONTWAIT | flag) < 0) return false;
  }
  return true;
}

bool ZmqSocket::Send(std::span<const std::string_view> frames) { return SendFrames(frames, false); }

bool ZmqSocket::Send(std::span<const std::string_view> frames, std::string last) {
  if (!SendFrames(frames, true)) return false;
  constexpr size_t kCopied = 2048;
  if (last.size() < kCopied) {
    return zmq_send(socket_, last.data(), last.size(), ZMQ_DONTWAIT) >= 0;
  }
  auto owned = std::make_unique<std::string>(std::move(last));
  ZmqFrame frame;
  if (zmq_msg_init_data(frame.raw(), owned->data(), owned->size(), EndSentText, owned.get()) != 0) {
    return false;
  }
  owned.release();  // the frame's now
  // What is not sent ends with it.
  return zmq_msg_send(frame.raw(), socket_, ZMQ_DONTWAIT) >= 0;
}

bool ZmqSocket::Receive(ZmqMessage& message) {
  message.frames.clear();
  message.bytes = 0;
  for (;;) {
    ZmqFrame frame;
    if (zmq_msg_recv(frame.raw(), socket_, ZMQ_DONTWAIT) < 0) return false;
    const bool more = zmq_msg_more(frame.raw()) != 0;
    if (message.frames.size() < ZmqMessage::kMostFrames) {
      message.bytes += frame.view().size() + sizeof(ZmqFrame);
      message.frames.push_back(std::move(frame));
    }
    if (!more) return true;
  }
}

int ZmqSocket::fd() const {
  int fd = -1;
  size_t size = sizeof fd;
  zmq_getsockopt(socket_, ZMQ_FD, &fd, &size);
  return fd;
}

void ZmqSocket::Close() {
  if (socket_) zmq_close(std::exchange(socket_, nullptr));
}

}  // namespace conductor::stream
