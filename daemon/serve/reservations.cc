#include "daemon/serve/reservations.h"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>

#include "lib/base/endpoint.h"

namespace conductor::serve {
namespace {

// One text for all ways to write an address.
std::string Normalized(const std::string& address) {
  auto endpoint = Endpoint::Parse(address);
  if (!endpoint) return address;
  if (endpoint->is_tcp()) {
    std::ranges::transform(endpoint->host, endpoint->host.begin(), [](char c) {
      return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    });
  }
  return endpoint->ToString();
}

}  // namespace

bool Reservations::Publisher::MayShareWith(const Publisher& other) const {
  return bound && other.bound &&
         std::tie(peer, topic, dp_rank) != std::tie(other.peer, other.topic, other.dp_rank);
}

Reservations::Publisher Reservations::PublisherOf(const Registration& registration,
                                                  const std::string& holder) {
  return Publisher{.holder = holder,
                   .bound = registration.mode == stream::ListenMode::kBind,
                   .peer = registration.peer,
                   .topic = registration.topic,
                   .dp_rank = registration.dp_rank};
}

std::optional<Reservations::Conflict> Reservations::FindConflict(
    const Registration& registration) const {
  if (const auto found = keys_.find(registration.Key()); found != keys_.end()) {
    return Conflict{What::kKey, found->second};
  }
  if (registration.endpoint.empty()) return std::nullopt;
  const Publisher publisher = PublisherOf(registration, {});
  const auto [first, last] = event_endpoints_.equal_range(Normalized(registration.endpoint));
  const auto found = std::find_if(
      first, last, [&](const auto& entry) { return !publisher.MayShareWith(entry.second); });
  if (found == last) return std::nullopt;
  return Conflict{What::kEndpoint, found->second.holder};
}

void Reservations::Add(const Registration& registration, const std::string& holder) {
  keys_.emplace(registration.Key(), holder);
  if (!registration.endpoint.empty()) {
    event_endpoints_.emplace(Normalized(registration.endpoint), PublisherOf(registration, holder));
  }
  if (!registration.replay_endpoint.empty()) {
    replay_endpoints_.emplace(Normalized(registration.replay_endpoint), holder);
  }
}

void Reservations::Remove(const Registration& registration) {
  const auto key = keys_.find(registration.Key());
  if (key == keys_.end()) return;
  const auto [first, last] =
      replay_endpoints_.equal_range(Normalized(registration.replay_endpoint));
  const auto replay =
      std::find_if(first, last, [&](const auto& entry) { return entry.second == key->second; });
  if (replay != last) replay_endpoints_.erase(replay);
  const auto [begin, end] = event_endpoints_.equal_range(Normalized(registration.endpoint));
  const auto events = std::find_if(
      begin, end, [&](const auto& entry) { return entry.second.holder == key->second; });
  if (events != end) event_endpoints_.erase(events);
  keys_.erase(key);
}

std::vector<Reservations::Clash> Reservations::Clashes(const Registration& registration) const {
  std::vector<Clash> clashes;
  if (!registration.replay_endpoint.empty()) {
    if (const auto role = RoleOf(registration.replay_endpoint)) {
      clashes.push_back(
          {"replay_endpoint", fmt::format("'{}' is {}", registration.replay_endpoint, *role)});
    }
  }
  const auto replay = replay_endpoints_.find(Normalized(registration.endpoint));
  if (replay != replay_endpoints_.end()) {
    clashes.push_back({"endpoint", fmt::format("'{}' is the replay endpoint of {}",
                                               registration.endpoint, replay->second)});
  }
  return clashes;
}

std::optional<std::string> Reservations::RoleOf(const std::string& address) const {
  const std::string normalized = Normalized(address);
  if (const auto event = event_endpoints_.find(normalized); event != event_endpoints_.end()) {
    return "the event endpoint of " + event->second.holder;
  }
  if (const auto replay = replay_endpoints_.find(normalized); replay != replay_endpoints_.end()) {
    return "the replay endpoint of " + replay->second;
  }
  return std::nullopt;
}

}  // namespace conductor::serve
