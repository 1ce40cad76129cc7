#include "lib/stream/bound_router.h"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>

namespace conductor::stream {
namespace {

std::string Sender(std::string_view peer, std::string_view topic) {
  return fmt::format("{} with topic '{}'", peer.empty() ? "a peer without address" : peer, topic);
}

}  // namespace

BoundRouter::Key BoundRouter::KeyOf(const Name& name) { return {name.peer, name.topic, name.rank}; }

void BoundRouter::Add(Seat seat, Name name) {
  ++keys_[KeyOf(name)];
  seats_[seat].name = std::move(name);
  for (auto& [number, connection] : connections_) connection.topic.reset();
  shared_changed_ = true;
}

void BoundRouter::Remove(Seat seat) {
  const auto found = seats_.find(seat);
  if (found == seats_.end()) return;
  const auto key = keys_.find(KeyOf(found->second.name));
  if (--key->second == 0) keys_.erase(key);
  const SeatState removed = std::move(found->second);
  seats_.erase(found);
  for (auto& [number, connection] : connections_) connection.topic.reset();
  // What fitted it and another may fit that one alone now.
  for (const auto& [connection, why] : removed.ambiguous) {
    for (auto& [number, other] : seats_) other.ambiguous.erase(connection);
  }
  shared_changed_ = true;
}

BoundRouter::Route BoundRouter::Take(const Message& message) {
  ConnectionState& connection = connections_[message.connection];
  const auto chosen = Choose(connection, message);
  if (!chosen) {
    ++unrouted_;
    return {};
  }
  SeatState& seat = seats_.at(*chosen);
  const bool fresh = seat.holder != message.connection;
  if (fresh && seat.holder) {
    seat.former.insert(*seat.holder);
    if (seat.former.contains(message.connection) && seat.rivalry.empty()) {
      shared_changed_ = true;
      seat.rivalry = fmt::format(
          "several publishers connect to {} as {} and their events cannot be told apart: register "
          "each with the address that it connects from (peer), a topic of its own or its rank",
          endpoint_, Sender(message.peer, message.topic));
    }
  }
  seat.former.erase(message.connection);
  seat.holder = message.connection;
  if (IsShared(seat)) {
    ++unrouted_;
    return {};
  }
  return {chosen, fresh};
}

std::vector<BoundRouter::Seat> BoundRouter::Fitting(std::string_view peer,
                                                    std::string_view topic) const {
  std::vector<Seat> fitting;
  std::pair<bool, size_t> best;
  for (const auto& [seat, state] : seats_) {
    const Name& name = state.name;
    if (!name.peer.empty() && name.peer != peer) continue;
    if (!topic.starts_with(name.topic)) continue;
    const std::pair<bool, size_t> narrow = {!name.peer.empty(), name.topic.size()};
    if (!fitting.empty() && narrow < best) continue;
    if (narrow > best) fitting.clear();
    best = narrow;
    fitting.push_back(seat);
  }
  return fitting;
}

std::optional<BoundRouter::Seat> BoundRouter::Choose(ConnectionState& state,
                                                     const Message& message) {
  if (state.topic != message.topic) {
    state.topic = message.topic;
    state.fitting = Fitting(message.peer, message.topic);
  }
  if (state.fitting.empty()) {
    NoteStranger(message);
    return std::nullopt;
  }
  if (state.fitting.size() == 1) return state.fitting.front();
  std::vector<Seat> ranked;
  bool told = false;
  for (const Seat seat : state.fitting) {
    const Name& name = seats_.at(seat).name;
    const auto rank = name.batch_rank ? name.batch_rank(message.payload) : std::nullopt;
    told |= rank.has_value();
    if (rank == static_cast<int64_t>(name.rank)) ranked.push_back(seat);
  }
  if (ranked.size() == 1) return ranked.front();
  if (ranked.empty() && told) {
    NoteStranger(message);
    return std::nullopt;
  }
  for (const Seat seat : ranked.empty() ? state.fitting : ranked) {
    std::string& why = seats_.at(seat).ambiguous[message.connection];
    if (!why.empty()) continue;
    shared_changed_ = true;
    why = fmt::format(
        "messages to {} from {} fit several registrations, and no rank in them tells which: give "
        "each the address that its publisher connects from (peer) or a topic of its own",
        endpoint_, Sender(message.peer, message.topic));
  }
  return std::nullopt;
}

void BoundRouter::NoteStranger(const Message& message) {
  if (!first_stranger_.empty()) return;
  first_stranger_ = Sender(message.peer, message.topic);
}

std::vector<BoundRouter::Seat> BoundRouter::Gone(Connection connection) {
  connections_.erase(connection);
  std::vector<Seat> held;
  for (auto& [number, seat] : seats_) {
    seat.former.erase(connection);
    seat.ambiguous.erase(connection);
    if (seat.holder == connection) {
      seat.holder.reset();
      held.push_back(number);
    }
    const size_t rivals = seat.former.size() + (seat.holder ? 1 : 0);
    if (rivals <= 1) seat.rivalry.clear();
  }
  shared_changed_ = true;
  return held;
}

bool BoundRouter::IsShared(const SeatState& seat) const {
  return !seat.rivalry.empty() || !seat.ambiguous.empty() || keys_.at(KeyOf(seat.name)) > 1;
}

std::string BoundRouter::WhyShared(const SeatState& seat) const {
  if (!seat.rivalry.empty()) return seat.rivalry;
  if (!seat.ambiguous.empty()) return seat.ambiguous.begin()->second;
  return fmt::format(
      "another publisher is registered at {} with the same peer, topic and rank, so their events "
      "cannot be told apart: give each the address that it connects from (peer) or a topic of its "
      "own",
      endpoint_);
}

std::vector<BoundRouter::SharedChange> BoundRouter::TakeSharedChanges() {
  std::vector<SharedChange> changes;
  if (!std::exchange(shared_changed_, false)) return changes;
  for (auto& [number, seat] : seats_) {
    const bool shared = IsShared(seat);
    // One cause is enough to be told, until there is none.
    if (shared == std::exchange(seat.told, shared)) continue;
    changes.emplace_back(number, shared ? WhyShared(seat) : std::string());
  }
  return changes;
}

bool BoundRouter::Held(Seat seat) const {
  const auto found = seats_.find(seat);
  return found != seats_.end() && found->second.holder.has_value();
}

}  // namespace conductor::stream
