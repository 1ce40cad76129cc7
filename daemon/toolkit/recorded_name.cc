#include "daemon/toolkit/recorded_name.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "daemon/toolkit/endpoint_text.h"
#include "daemon/toolkit/json_text.h"

namespace conductor::toolkit {
namespace {

using Json = nlohmann::ordered_json;

std::string TextOf(const Json& facts, const char* key) {
  const auto at = facts.find(key);
  return at != facts.end() && at->is_string() ? at->get<std::string>() : std::string();
}

// Of a publisher that connected, what came along with its messages; otherwise empty.
Json PeerOf(const trace::RecordedPublisher& publisher) {
  auto facts = ParseJson(publisher.facts);
  const bool bound = facts && facts->is_object() && TextOf(*facts, "mode") == "bind";
  return bound ? *std::move(facts) : Json::object();
}

// What only a replay endpoint told has no other.
const std::string& EndpointOf(const trace::RecordedPublisher& publisher) {
  return publisher.endpoint.empty() ? publisher.replay_endpoint : publisher.endpoint;
}

}  // namespace

std::string RecordedName(const trace::RecordedPublisher& publisher) {
  std::string name = EndpointOf(publisher);
  const Json peer = PeerOf(publisher);
  if (const std::string address = TextOf(peer, "peer"); !address.empty())
    name += " from " + address;
  if (const std::string topic = TextOf(peer, "peer_topic"); !topic.empty()) name += " " + topic;
  const auto rank = peer.find("dp_rank");
  if (rank != peer.end() && rank->is_number_integer()) {
    name += fmt::format(" rank {}", rank->get<int64_t>());
  }
  return name;
}

std::string RecordedInstance(const trace::RecordedPublisher& publisher) {
  const Json peer = PeerOf(publisher);
  std::string name = TextOf(peer, "peer");
  if (name.empty()) return InstanceAt(EndpointOf(publisher));
  if (const std::string topic = TextOf(peer, "peer_topic"); !topic.empty()) name += " " + topic;
  return InstanceAt(name);
}

}  // namespace conductor::toolkit
