#include "lib/client/zmq_transport.h"

#include <fmt/format.h>
#include <zmq.h>

#include <algorithm>
#include <array>
#include <utility>

#include "lib/base/bytes.h"
#include "lib/base/number.h"
#include "lib/stream/zmq_socket.h"

namespace conductor::client {
namespace {

using stream::ZmqMessage;
using stream::ZmqSocket;

Failure NotAsked(std::string what) { return Failure{{std::move(what), {}, {}}, false}; }
Failure Asked(std::string what) { return Failure{{std::move(what), {}, {}}, true}; }

class ZmqTransport final : public Transport {
 public:
  explicit ZmqTransport(const ConductorUrl& url) : address_(url.text), context_(zmq_ctx_new()) {}
  ~ZmqTransport() override {
    socket_ = ZmqSocket();
    zmq_ctx_term(context_);
  }
  ZmqTransport(const ZmqTransport&) = delete;
  ZmqTransport& operator=(const ZmqTransport&) = delete;

  [[nodiscard]] bool Carries(const Request& request) const override {
    return request.method == "POST" && request.form == Form::kMsgpack &&
           (request.path == "/v1/query" || request.path == "/v1/score");
  }

  [[nodiscard]] tl::expected<Reply, Failure> Exchange(const Request& request,
                                                      const Deadlines& deadlines) override {
    auto reply = ExchangeOn(request, deadlines);
    // What was asked and not answered would be sent by a socket that connects later.
    if (!reply) socket_ = ZmqSocket();
    return reply;
  }

 private:
  [[nodiscard]] tl::expected<Reply, Failure> ExchangeOn(const Request& request,
                                                        const Deadlines& deadlines) {
    if (!socket_) {
      if (auto opened = Open(); !opened) return tl::unexpected(NotAsked(opened.error().what));
    }
    // With ZMQ_IMMEDIATE there is room only where there is a connection.
    if (!Wait(ZMQ_POLLOUT, deadlines.connect)) {
      return tl::unexpected(NotAsked("no connection in time"));
    }
    const auto number = StoreBigEndian64(++last_id_);
    const std::string_view id(number.data(), number.size());
    const std::array<std::string_view, 3> frames = {id, request.path, request.body};
    if (!socket_.Send(frames)) {
      return tl::unexpected(
          NotAsked(fmt::format("ZeroMQ cannot send: {}", zmq_strerror(zmq_errno()))));
    }
    ZmqMessage message;
    while (Wait(ZMQ_POLLIN, deadlines.whole)) {
      while (socket_.Receive(message)) {
        if (!message.frames.empty() && message.frames[0].view() == id) return ReadReply(message);
      }
    }
    return tl::unexpected(Asked("no whole answer in time"));
  }

  [[nodiscard]] static tl::expected<Reply, Failure> ReadReply(const ZmqMessage& message) {
    if (message.frames.size() != 3) {
      return tl::unexpected(Asked(fmt::format(
          "its answer has {} frames (expected id, status, body)", message.frames.size())));
    }
    const auto status = ParseNumber(message.frames[1].view(), "a status", 100, 599);
    if (!status) return tl::unexpected(Asked("its answer has no status: " + status.error().what));
    return Reply{static_cast<int>(*status), Form::kMsgpack, std::string(message.frames[2].view())};
  }

  Status Open() {
    auto created = ZmqSocket::Create(context_, ZMQ_DEALER);
    if (!created) return tl::unexpected(created.error());
    socket_ = std::move(*created);
    socket_.Set(ZMQ_IMMEDIATE, 1);
    socket_.SetInt64(ZMQ_MAXMSGSIZE, kMostAnswerBytes);
    if (address_.find('[') != std::string::npos) socket_.Set(ZMQ_IPV6, 1);
    return socket_.Connect(address_);
  }

  // Until the socket can do it; false when `until` comes first.
  [[nodiscard]] bool Wait(short events, MonoTime until) const {  // NOLINT: libzmq's type
    for (;;) {
      // Rounded up, or the last part of a millisecond would be spent in turning.
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - MonoNow()).count();
      zmq_pollitem_t item{socket_.raw(), 0, events, 0};
      const int ready = zmq_poll(&item, 1, std::max<long>(left, 0));  // NOLINT: libzmq's type
      if (ready > 0) return true;
      if (MonoNow() >= until) return false;
    }
  }

  const std::string address_;
  void* context_;
  ZmqSocket socket_;
  uint64_t last_id_ = 0;
};

}  // namespace

std::unique_ptr<Transport> MakeZmqTransport(const ConductorUrl& url) {
  return std::make_unique<ZmqTransport>(url);
}

}  // namespace conductor::client
