#include "lib/stream/replay_link.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>
#include <vector>

#include "lib/base/bytes.h"

namespace conductor::stream {

ReplayLink::ReplayLink(void* context, Resolver& resolver, Watcher& watcher, uint64_t task,
                       const Transport::Options& options, std::string endpoint,
                       Duration replay_timeout)
    : context_(context),
      resolver_(resolver),
      watcher_(watcher),
      task_(task),
      options_(options),
      endpoint_(std::move(endpoint)),
      name_(NamedEndpoint(endpoint_)),
      replay_timeout_(replay_timeout) {}

ReplayLink::~ReplayLink() {
  if (replay_) CloseReplay(replay_->request);
}

void ReplayLink::LiveIsAt(std::string host, std::string address) {
  live_host_ = std::move(host);
  live_address_ = std::move(address);
}

void ReplayLink::OpenReplay(uint64_t request, uint64_t from) {
  replay_ = std::make_unique<Replay>();
  replay_->request = request;
  replay_->from = from;
  replay_->opened = MonoNow();
  if (!name_) {
    Ask(endpoint_);
    return;
  }
  if (name_->host == live_host_ && !live_address_.empty()) {
    // Of several engines behind one name, the one that is listened to.
    Ask(AtAddress(*name_, live_address_));
    return;
  }
  auto lookup = resolver_.Resolve(name_->host);
  if (!lookup) {
    CannotResolve(lookup.error().Message());
    return;
  }
  replay_->lookup = std::move(*lookup);
  watcher_.Watch(replay_->lookup->fd(), task_, /*monitor=*/false);
}

void ReplayLink::TurnLookup() {
  if (!replay_->lookup) return;
  const auto found = replay_->lookup->Take();
  if (!found) return;
  watcher_.Unwatch(replay_->lookup->fd());
  replay_->lookup.reset();
  if (!*found) {
    CannotResolve(found->error().Message());
    return;
  }
  // First those of the family that the live connection has.
  std::vector<std::string> addresses = **found;
  const bool prefer_ipv6 = IsIpv6(live_address_);
  std::stable_partition(addresses.begin(), addresses.end(),
                        [&](const std::string& address) { return IsIpv6(address) == prefer_ipv6; });
  Ask(AtAddress(*name_, addresses[turn_ % addresses.size()]));
}

void ReplayLink::CannotResolve(const std::string& why) {
  Lose(fmt::format("cannot resolve host '{}' of {}: {}", name_->host, endpoint_, why));
}

void ReplayLink::Ask(const std::string& endpoint) {
  auto socket = ZmqSocket::Create(context_, ZMQ_DEALER);
  if (!socket) {
    Lose(socket.error().Message());
    return;
  }
  ConfigureSocket(*socket, endpoint, options_);
  socket->Set(ZMQ_RCVHWM, 0);  // a ROUTER drops what does not fit
  const auto number = StoreBigEndian64(replay_->from);
  const std::array<std::string_view, 2> frames = {std::string_view(),
                                                  std::string_view(number.data(), number.size())};
  if (auto connected = socket->Connect(endpoint); !connected) {
    Lose(connected.error().Message());
    return;
  }
  if (!socket->Send(frames)) {
    Lose(fmt::format("ZeroMQ does not take a request for {}", endpoint));
    return;
  }
  replay_->socket = std::move(*socket);
  replay_->fd = replay_->socket.fd();
  watcher_.Watch(replay_->fd, task_, /*monitor=*/false);
}

// The stream is told at the next turn: it may be the one that asks.
void ReplayLink::Lose(std::string why) {
  replay_->lost = true;
  replay_->why = std::move(why);
}

void ReplayLink::CloseReplay(uint64_t request) {
  if (!replay_ || replay_->request != request) return;
  const bool in_vain = replay_->socket && !replay_->answered;
  if (in_vain && MonoNow() >= replay_->opened + replay_timeout_) ++turn_;
  if (replay_->socket) watcher_.Unwatch(replay_->fd);
  if (replay_->lookup) watcher_.Unwatch(replay_->lookup->fd());
  replay_.reset();
}

void ReplayLink::Turn(PublisherStream& stream, MonoTime until) {
  if (!replay_) return;
  TurnLookup();
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
    stream.ReplayMessage(MonoNow(), request, FrameViews(message).get());
    if (MonoNow() >= until) return;
  }
  if (replay_ && replay_->request == request && replay_->lost) {
    replay_->lost = false;
    stream.ReplayLost(MonoNow(), request, std::move(replay_->why));
  }
}

bool ReplayLink::HasMoreWork() const {
  if (!replay_) return false;
  return !replay_->inbox.messages.empty() || replay_->lost || (replay_->socket && !replay_->polled);
}

}  // namespace conductor::stream
