#include "lib/stream/bound_link.h"

#include <utility>

namespace conductor::stream {

BoundLink::BoundLink(BoundEndpoint& endpoint, BoundRouter::Name name, uint64_t task,
                     size_t limit_bytes, bool has_replay, PublisherStream& stream)
    : endpoint_(endpoint), name_(std::move(name)), has_replay_(has_replay), stream_(stream) {
  seat_.task = task;
  seat_.limit_bytes = limit_bytes;
}

BoundLink::~BoundLink() {
  if (joined_) endpoint_.Leave(seat_);
}

void BoundLink::Begin() {
  joined_ = true;
  endpoint_.Join(seat_, name_);
}

void BoundLink::Turn(bool /*monitor*/, MonoTime until) {
  while (!seat_.arrivals.empty()) {
    BoundSeat::Arrival arrival = std::move(seat_.arrivals.front());
    seat_.arrivals.pop_front();
    seat_.bytes -= arrival.message.bytes;
    Handle(std::move(arrival));
    if (MonoNow() >= until) return;
  }
  if (seat_.dropped > 0) stream_.LiveLost(MonoNow(), std::exchange(seat_.dropped, 0));
}

void BoundLink::Handle(BoundSeat::Arrival arrival) {
  const MonoTime now = MonoNow();
  switch (arrival.kind) {
    case BoundSeat::Arrival::Kind::kListening:
      stream_.ConnectFailed(now, "not_connected", std::move(arrival.detail));
      Ask();
      break;
    case BoundSeat::Arrival::Kind::kNotListening:
      stream_.ConnectFailed(now, "unreachable", std::move(arrival.detail));
      break;
    case BoundSeat::Arrival::Kind::kSomebody:
      Ask();
      break;
    case BoundSeat::Arrival::Kind::kConnected:
      // Whatever was asked so far may have been answered before this connection.
      if (std::exchange(up_, true)) stream_.Disconnected(now);
      stream_.Connected(now);
      break;
    case BoundSeat::Arrival::Kind::kMessage:
      stream_.LiveMessage(now, FrameViews(arrival.message).get());
      break;
    case BoundSeat::Arrival::Kind::kGone:
      up_ = false;
      stream_.Disconnected(now);
      stream_.ConnectFailed(now, "unreachable", std::move(arrival.detail));
      break;
    case BoundSeat::Arrival::Kind::kShared:
      stream_.Shared(now, std::move(arrival.detail));
      break;
  }
}

void BoundLink::Ask() {
  if (has_replay_ && !std::exchange(up_, true)) stream_.Connected(MonoNow());
}

}  // namespace conductor::stream
