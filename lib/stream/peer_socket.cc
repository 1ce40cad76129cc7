#include "lib/stream/peer_socket.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

namespace conductor::stream {
namespace {

bool IsIpv4(const std::string& host) {
  in_addr address{};
  return inet_pton(AF_INET, host.c_str(), &address) == 1;
}

}  // namespace

bool Inbox::Fill(ZmqSocket& socket, size_t limit) {
  while (bytes < limit) {
    ZmqMessage message;
    if (!socket.Receive(message)) return true;
    bytes += message.bytes;
    messages.push_back(std::move(message));
  }
  return false;
}

ZmqMessage Inbox::Pop() {
  ZmqMessage message = std::move(messages.front());
  messages.pop_front();
  bytes -= message.bytes;
  return message;
}

FrameViews::FrameViews(const ZmqMessage& message) : count_(message.frames.size()) {
  for (size_t i = 0; i < count_; ++i) views_[i] = message.frames[i].view();
}

Result<MonitoredSocket> MonitoredSocket::Create(void* context, int type, int events,
                                                const std::string& name) {
  auto socket = ZmqSocket::Create(context, type);
  if (!socket) return tl::unexpected(socket.error());
  auto monitor = ZmqSocket::Create(context, ZMQ_PAIR);
  if (!monitor) return tl::unexpected(monitor.error());
  monitor->Set(ZMQ_RCVHWM, 0);  // nor may it wait for a reader that is busy
  const std::string address = "inproc://" + name;
  if (zmq_socket_monitor(socket->raw(), address.c_str(), events) != 0) {
    return Fail(fmt::format("ZeroMQ cannot watch connections: {}", zmq_strerror(zmq_errno())));
  }
  MonitoredSocket both;
  both.socket_ = std::move(*socket);
  both.monitor_ = std::move(*monitor);
  if (auto connected = both.monitor_.Connect(address); !connected) {
    return tl::unexpected(connected.error());
  }
  return both;
}

void MonitoredSocket::Close() {
  if (!socket_) return;
  zmq_socket_monitor(socket_.raw(), nullptr, 0);
  socket_ = ZmqSocket();
  monitor_ = ZmqSocket();
}

void MonitoredSocket::TakeEvents(std::vector<SocketEvent>& events) {
  ZmqMessage message;
  while (monitor_.Receive(message)) {
    const std::string_view bytes = message.frames.front().view();
    uint16_t event = 0;
    uint32_t value = 0;
    if (bytes.size() < sizeof event + sizeof value) continue;
    std::memcpy(&event, bytes.data(), sizeof event);
    std::memcpy(&value, bytes.data() + sizeof event, sizeof value);
    events.push_back({event, static_cast<int>(value)});
  }
}

void ConfigureSocket(ZmqSocket& socket, const std::string& endpoint,
                     const Transport::Options& options) {
  socket.Set(ZMQ_IPV6, IsIpv6(HostOf(endpoint)) ? 1 : 0);
  socket.Set(ZMQ_RECONNECT_IVL, Milliseconds(options.reconnect_min));
  socket.Set(ZMQ_RECONNECT_IVL_MAX, Milliseconds(options.reconnect_max));
  socket.Set(ZMQ_CONNECT_TIMEOUT, Milliseconds(options.handshake_timeout));
  socket.Set(ZMQ_HANDSHAKE_IVL, Milliseconds(options.handshake_timeout));
  socket.Set(ZMQ_HEARTBEAT_IVL, Milliseconds(options.heartbeat_interval));
  socket.Set(ZMQ_HEARTBEAT_TIMEOUT, Milliseconds(2 * options.heartbeat_interval));
  socket.SetInt64(ZMQ_MAXMSGSIZE, options.max_message_bytes);
}

int Milliseconds(Duration duration) {
  const auto count = std::chrono::duration_cast<std::chrono::milliseconds>(duration).count();
  return static_cast<int>(std::clamp<int64_t>(count, 1, 1 << 30));
}

bool IsIpv6(const std::string& host) { return host.find(':') != std::string::npos; }

bool IsNumeric(const std::string& host) { return IsIpv4(host) || IsIpv6(host); }

std::optional<std::string> CanonicalAddress(std::string_view address) {
  if (address.size() >= 2 && address.front() == '[' && address.back() == ']') {
    address = address.substr(1, address.size() - 2);
  }
  const size_t percent = address.find('%');
  const std::string host(address.substr(0, percent));
  std::array<char, INET6_ADDRSTRLEN> text{};
  in6_addr wide{};
  if (inet_pton(AF_INET6, host.c_str(), &wide) == 1) {
    if (IN6_IS_ADDR_V4MAPPED(&wide)) {
      return inet_ntop(AF_INET, wide.s6_addr + 12, text.data(), text.size());
    }
    std::string canonical = inet_ntop(AF_INET6, &wide, text.data(), text.size());
    if (percent != std::string_view::npos) canonical += address.substr(percent);
    return canonical;
  }
  if (percent == std::string_view::npos && IsIpv4(host)) return host;
  return std::nullopt;
}

std::string HostOf(const std::string& text) {
  const auto endpoint = Endpoint::Parse(text);
  return endpoint ? endpoint->host : std::string();
}

std::optional<Endpoint> NamedEndpoint(const std::string& text) {
  auto endpoint = Endpoint::Parse(text);
  if (!endpoint || !endpoint->is_tcp() || IsNumeric(endpoint->host)) return std::nullopt;
  return std::move(*endpoint);
}

std::string AtAddress(Endpoint endpoint, std::string address) {
  endpoint.host = std::move(address);
  return endpoint.ToString();
}

}  // namespace conductor::stream
