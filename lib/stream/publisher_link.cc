#include "lib/stream/publisher_link.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "lib/base/bytes.h"
#include "lib/base/log.h"

namespace conductor::stream {
namespace {

// One turn of a link takes about this long, so that the others of its thread get theirs.
constexpr Duration kTurn = std::chrono::milliseconds(2);

// libzmq announces at once that it will try a lost connection again; without that after so long,
// it has given the peer up, as after a frame above the size limit.
constexpr Duration kGivenUp = std::chrono::seconds(1);

// Frames that libzmq itself may hold before TCP's flow control reaches the publisher; the bytes
// that wait are bounded by the inbox.
constexpr int kLiveHighWaterMark = 1000;

constexpr int kMonitored = ZMQ_EVENT_CONNECT_RETRIED | ZMQ_EVENT_DISCONNECTED |
                           ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL |
                           ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH;

int Milliseconds(Duration duration) {
  const auto count = std::chrono::duration_cast<std::chrono::milliseconds>(duration).count();
  return static_cast<int>(std::clamp<int64_t>(count, 1, 1 << 30));
}

// Whether the address is an IPv6 one; nothing for a name, which may stand for either family.
std::optional<bool> IsIpv6(const std::string& text) {
  const auto endpoint = Endpoint::Parse(text);
  if (!endpoint || !endpoint->is_tcp()) return false;
  in_addr v4{};
  in6_addr v6{};
  if (inet_pton(AF_INET6, endpoint->host.c_str(), &v6) == 1) return true;
  if (inet_pton(AF_INET, endpoint->host.c_str(), &v4) == 1) return false;
  return std::nullopt;
}

StreamOptions WithNames(StreamOptions options, const PublisherAddress& address) {
  if (options.endpoint.empty()) options.endpoint = address.endpoint;
  if (options.replay_endpoint.empty()) options.replay_endpoint = address.replay_endpoint;
  return options;
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

PublisherLink::PublisherLink(void* context, Watcher& watcher, uint64_t id,
                             const Transport::Options& options, PublisherAddress address,
                             StreamOptions stream_options, std::unique_ptr<Consumer> consumer)
    : context_(context),
      watcher_(watcher),
      id_(id),
      options_(options),
      address_(std::move(address)),
      inbox_limit_(std::max<size_t>(stream_options.max_pending_bytes, 1)),
      consumer_(fmt::format("publisher at {}", address_.endpoint), std::move(consumer)),
      stream_(WithNames(std::move(stream_options), address_), consumer_, *this) {}

PublisherLink::~PublisherLink() {
  if (replay_) CloseReplay(replay_->request);
  if (live_) watcher_.Unwatch(live_.fd());
  if (monitor_) watcher_.Unwatch(monitor_.fd());
  // First: libzmq's I/O thread would wait without end to tell an event to a reader that is gone.
  if (live_) zmq_socket_monitor(live_.raw(), nullptr, 0);
}

Status PublisherLink::Open(MonoTime now) {
  const auto family = IsIpv6(address_.endpoint);
  host_is_name_ = !family;
  ipv6_ = family.value_or(false);
  replay_ipv6_ = IsIpv6(address_.replay_endpoint);
  auto live = ZmqSocket::Create(context_, ZMQ_SUB);
  if (!live) return tl::unexpected(live.error());
  auto monitor = ZmqSocket::Create(context_, ZMQ_PAIR);
  if (!monitor) return tl::unexpected(monitor.error());
  // Nor may it wait for a reader that is busy.
  monitor->Set(ZMQ_RCVHWM, 0);
  const std::string monitor_name = fmt::format("inproc://monitor-{}", id_);
  if (zmq_socket_monitor(live->raw(), monitor_name.c_str(), kMonitored) != 0) {
    return Fail(fmt::format("ZeroMQ cannot watch a connection: {}", zmq_strerror(zmq_errno())),
                fmt::format("endpoint '{}'", address_.endpoint));
  }
  live_ = std::move(*live);
  monitor_ = std::move(*monitor);
  if (auto watched = monitor_.Connect(monitor_name); !watched) return watched;
  ConfigureSocket(live_, ipv6_);
  live_.Set(ZMQ_RCVHWM, kLiveHighWaterMark);
  live_.Set(ZMQ_SUBSCRIBE, address_.topic);
  if (auto connected = live_.Connect(address_.endpoint); !connected) return connected;
  watcher_.Watch(live_.fd(), id_, /*monitor=*/false);
  watcher_.Watch(monitor_.fd(), id_, /*monitor=*/true);
  stream_.Start(now);
  return {};
}

void PublisherLink::ConfigureSocket(ZmqSocket& socket, bool ipv6) const {
  socket.Set(ZMQ_IPV6, ipv6 ? 1 : 0);
  socket.Set(ZMQ_RECONNECT_IVL, Milliseconds(options_.reconnect_min));
  socket.Set(ZMQ_RECONNECT_IVL_MAX, Milliseconds(options_.reconnect_max));
  socket.Set(ZMQ_CONNECT_TIMEOUT, Milliseconds(options_.handshake_timeout));
  socket.Set(ZMQ_HANDSHAKE_IVL, Milliseconds(options_.handshake_timeout));
  socket.Set(ZMQ_HEARTBEAT_IVL, Milliseconds(options_.heartbeat_interval));
  socket.Set(ZMQ_HEARTBEAT_TIMEOUT, Milliseconds(2 * options_.heartbeat_interval));
  socket.SetInt64(ZMQ_MAXMSGSIZE, options_.max_message_bytes);
}

bool PublisherLink::Turn(bool monitor) {
  const MonoTime now = MonoNow();
  const MonoTime until = now + kTurn;
  if (redial_at_ && now >= *redial_at_) Redial(/*toggle_family=*/false);
  if (monitor) DrainMonitor();
  // Every frame that came before these events can be received now.
  const size_t ripe = events_.size();
  live_drained_ = inbox_.Fill(live_, inbox_limit_);
  while (!inbox_.messages.empty()) {
    HandleLive(inbox_.Pop());
    if (MonoNow() >= until) break;
  }
  if (inbox_.messages.empty() && live_drained_) HandleEvents(std::min(ripe, events_.size()));
  TurnReplay(MonoNow() + kTurn);
  if (const auto deadline = stream_.NextDeadline()) {
    const MonoTime later = MonoNow();
    if (later >= *deadline) stream_.Tick(later);
  }
  return HasMoreWork();
}

bool PublisherLink::HasMoreWork() const {
  if (!inbox_.messages.empty() || !live_drained_ || !events_.empty()) return true;
  return replay_ && (!replay_->inbox.messages.empty() || replay_->lost || !replay_->polled);
}

std::optional<MonoTime> PublisherLink::Deadline() const {
  std::optional<MonoTime> next = stream_.NextDeadline();
  if (redial_at_ && (!next || *redial_at_ < *next)) next = redial_at_;
  return next;
}

void PublisherLink::HandleLive(const ZmqMessage& message) {
  const void* connection = message.frames.front().connection();
  const bool same = of_connection_ && of_connection_->connection() == connection;
  if (!same) {
    const bool replaced = of_connection_.has_value();
    const uint64_t connects = stream_.counters().connects;
    DrainMonitor();
    HandleEvents(events_.size());
    // A straggler: libzmq tells that a connection broke just before it hands over the last frames.
    // They are lost with the connection.
    if (!up_ && connection) return;
    if (replaced && stream_.counters().connects == connects) {
      // Connected twice within one turn: the events went with the first of them.
      stream_.Disconnected(MonoNow());
      stream_.Connected(MonoNow());
    }
    of_connection_ = message.frames[message.frames.size() > 1 ? 1 : 0];  // the small one
  }
  std::array<std::string_view, ZmqMessage::kMostFrames> frames;
  for (size_t i = 0; i < message.frames.size(); ++i) frames[i] = message.frames[i].view();
  stream_.LiveMessage(MonoNow(), {frames.data(), message.frames.size()});
}

void PublisherLink::DrainMonitor() {
  ZmqMessage message;
  while (monitor_.Receive(message)) {
    const std::string_view bytes = message.frames.front().view();
    uint16_t event = 0;
    uint32_t value = 0;
    if (bytes.size() < sizeof event + sizeof value) continue;
    std::memcpy(&event, bytes.data(), sizeof event);
    std::memcpy(&value, bytes.data() + sizeof event, sizeof value);
    events_.push_back({event, static_cast<int>(value)});
  }
}

void PublisherLink::HandleEvents(size_t count) {
  for (size_t i = 0; i < count; ++i) HandleEvent(events_[i]);
  events_.erase(events_.begin(), events_.begin() + static_cast<std::ptrdiff_t>(count));
}

void PublisherLink::HandleEvent(const LinkEvent& event) {
  const MonoTime now = MonoNow();
  switch (event.event) {
    case ZMQ_EVENT_HANDSHAKE_SUCCEEDED:
      up_ = true;
      failures_ = 0;
      retry_is_news_ = true;
      redial_at_.reset();
      of_connection_.reset();
      stream_.Connected(now);
      break;
    case ZMQ_EVENT_DISCONNECTED:
      of_connection_.reset();
      if (std::exchange(up_, false)) {
        retry_is_news_ = false;
        redial_at_ = now + kGivenUp;
        stream_.Disconnected(now);
      } else if (!redial_at_) {
        HandshakeFailed("closed the connection before ZeroMQ's handshake was done");
      }
      break;
    case ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL:
      HandshakeFailed("answered with bytes that are no ZeroMQ handshake");
      break;
    case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH:
      HandshakeFailed("refused ZeroMQ's handshake: it demands authentication");
      break;
    case ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL:
      HandshakeFailed(
          fmt::format("accepted the connection but did not finish ZeroMQ's handshake "
                      "(within {})",
                      FormatDuration(options_.handshake_timeout)));
      break;
    case ZMQ_EVENT_CONNECT_RETRIED:
      if (up_) break;
      if (!std::exchange(retry_is_news_, true)) {
        redial_at_.reset();  // libzmq goes on by itself
        break;
      }
      if (redial_at_) break;
      stream_.ConnectFailed(now, "unreachable",
                            fmt::format("cannot connect to {}; it is tried again. Does the engine "
                                        "run there, with KV events enabled on that port?",
                                        address_.endpoint));
      ++failures_;
      if (host_is_name_) Redial(/*toggle_family=*/true);
      break;
    default:
      break;
  }
}

// libzmq gives a peer up after a protocol error and hammers one that hangs up, so the next attempt
// is made here, after a while.
void PublisherLink::HandshakeFailed(const std::string& why) {
  const MonoTime now = MonoNow();
  up_ = false;
  stream_.Disconnected(now);
  stream_.ConnectFailed(now, "not_zmtp",
                        fmt::format("the peer at {} does not speak ZeroMQ: it {}. Is that the "
                                    "port of the engine's KV events?",
                                    address_.endpoint, why));
  live_.Disconnect(address_.endpoint);
  const uint32_t doublings = std::min<uint32_t>(failures_++, 8);
  redial_at_ = now + std::min<Duration>(options_.reconnect_max,
                                        std::chrono::milliseconds(250) * (1 << doublings));
}

// A name may stand for addresses of both families, of which libzmq tries one: an engine that
// listens on IPv4 alone is not found through the IPv6 address of "localhost".
void PublisherLink::Redial(bool toggle_family) {
  live_.Disconnect(address_.endpoint);
  if (toggle_family) {
    ipv6_ = !ipv6_;
    const uint32_t doublings = std::min<uint32_t>(failures_ / 2, 8);
    redial_at_ = MonoNow() + std::min<Duration>(options_.reconnect_max,
                                                options_.reconnect_min * (1 << doublings));
    return;
  }
  redial_at_.reset();
  retry_is_news_ = true;
  live_.Set(ZMQ_IPV6, ipv6_ ? 1 : 0);
  if (auto connected = live_.Connect(address_.endpoint); !connected) {
    stream_.ConnectFailed(MonoNow(), "unreachable", connected.error().Message());
    redial_at_ = MonoNow() + options_.reconnect_max;
  }
}

void PublisherLink::OpenReplay(uint64_t request, uint64_t from) {
  replay_ = std::make_unique<Replay>();
  replay_->request = request;
  auto socket = ZmqSocket::Create(context_, ZMQ_DEALER);
  if (!socket) {
    log::Warn("{}: no replay request is possible: {}", address_.replay_endpoint,
              socket.error().Message());
    replay_->lost = true;
    return;
  }
  ConfigureSocket(*socket, replay_ipv6_.value_or(ipv6_));
  socket->Set(ZMQ_RCVHWM, 0);  // a ROUTER drops what does not fit
  const auto number = StoreBigEndian64(from);
  const std::array<std::string_view, 2> frames = {std::string_view(),
                                                  std::string_view(number.data(), number.size())};
  const auto connected = socket->Connect(address_.replay_endpoint);
  if (!connected || !socket->Send(frames)) {
    replay_->lost = true;
    return;
  }
  replay_->socket = std::move(*socket);
  replay_->fd = replay_->socket.fd();
  watcher_.Watch(replay_->fd, id_, /*monitor=*/false);
}

void PublisherLink::CloseReplay(uint64_t request) {
  if (!replay_ || replay_->request != request) return;
  if (replay_->socket) watcher_.Unwatch(replay_->fd);
  replay_.reset();
}

void PublisherLink::TurnReplay(MonoTime until) {
  if (!replay_) return;
  replay_->polled = true;
  if (replay_->socket && !replay_->inbox.Fill(replay_->socket, options_.max_replay_bytes)) {
    // It comes faster than it can be applied: the rest is asked for when this much is done.
    watcher_.Unwatch(replay_->fd);
    replay_->socket = ZmqSocket();
    replay_->lost = true;
  }
  const uint64_t request = replay_->request;
  while (replay_ && replay_->request == request && !replay_->inbox.messages.empty()) {
    const ZmqMessage message = replay_->inbox.Pop();
    std::array<std::string_view, ZmqMessage::kMostFrames> frames;
    for (size_t i = 0; i < message.frames.size(); ++i) frames[i] = message.frames[i].view();
    stream_.ReplayMessage(MonoNow(), request, {frames.data(), message.frames.size()});
    if (MonoNow() >= until) return;
  }
  if (replay_ && replay_->request == request && replay_->lost) {
    replay_->lost = false;
    stream_.ReplayLost(MonoNow(), request);
  }
}

}  // namespace conductor::stream
