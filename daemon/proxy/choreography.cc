#include "daemon/proxy/choreography.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "daemon/proxy/choreographies.h"

namespace conductor::proxy {
namespace {

constexpr std::array<std::pair<std::string_view, Connector>, 7> kConnectors = {{
    {"nixl", Connector::kNixl},
    {"none", Connector::kNone},
    {"store", Connector::kStore},
    {"mooncake", Connector::kMooncake},
    {"ascend", Connector::kAscend},
    {"ascend-layerwise", Connector::kAscendLayerwise},
    {"sglang", Connector::kSglang},
}};

// Of vLLM's family, and of SGLang.
constexpr std::array<std::string_view, 5> kOurs = {"kv_transfer_params", "bootstrap_host",
                                                   "bootstrap_port", "bootstrap_room",
                                                   "data_parallel_rank"};

}  // namespace

std::string_view ConnectorName(Connector connector) {
  return std::ranges::find(kConnectors, connector, &std::pair<std::string_view, Connector>::second)
      ->first;
}

Result<Connector> ParseConnector(std::string_view text) {
  if (text == "mooncake-bootstrap") return Connector::kMooncake;
  const auto* const found =
      std::ranges::find(kConnectors, text, &std::pair<std::string_view, Connector>::first);
  if (found == kConnectors.end()) {
    return Fail(fmt::format("'{}' is no connector", text), {},
                "nixl, none, store, mooncake, ascend, ascend-layerwise or sglang");
  }
  return found->second;
}

Leg Choreography::Prefill(const Asked& asked, const Prefiller& /*prefiller*/) const {
  return {PrefillBody(asked, MinTokens::kRemove, {}), {}};
}

std::unique_ptr<Choreography> MakeChoreography(const ChoreographyOptions& options) {
  switch (options.connector) {
    case Connector::kNixl:
      return MakeNixl(options.override_remote_host);
    case Connector::kNone:
      return MakeNone();
    case Connector::kStore:
      return MakeStore();
    case Connector::kMooncake:
      return MakeMooncake();
    case Connector::kAscend:
      return MakeAscend(options.override_remote_host);
    case Connector::kAscendLayerwise:
      return MakeAscendLayerwise(options.metaserver);
    case Connector::kSglang:
      return MakeSglang();
  }
  return nullptr;
}

std::string PrefillBody(const Asked& asked, MinTokens min_tokens, std::string_view params) {
  std::vector<JsonMembers::Change> changes = {{"stream", "false"}, {"max_tokens", "1"}};
  if (asked.members.Find("max_completion_tokens"))
    changes.push_back({"max_completion_tokens", "1"});
  if (asked.members.Find("stream_options")) changes.push_back({"stream_options", std::nullopt});
  if (min_tokens == MinTokens::kSetToOne) {
    changes.push_back({"min_tokens", "1"});
  } else if (asked.members.Find("min_tokens")) {
    changes.push_back({"min_tokens", std::nullopt});
  }
  if (asked.members.Find("min_completion_tokens")) {
    changes.push_back({"min_completion_tokens", std::nullopt});
  }
  if (!params.empty()) changes.push_back({"kv_transfer_params", params});
  return asked.members.With(changes);
}

std::string DecodeBody(const Asked& asked, std::string_view params) {
  if (params.empty()) return std::string(asked.body);
  const std::array<JsonMembers::Change, 1> changes = {{{"kv_transfer_params", params}}};
  return asked.members.With(changes);
}

std::optional<std::string> WithoutOurs(const JsonMembers& members) {
  std::vector<JsonMembers::Change> changes;
  for (const std::string_view name : kOurs) {
    if (members.Find(name)) changes.push_back({name, std::nullopt});
  }
  if (changes.empty()) return std::nullopt;
  return members.With(changes);
}

bool HasSeveralChoices(const JsonMembers& members) {
  return std::ranges::any_of(std::array{"n", "best_of"}, [&](const char* name) {
    const auto number = members.Find(name);
    return number && *number != "1" && *number != "null";
  });
}

std::string TransferParams(std::string_view answer) {
  const auto members = JsonMembers::Parse(answer);
  if (!members) return {};
  const auto params = members->Find("kv_transfer_params");
  if (!params || !params->starts_with('{')) return {};
  const bool is_empty = params->substr(1).find_first_not_of(" \t\r\n") == params->size() - 2;
  return is_empty ? std::string() : std::string(*params);
}

std::string WithRemoteHost(std::string_view params, std::string_view host) {
  const auto members = JsonMembers::Parse(params);
  if (!members || !members->Find("remote_host")) return std::string(params);
  const std::string text = JsonString(host);
  const std::array<JsonMembers::Change, 1> changes = {{{"remote_host", text}}};
  return members->With(changes);
}

std::string HttpUrl(std::string_view host, uint16_t port) {
  if (host.find(':') != host.npos) return fmt::format("http://[{}]:{}", host, port);
  return fmt::format("http://{}:{}", host, port);
}

}  // namespace conductor::proxy
