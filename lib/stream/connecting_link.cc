#include "lib/stream/connecting_link.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace conductor::stream {
namespace {

// libzmq announces at once that it will try a lost connection again; without that after so long,
// it has given the peer up, as after a frame above the size limit.
constexpr Duration kGivenUp = std::chrono::seconds(1);

constexpr int kMonitored = ZMQ_EVENT_CONNECT_RETRIED | ZMQ_EVENT_DISCONNECTED |
                           ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL |
                           ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH;

}  // namespace

ConnectingLink::ConnectingLink(void* context, Resolver& resolver, Watcher& watcher, uint64_t task,
                               const Transport::Options& options, const PublisherAddress& address,
                               size_t inbox_limit, PublisherStream& stream, ReplayLink& replay)
    : context_(context),
      resolver_(resolver),
      watcher_(watcher),
      task_(task),
      options_(options),
      address_(address),
      inbox_limit_(inbox_limit),
      stream_(stream),
      replay_(replay),
      name_(NamedEndpoint(address.endpoint)) {
  replay_.LiveIsAt(HostOf(address.endpoint), name_ ? std::string() : HostOf(address.endpoint));
}

ConnectingLink::~ConnectingLink() {
  if (lookup_) watcher_.Unwatch(lookup_->fd());
  CloseLive();
}

Status ConnectingLink::Open() { return name_ ? Status() : OpenLive(address_.endpoint); }

void ConnectingLink::Begin() {
  if (name_) Dial();
}

Status ConnectingLink::OpenLive(const std::string& endpoint) {
  auto live = MonitoredSocket::Create(context_, ZMQ_SUB, kMonitored,
                                      fmt::format("monitor-{}-{}", task_, ++dials_));
  if (!live) return tl::unexpected(std::move(live.error()).Within(endpoint));
  ConfigureSocket(live->socket(), endpoint, options_);
  live->socket().Set(ZMQ_RCVHWM, options_.live_high_water_mark);
  live->socket().Set(ZMQ_SUBSCRIBE, address_.topic);
  if (auto connecting = live->socket().Connect(endpoint); !connecting) return connecting;
  live_ = std::move(*live);
  watcher_.Watch(live_.fd(), task_, /*monitor=*/false);
  watcher_.Watch(live_.monitor_fd(), task_, /*monitor=*/true);
  live_drained_ = false;
  monitor_fresh_ = true;
  retry_is_news_ = true;
  if (name_) replay_.LiveIsAt(name_->host, live_address_);
  return {};
}

// What it had received and not handed on goes: it is lost with the connection.
void ConnectingLink::CloseLive() {
  abandoned_ = false;
  monitor_fresh_ = false;
  live_drained_ = true;
  of_connection_.reset();
  events_.clear();
  inbox_ = {};
  if (!live_) return;
  watcher_.Unwatch(live_.fd());
  watcher_.Unwatch(live_.monitor_fd());
  live_ = MonitoredSocket();
  if (name_) replay_.LiveIsAt(name_->host, {});
}

// Begins to connect, with new sockets: to the next address of a name, which is looked up when there
// is none left.
void ConnectingLink::Dial() {
  redial_at_.reset();
  CloseLive();
  if (name_ && untried_.empty()) {
    LookUp();
    return;
  }
  std::string endpoint = address_.endpoint;
  if (name_) {
    live_address_ = std::move(untried_.front());
    untried_.pop_front();
    endpoint = AtAddress(*name_, live_address_);
  }
  if (auto opened = OpenLive(endpoint); !opened) {
    stream_.ConnectFailed(MonoNow(), "unreachable", opened.error().Message());
    redial_at_ = MonoNow() + options_.reconnect_max;
  }
}

void ConnectingLink::LookUp() {
  auto lookup = resolver_.Resolve(name_->host);
  if (!lookup) {
    CannotResolve(lookup.error().Message());
    return;
  }
  lookup_ = std::move(*lookup);
  lookup_late_at_ = MonoNow() + options_.handshake_timeout;
  watcher_.Watch(lookup_->fd(), task_, /*monitor=*/false);
}

void ConnectingLink::TurnLookup() {
  if (!lookup_) return;
  const auto addresses = lookup_->Take();
  if (!addresses) {
    if (!lookup_late_at_ || MonoNow() < *lookup_late_at_) return;
    lookup_late_at_.reset();
    stream_.ConnectFailed(
        MonoNow(), "unreachable",
        fmt::format("cannot resolve host '{}' of {}: no answer for {}; still waiting. Does this "
                    "machine reach its name server?",
                    name_->host, address_.endpoint, FormatDuration(options_.handshake_timeout)));
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

void ConnectingLink::CannotResolve(const std::string& why) {
  const MonoTime now = MonoNow();
  redial_at_ = now + Backoff(options_.reconnect_min);
  ++failures_;
  stream_.ConnectFailed(now, "unreachable",
                        fmt::format("cannot resolve host '{}' of {}: {}; it is tried again. Is "
                                    "that the engine's name?",
                                    name_->host, address_.endpoint, why));
}

Duration ConnectingLink::Backoff(Duration least) const {
  return std::min<Duration>(options_.reconnect_max,
                            least * (1 << std::min<uint32_t>(failures_, 8)));
}

void ConnectingLink::Turn(bool monitor, MonoTime until) {
  TurnLookup();
  if (live_) {
    // libzmq may have connected by itself in the meantime.
    if (monitor || std::exchange(monitor_fresh_, false) || RedialIsDue()) live_.TakeEvents(events_);
    // Every frame that came before these events can be received now.
    const size_t ripe = events_.size();
    live_drained_ = inbox_.Fill(live_.socket(), inbox_limit_);
    while (!inbox_.messages.empty()) {
      HandleLive(inbox_.Pop());
      if (MonoNow() >= until) break;
    }
    if (inbox_.messages.empty() && live_drained_) HandleEvents(std::min(ripe, events_.size()));
  }
  if (abandoned_) CloseLive();
  if (RedialIsDue() && inbox_.messages.empty() && events_.empty()) Dial();
}

bool ConnectingLink::HasMoreWork() const {
  return !inbox_.messages.empty() || !live_drained_ || !events_.empty() || monitor_fresh_;
}

std::optional<MonoTime> ConnectingLink::Deadline() const {
  if (!redial_at_ || !lookup_late_at_) return redial_at_ ? redial_at_ : lookup_late_at_;
  return std::min(*redial_at_, *lookup_late_at_);
}

void ConnectingLink::HandleLive(const ZmqMessage& message) {
  if (abandoned_) return;
  const void* connection = message.frames.front().connection();
  const bool same = of_connection_ && of_connection_->connection() == connection;
  if (!same) {
    const bool replaced = of_connection_.has_value();
    const uint64_t connects = stream_.counters().connects;
    live_.TakeEvents(events_);
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
  stream_.LiveMessage(MonoNow(), FrameViews(message).get());
}

void ConnectingLink::HandleEvents(size_t count) {
  for (size_t i = 0; i < count; ++i) HandleEvent(events_[i]);
  events_.erase(events_.begin(), events_.begin() + static_cast<std::ptrdiff_t>(count));
}

void ConnectingLink::HandleEvent(const SocketEvent& event) {
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
        redial_at_ = now + (name_ ? options_.reconnect_min : kGivenUp);
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
        if (!name_) redial_at_.reset();  // libzmq goes on by itself
        break;
      }
      if (redial_at_) break;
      if (!untried_.empty()) {
        redial_at_ = now;
        break;
      }
      if (name_) redial_at_ = now + Backoff(options_.reconnect_min);
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
void ConnectingLink::HandshakeFailed(const std::string& why) {
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
std::string ConnectingLink::Shown() const {
  if (!name_) return address_.endpoint;
  return fmt::format("{} ({})", address_.endpoint, live_address_);
}

}  // namespace conductor::stream
