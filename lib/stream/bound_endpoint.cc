#include "lib/stream/bound_endpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "lib/base/log.h"

namespace conductor::stream {
namespace {

using Kind = BoundSeat::Arrival::Kind;

constexpr int kMonitored =
    ZMQ_EVENT_ACCEPTED | ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_HANDSHAKE_SUCCEEDED;
// How often it is looked what peers have sent that is no whole message.
constexpr Duration kLookTime = std::chrono::milliseconds(250);
// A look ends after so long also where messages come without a pause: each peer had its turn.
constexpr Duration kLongestLook = std::chrono::seconds(5);

UnfinishedMessages::Limits LimitsOf(const Transport::Options& options) {
  constexpr uint64_t kBesidePayload = 1 << 20;
  constexpr uint64_t kPeersAtOnce = 4;  // that may send the largest of messages
  const uint64_t each = static_cast<uint64_t>(options.max_message_bytes) + kBesidePayload;
  return {.each = each, .together = kPeersAtOnce * each};
}

// What is wrong with an address that may come right by itself: somebody else has it, or its
// network interface is not there yet.
bool MayPass(int error) { return error == EADDRINUSE || error == EADDRNOTAVAIL; }

}  // namespace

BoundEndpoint::BoundEndpoint(void* context, Watcher& watcher, uint64_t task,
                             const Transport::Options& options, std::string endpoint)
    : context_(context),
      watcher_(watcher),
      task_(task),
      options_(options),
      endpoint_(std::move(endpoint)),
      router_(endpoint_),
      unfinished_(endpoint_, LimitsOf(options)) {}

BoundEndpoint::~BoundEndpoint() {
  if (!socket_) return;
  watcher_.Unwatch(socket_.fd());
  watcher_.Unwatch(socket_.monitor_fd());
}

std::string BoundEndpoint::KeyOf(const std::string& text) {
  auto endpoint = Endpoint::Parse(text);
  if (!endpoint || !endpoint->is_tcp()) return text;
  if (endpoint->host == "::") endpoint->host = "*";
  if (auto address = CanonicalAddress(endpoint->host)) endpoint->host = std::move(*address);
  return endpoint->ToString();
}

Status BoundEndpoint::Check(const std::string& text) {
  const auto endpoint = Endpoint::Parse(text);
  if (!endpoint) return tl::unexpected(endpoint.error());
  if (!endpoint->is_tcp() || endpoint->host == "*" || IsNumeric(endpoint->host)) return {};
  return Fail(fmt::format("'{}' is a name, and only addresses can be bound", endpoint->host),
              fmt::format("endpoint '{}'", text),
              fmt::format("tcp://*:{0}, or an address of this machine; the engine's own "
                          "configuration may name this machine as it likes",
                          endpoint->port));
}

Status BoundEndpoint::Open() {
  if (auto good = Check(endpoint_); !good) return good;
  Bind();
  if (socket_ || bind_at_) return {};
  return Fail(problem_, fmt::format("endpoint '{}'", endpoint_),
              "tcp://*:PORT, tcp://ADDRESS:PORT or ipc://PATH");
}

void BoundEndpoint::Bind() {
  bind_at_.reset();
  auto socket = MonitoredSocket::Create(context_, ZMQ_SUB, kMonitored,
                                        fmt::format("bound-{}-{}", task_, ++failures_));
  int error = EADDRINUSE;
  if (socket) {
    ConfigureSocket(socket->socket(), endpoint_, options_);
    if (HostOf(endpoint_) == "*") socket->socket().Set(ZMQ_IPV6, 1);
    socket->socket().Set(ZMQ_RCVHWM, options_.live_high_water_mark);
    for (const auto& [seat, topic] : topics_) socket->socket().Set(ZMQ_SUBSCRIBE, topic);
    error = zmq_bind(socket->socket().raw(), endpoint_.c_str()) == 0 ? 0 : zmq_errno();
    problem_ = fmt::format("cannot listen at {}: {}", endpoint_, zmq_strerror(error));
  } else {
    problem_ = socket.error().Message();
  }
  if (error != 0) {
    if (!MayPass(error)) return;
    const Duration wait = options_.reconnect_min * (1 << std::min<uint32_t>(failures_, 8));
    bind_at_ = MonoNow() + std::min<Duration>(options_.reconnect_max, wait);
    TellAll(Kind::kNotListening, problem_ +
                                     "; it is tried again. Does something else listen "
                                     "there?");
    return;
  }
  socket_ = std::move(*socket);
  failures_ = 0;
  problem_.clear();
  drained_ = false;
  watcher_.Watch(socket_.fd(), task_, /*monitor=*/false);
  watcher_.Watch(socket_.monitor_fd(), task_, /*monitor=*/true);
  TellAll(Kind::kListening, Waiting());
}

std::string BoundEndpoint::Waiting() const {
  return fmt::format(
      "listening at {}, where nothing of this publisher has come yet. Does it "
      "connect to that port of this machine, and are peer and topic its own?",
      endpoint_);
}

void BoundEndpoint::Join(BoundSeat& seat, BoundRouter::Name name) {
  seats_[seat.task] = &seat;
  topics_[seat.task] = name.topic;
  if (socket_) socket_.socket().Set(ZMQ_SUBSCRIBE, name.topic);
  router_.Add(seat.task, std::move(name));
  if (socket_) {
    Put(seat, Kind::kListening, Waiting());
  } else {
    Put(seat, Kind::kNotListening, problem_);
  }
  TellShared();
}

void BoundEndpoint::Leave(BoundSeat& seat) {
  if (socket_) socket_.socket().Set(ZMQ_UNSUBSCRIBE, topics_[seat.task]);
  topics_.erase(seat.task);
  seats_.erase(seat.task);
  router_.Remove(seat.task);
  TellShared();
}

bool BoundEndpoint::Turn(bool monitor) {
  const MonoTime until = MonoNow() + kTurn;
  if (bind_at_ && MonoNow() >= *bind_at_) {
    Bind();
    if (!socket_ && !bind_at_) bind_at_ = MonoNow() + options_.reconnect_max;
  }
  if (!socket_) return false;
  if (monitor || !drained_) socket_.TakeEvents(events_);
  // Every message that came before these events can be received now.
  const size_t ripe = events_.size();
  drained_ = false;
  BeginLook(MonoNow());
  while (!drained_ && MonoNow() < until) {
    ZmqMessage message;
    if (socket_.socket().Receive(message)) {
      Handle(std::move(message));
    } else {
      drained_ = true;
    }
  }
  EndLook(MonoNow());
  if (drained_) HandleEvents(std::min(ripe, events_.size()));
  return !drained_ || !events_.empty();
}

void BoundEndpoint::BeginLook(MonoTime now) {
  if (!look_at_ || now < *look_at_) return;
  look_at_.reset();
  looking_since_ = now;
  unfinished_.ReadSizes();
}

void BoundEndpoint::EndLook(MonoTime now) {
  if (!looking_since_ || (!drained_ && now < *looking_since_ + kLongestLook)) return;
  looking_since_.reset();
  unfinished_.CutOff(spoke_);
  spoke_.clear();
  if (!unfinished_.empty()) look_at_ = now + kLookTime;
}

void BoundEndpoint::HandleEvents(size_t count) {
  for (size_t i = 0; i < count; ++i) {
    const auto [event, value] = events_[i];
    unfinished_.Heed({events_[i]});
    if (event == ZMQ_EVENT_ACCEPTED) {
      open_fds_.insert(value);
      if (!look_at_ && !looking_since_) look_at_ = MonoNow() + kLookTime;
    } else if (event == ZMQ_EVENT_HANDSHAKE_SUCCEEDED) {
      for (const auto& [task, seat] : seats_) {
        if (!router_.Held(task)) Put(*seat, Kind::kSomebody);
      }
    } else if (event == ZMQ_EVENT_DISCONNECTED) {
      open_fds_.erase(value);
      for (auto found = connections_.begin(); found != connections_.end();) {
        if (found->second.fd != value) {
          ++found;
          continue;
        }
        const uint64_t number = found->second.number;
        found = connections_.erase(found);
        Forget(number);
      }
    }
  }
  events_.erase(events_.begin(), events_.begin() + static_cast<std::ptrdiff_t>(count));
}

void BoundEndpoint::Forget(uint64_t number) {
  for (const uint64_t task : router_.Gone(number)) {
    Put(*seats_.at(task), Kind::kGone,
        fmt::format("its connection to {} was lost; waiting for it to come back. Is the engine "
                    "still running?",
                    endpoint_));
    // The new connection of one that comes back can be there before the old one is known to be
    // gone.
    if (HasUnknownConnection()) Put(*seats_.at(task), Kind::kSomebody);
  }
  TellShared();
}

bool BoundEndpoint::HasUnknownConnection() const {
  return std::ranges::any_of(open_fds_, [this](int fd) {
    return std::ranges::none_of(connections_,
                                [fd](const auto& entry) { return entry.second.fd == fd; });
  });
}

// Null for a straggler: libzmq tells that a connection broke just before it hands over the last
// messages. They are lost with the connection.
BoundEndpoint::Connection* BoundEndpoint::ConnectionOf(const ZmqMessage& message) {
  const ZmqFrame& frame = message.frames.front();
  const void* identity = frame.connection();
  if (const auto found = connections_.find(identity); found != connections_.end()) {
    return &found->second;
  }
  socket_.TakeEvents(events_);
  HandleEvents(events_.size());
  const int fd = frame.source_fd();
  if (fd >= 0 && !open_fds_.contains(fd)) return nullptr;
  Connection connection;
  connection.number = ++last_connection_;
  connection.fd = fd;
  connection.peer = CanonicalAddress(frame.peer_address()).value_or(std::string());
  connection.frame = message.frames[message.frames.size() > 1 ? 1 : 0];  // the small one
  return &(connections_[identity] = std::move(connection));
}

void BoundEndpoint::Handle(ZmqMessage message) {
  if (const int fd = message.frames.back().source_fd(); fd >= 0) {
    const auto index = static_cast<size_t>(fd);
    if (spoke_.size() <= index) spoke_.resize(index + 1);
    spoke_[index] = true;
  }
  const Connection* connection = ConnectionOf(message);
  if (!connection) return;
  const BoundRouter::Route route = router_.Take({
      .connection = connection->number,
      .peer = connection->peer,
      .topic = message.frames.front().view(),
      .payload = message.frames.back().view(),
  });
  TellShared();
  if (!route.seat) {
    unrouted_->store(router_.unrouted(), std::memory_order_relaxed);  // a figure to look at
    if (!router_.first_stranger().empty() && !std::exchange(told_strangers_, true)) {
      log::Warn(
          "{} receives messages that fit no registered publisher, the first from {}; they "
          "are counted and ignored",
          endpoint_, router_.first_stranger());
    }
    return;
  }
  BoundSeat& seat = *seats_.at(*route.seat);
  if (route.fresh) Put(seat, Kind::kConnected);
  if (seat.dropped > 0 || seat.bytes + message.bytes > seat.limit_bytes) {
    ++seat.dropped;
  } else {
    seat.bytes += message.bytes;
    seat.arrivals.push_back({.kind = Kind::kMessage, .detail = {}, .message = std::move(message)});
  }
  watcher_.Ready(seat.task);
}

// What was not passed on while a seat was shared is unknown, so it begins anew as after a
// reconnect.
void BoundEndpoint::TellShared() {
  for (auto& [task, why] : router_.TakeSharedChanges()) {
    BoundSeat& seat = *seats_.at(task);
    const bool alone = why.empty();
    Put(seat, Kind::kShared, std::move(why));
    if (alone && router_.Held(task)) Put(seat, Kind::kConnected);
  }
}

void BoundEndpoint::TellAll(Kind kind, const std::string& detail) {
  for (const auto& [task, seat] : seats_) Put(*seat, kind, detail);
}

void BoundEndpoint::Put(BoundSeat& seat, Kind kind, std::string detail) {
  seat.arrivals.push_back({.kind = kind, .detail = std::move(detail), .message = {}});
  watcher_.Ready(seat.task);
}

}  // namespace conductor::stream
