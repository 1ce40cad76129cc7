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

bool IsIpv4(const std::string& host) {
  in_addr address{};
  return inet_pton(AF_INET, host.c_str(), &address) == 1;
}

// With or without a zone: "fe80::1%eth0".
bool IsIpv6(const std::string& host) { return host.find(':') != std::string::npos; }

// The endpoint when its host is a name.
std::optional<Endpoint> NamedEndpoint(const std::string& text) {
  auto endpoint = Endpoint::Parse(text);
  if (!endpoint || !endpoint->is_tcp()) return std::nullopt;
  if (IsIpv4(endpoint->host) || IsIpv6(endpoint->host)) return std::nullopt;
  return std::move(*endpoint);
}

std::string HostOf(const std::string& text) {
  const auto endpoint = Endpoint::Parse(text);
  return endpoint ? endpoint->host : std::string();
}

// Of a name's endpoint, with one of its addresses.
std::string AtAddress(Endpoint endpoint, std::string address) {
  endpoint.host = std::move(address);
  return endpoint.ToString();
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

PublisherLink::PublisherLink(void* context, Resolver& resolver, Watcher& watcher, uint64_t id,
                             const Transport::Options& options, PublisherAddress address,
                             StreamOptions stream_options, std::unique_ptr<Consumer> consumer)
    : context_(context),
      resolver_(resolver),
      watcher_(watcher),
      id_(id),
      options_(options),
      address_(std::move(address)),
      inbox_limit_(std::max<size_t>(stream_options.max_pending_bytes, 1)),
      replay_timeout_(stream_options.replay_timeout),
      live_name_(NamedEndpoint(address_.endpoint)),
      replay_name_(NamedEndpoint(address_.replay_endpoint)),
      consumer_(fmt::format("publisher at {}", address_.endpoint), std::move(consumer)),
      stream_(WithNames(std::move(stream_options), address_), consumer_, *this) {}

PublisherLink::~PublisherLink() {
  if (replay_) CloseReplay(replay_->request);
  if (lookup_) watcher_.Unwatch(lookup_->fd());
  CloseLive();
}

Status PublisherLink::Open(MonoTime now) {
  if (!live_name_) {
    if (auto opened = OpenLive(address_.endpoint); !opened) return opened;
  }
  stream_.Start(now);
  if (live_name_) Dial();
  return {};
}

Status PublisherLink::OpenLive(const std::string& endpoint) {
  auto live = ZmqSocket::Create(context_, ZMQ_SUB);
  if (!live) return tl::unexpected(live.error());
  auto monitor = ZmqSocket::Create(context_, ZMQ_PAIR);
  if (!monitor) return tl::unexpected(monitor.error());
  // Nor may it wait for a reader that is busy.
  monitor->Set(ZMQ_RCVHWM, 0);
  const std::string monitor_name = fmt::format("inproc://monitor-{}-{}", id_, ++dials_);
  if (zmq_socket_monitor(live->raw(), monitor_name.c_str(), kMonitored) != 0) {
    return Fail(fmt::format("ZeroMQ cannot watch a connection: {}", zmq_strerror(zmq_errno())),
                fmt::format("endpoint '{}'", endpoint));
  }
  live_ = std::move(*live);
  monitor_ = std::move(*monitor);
  watcher_.Watch(live_.fd(), id_, /*monitor=*/false);
  watcher_.Watch(monitor_.fd(), id_, /*monitor=*/true);
  ConfigureSocket(live_, endpoint);
  live_.Set(ZMQ_RCVHWM, kLiveHighWaterMark);
  live_.Set(ZMQ_SUBSCRIBE, address_.topic);
  auto opened = monitor_.Connect(monitor_name);
  if (opened) opened = live_.Connect(endpoint);
  if (!opened) {
    CloseLive();
    return opened;
  }
  live_drained_ = false;
  monitor_fresh_ = true;
  retry_is_news_ = true;
  return {};
}

// What it had received and not handed on goes: it is lost with the connection.
void PublisherLink::CloseLive() {
  abandoned_ = false;
  monitor_fresh_ = false;
  live_drained_ = true;
  of_connection_.reset();
  events_.clear();
  inbox_ = {};
  if (!live_) return;
  watcher_.Unwatch(live_.fd());
  watcher_.Unwatch(monitor_.fd());
  // First: libzmq's I/O thread would wait without end to tell an event to a reader that is gone.
  zmq_socket_monitor(live_.raw(), nullptr, 0);
  live_ = ZmqSocket();
  monitor_ = ZmqSocket();
}

void PublisherLink::ConfigureSocket(ZmqSocket& socket, const std::string& endpoint) const {
  socket.Set(ZMQ_IPV6, IsIpv6(HostOf(endpoint)) ? 1 : 0);
  socket.Set(ZMQ_RECONNECT_IVL, Milliseconds(options_.reconnect_min));
  socket.Set(ZMQ_RECONNECT_IVL_MAX, Milliseconds(options_.reconnect_max));
  socket.Set(ZMQ_CONNECT_TIMEOUT, Milliseconds(options_.handshake_timeout));
  socket.Set(ZMQ_HANDSHAKE_IVL, Milliseconds(options_.handshake_timeout));
  socket.Set(ZMQ_HEARTBEAT_IVL, Milliseconds(options_.heartbeat_interval));
  socket.Set(ZMQ_HEARTBEAT_TIMEOUT, Milliseconds(2 * options_.heartbeat_interval));
  socket.SetInt64(ZMQ_MAXMSGSIZE, options_.max_message_bytes);
}

// Begins to connect, with new sockets: to the next address of a name, which is looked up when there
// is none left.
void PublisherLink::Dial() {
  redial_at_.reset();
  CloseLive();
  if (live_name_ && untried_.empty()) {
    LookUp();
    return;
  }
  std::string endpoint = address_.endpoint;
  if (live_name_) {
    live_address_ = std::move(untried_.front());
    untried_.pop_front();
    endpoint = AtAddress(*live_name_, live_address_);
  }
  if (auto opened = OpenLive(endpoint); !opened) {
    stream_.ConnectFailed(MonoNow(), "unreachable", opened.error().Message());
    redial_at_ = MonoNow() + options_.reconnect_max;
  }
}

void PublisherLink::LookUp() {
  auto lookup = resolver_.Resolve(live_name_->host);
  if (!lookup) {
    CannotResolve(lookup.error().Message());
    return;
  }
  lookup_ = std::move(*lookup);
  lookup_late_at_ = MonoNow() + options_.handshake_timeout;
  watcher_.Watch(lookup_->fd(), id_, /*monitor=*/false);
}

void PublisherLink::TurnLookup() {
  if (!lookup_) return;
  const auto addresses = lookup_->Take();
  if (!addresses) {
    if (!lookup_late_at_ || MonoNow() < *lookup_late_at_) return;
    lookup_late_at_.reset();
    stream_.ConnectFailed(
        MonoNow(), "unreachable",
        fmt::format("cannot resolve host '{}' of {}: no answer for {}; still waiting. Does this "
                    "machine reach its name server?",
                    live_name_->host, address_.endpoint,
                    FormatDuration(options_.handshake_timeout)));
    return;
  }
  watcher_.Unwatch(lookup_->fd());
  lookup_.reset();
  lookup_late_at_.reset();
  if (!*addresses) {
    CannotResolve(addresses->error().Message());
    return;
  }
  untried_.assign((*addresses)->begin(), (*addresses)->end());
  Dial();
}

void PublisherLink::CannotResolve(const std::string& why) {
  const MonoTime now = MonoNow();
  redial_at_ = now + Backoff(options_.reconnect_min);
  ++failures_;
  stream_.ConnectFailed(now, "unreachable",
                        fmt::format("cannot resolve host '{}' of {}: {}; it is tried again. Is "
                                    "that the engine's name?",
                                    live_name_->host, address_.endpoint, why));
}

Duration PublisherLink::Backoff(Duration least) const {
  return std::min<Duration>(options_.reconnect_max,
                            least * (1 << std::min<uint32_t>(failures_, 8)));
}

bool PublisherLink::Turn(bool monitor) {
  const MonoTime until = MonoNow() + kTurn;
  const auto redial_is_due = [this] { return redial_at_ && MonoNow() >= *redial_at_; };
  TurnLookup();
  if (live_) {
    // libzmq may have connected by itself in the meantime.
    if (monitor || std::exchange(monitor_fresh_, false) || redial_is_due()) DrainMonitor();
    // Every frame that came before these events can be received now.
    const size_t ripe = events_.size();
    live_drained_ = inbox_.Fill(live_, inbox_limit_);
    while (!inbox_.messages.empty()) {
      HandleLive(inbox_.Pop());
      if (MonoNow() >= until) break;
    }
    if (inbox_.messages.empty() && live_drained_) HandleEvents(std::min(ripe, events_.size()));
  }
  if (abandoned_) CloseLive();
  if (redial_is_due() && inbox_.messages.empty() && events_.empty()) Dial();
  TurnReplay(MonoNow() + kTurn);
  if (const auto deadline = stream_.NextDeadline()) {
    const MonoTime later = MonoNow();
    if (later >= *deadline) stream_.Tick(later);
  }
  return HasMoreWork();
}

bool PublisherLink::HasMoreWork() const {
  if (!inbox_.messages.empty() || !live_drained_ || !events_.empty() || monitor_fresh_) return true;
  if (!replay_) return false;
  return !replay_->inbox.messages.empty() || replay_->lost || (replay_->socket && !replay_->polled);
}

std::optional<MonoTime> PublisherLink::Deadline() const {
  std::optional<MonoTime> next = stream_.NextDeadline();
  for (const auto& time : {redial_at_, lookup_late_at_}) {
    if (time && (!next || *time < *next)) next = time;
  }
  return next;
}

void PublisherLink::HandleLive(const ZmqMessage& message) {
  if (abandoned_) return;
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
  if (abandoned_) return;
  const MonoTime now = MonoNow();
  switch (event.event) {
    case ZMQ_EVENT_HANDSHAKE_SUCCEEDED:
      up_ = true;
      failures_ = 0;
      retry_is_news_ = true;
      redial_at_.reset();
      untried_.clear();
      of_connection_.reset();
      stream_.Connected(now);
      break;
    case ZMQ_EVENT_DISCONNECTED:
      of_connection_.reset();
      if (std::exchange(up_, false)) {
        retry_is_news_ = false;
        // A name may stand for another address by now.
        redial_at_ = now + (live_name_ ? options_.reconnect_min : kGivenUp);
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
          fmt::format("closed the connection during the handshake, or did not finish it in {}",
                      FormatDuration(options_.handshake_timeout)));
      break;
    case ZMQ_EVENT_CONNECT_RETRIED:
      if (up_) break;
      if (!std::exchange(retry_is_news_, true)) {
        if (!live_name_) redial_at_.reset();  // libzmq goes on by itself
        break;
      }
      if (redial_at_) break;
      if (!untried_.empty()) {
        redial_at_ = now;
        break;
      }
      if (live_name_) redial_at_ = now + Backoff(options_.reconnect_min);
      ++failures_;
      stream_.ConnectFailed(now, "unreachable",
                            fmt::format("cannot connect to {}; it is tried again. Does the engine "
                                        "run there, with KV events enabled on that port?",
                                        Shown()));
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
                        fmt::format("the peer at {} does not speak ZeroMQ as a publisher does: it "
                                    "{}. Is that the port of the engine's KV events, and not its "
                                    "replay endpoint or its HTTP port?",
                                    Shown(), why));
  abandoned_ = true;
  redial_at_ = untried_.empty() ? now + Backoff(std::chrono::milliseconds(250)) : now;
  ++failures_;
}

// The live endpoint for people, with the address that its name stood for.
std::string PublisherLink::Shown() const {
  if (!live_name_) return address_.endpoint;
  return fmt::format("{} ({})", address_.endpoint, live_address_);
}

void PublisherLink::OpenReplay(uint64_t request, uint64_t from) {
  replay_ = std::make_unique<Replay>();
  replay_->request = request;
  replay_->from = from;
  replay_->opened = MonoNow();
  if (!replay_name_) {
    AskReplay(address_.replay_endpoint);
    return;
  }
  if (live_name_ && live_name_->host == replay_name_->host && live_) {
    // Of several engines behind one name, the one that is listened to.
    AskReplay(AtAddress(*replay_name_, live_address_));
    return;
  }
  auto lookup = resolver_.Resolve(replay_name_->host);
  if (!lookup) {
    LoseReplay(fmt::format("cannot resolve host '{}' of {}: {}", replay_name_->host,
                           address_.replay_endpoint, lookup.error().Message()));
    return;
  }
  replay_->lookup = std::move(*lookup);
  watcher_.Watch(replay_->lookup->fd(), id_, /*monitor=*/false);
}

void PublisherLink::TurnReplayLookup() {
  if (!replay_->lookup) return;
  const auto found = replay_->lookup->Take();
  if (!found) return;
  watcher_.Unwatch(replay_->lookup->fd());
  replay_->lookup.reset();
  if (!*found) {
    LoseReplay(fmt::format("cannot resolve host '{}' of {}: {}", replay_name_->host,
                           address_.replay_endpoint, found->error().Message()));
    return;
  }
  // First those of the family that the live connection has.
  std::vector<std::string> addresses = **found;
  const bool prefer_ipv6 = IsIpv6(live_name_ ? live_address_ : HostOf(address_.endpoint));
  std::stable_partition(addresses.begin(), addresses.end(),
                        [&](const std::string& address) { return IsIpv6(address) == prefer_ipv6; });
  AskReplay(AtAddress(*replay_name_, addresses[replay_turn_ % addresses.size()]));
}

void PublisherLink::AskReplay(const std::string& endpoint) {
  auto socket = ZmqSocket::Create(context_, ZMQ_DEALER);
  if (!socket) {
    LoseReplay(socket.error().Message());
    return;
  }
  ConfigureSocket(*socket, endpoint);
  socket->Set(ZMQ_RCVHWM, 0);  // a ROUTER drops what does not fit
  const auto number = StoreBigEndian64(replay_->from);
  const std::array<std::string_view, 2> frames = {std::string_view(),
                                                  std::string_view(number.data(), number.size())};
  if (auto connected = socket->Connect(endpoint); !connected) {
    LoseReplay(connected.error().Message());
    return;
  }
  if (!socket->Send(frames)) {
    LoseReplay(fmt::format("ZeroMQ does not take a request for {}", endpoint));
    return;
  }
  replay_->socket = std::move(*socket);
  replay_->fd = replay_->socket.fd();
  watcher_.Watch(replay_->fd, id_, /*monitor=*/false);
}

// The stream is told at the next turn: it may be the one that asks.
void PublisherLink::LoseReplay(std::string why) {
  replay_->lost = true;
  replay_->why = std::move(why);
}

void PublisherLink::CloseReplay(uint64_t request) {
  if (!replay_ || replay_->request != request) return;
  const bool in_vain = replay_->socket && !replay_->answered;
  if (in_vain && MonoNow() >= replay_->opened + replay_timeout_) ++replay_turn_;
  if (replay_->socket) watcher_.Unwatch(replay_->fd);
  if (replay_->lookup) watcher_.Unwatch(replay_->lookup->fd());
  replay_.reset();
}

void PublisherLink::TurnReplay(MonoTime until) {
  if (!replay_) return;
  TurnReplayLookup();
  replay_->polled = replay_->polled || replay_->socket;
  if (replay_->socket && !replay_->inbox.Fill(replay_->socket, options_.max_replay_bytes)) {
    // It comes faster than it can be applied: the rest is asked for when this much is done.
    watcher_.Unwatch(replay_->fd);
    replay_->socket = ZmqSocket();
    replay_->lost = true;
  }
  const uint64_t request = replay_->request;
  while (replay_ && replay_->request == request && !replay_->inbox.messages.empty()) {
    replay_->answered = true;
    const ZmqMessage message = replay_->inbox.Pop();
    std::array<std::string_view, ZmqMessage::kMostFrames> frames;
    for (size_t i = 0; i < message.frames.size(); ++i) frames[i] = message.frames[i].view();
    stream_.ReplayMessage(MonoNow(), request, {frames.data(), message.frames.size()});
    if (MonoNow() >= until) return;
  }
  if (replay_ && replay_->request == request && replay_->lost) {
    replay_->lost = false;
    stream_.ReplayLost(MonoNow(), request, std::move(replay_->why));
  }
}

}  // namespace conductor::stream
