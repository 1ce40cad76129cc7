#include "daemon/serve/registration.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "lib/base/endpoint.h"

namespace conductor::serve {
namespace {

constexpr size_t kMaxNameBytes = 4096;
constexpr size_t kMaxIpcPathBytes = 107;  // sockaddr_un's path without its final zero
constexpr size_t kMaxShownBytes = 200;
constexpr uint32_t kMaxNumber = 2147483647;

bool IsLetterOrDigit(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

// What ZeroMQ takes as a host to connect to: a name, an IPv4 or an IPv6 address with its zone.
bool IsHost(std::string_view host) {
  const auto allowed = [](char c) {
    return IsLetterOrDigit(c) || std::string_view(".-_:%").find(c) != std::string_view::npos;
  };
  return !host.empty() && (IsLetterOrDigit(host.front()) || host.front() == ':') &&
         std::ranges::all_of(host, allowed);
}

std::string Shown(std::string_view text) {
  return text.size() <= kMaxShownBytes ? std::string(text)
                                       : std::string(text.substr(0, kMaxShownBytes)) + "...";
}

// `text` as an address that ZeroMQ can connect to.
Result<Endpoint> ReadAddress(const std::string& text, const char* field) {
  auto endpoint = Endpoint::Parse(text);
  if (!endpoint) {
    return Fail(fmt::format("'{}' {}", Shown(text), endpoint.error().what), field,
                endpoint.error().expected);
  }
  if (endpoint->is_tcp() && endpoint->host == "*") {
    return Fail(
        fmt::format("'{}' has * as its host, which only the engine itself can use", Shown(text)),
        field, "the name or address of the engine's machine");
  }
  if (endpoint->is_tcp() && !IsHost(endpoint->host)) {
    return Fail(fmt::format("'{}' is not a host", Shown(endpoint->host)), field,
                "a name, an IPv4 address or an IPv6 address");
  }
  if (endpoint->scheme == "ipc" && endpoint->host.size() > kMaxIpcPathBytes) {
    return Fail(fmt::format("the path '{}' is too long for a socket", Shown(endpoint->host)), field,
                fmt::format("at most {} bytes", kMaxIpcPathBytes));
  }
  return endpoint;
}

Status ValidateName(std::string_view text, const char* field, bool may_be_empty) {
  if (text.empty() && !may_be_empty) return Fail("is empty", field, "a name");
  if (text.size() > kMaxNameBytes) {
    return Fail(fmt::format("has {} bytes", text.size()), field,
                fmt::format("at most {}", kMaxNameBytes));
  }
  return {};
}

Status ValidateKeyPart(std::string_view text, const char* field) {
  if (text.find('|') == std::string_view::npos) return {};
  return Fail(fmt::format("'{}' has a '|' in it", Shown(text)), field,
              "a name without '|', which separates the parts of a publisher's key");
}

Status ValidateNumber(uint32_t number, const char* field) {
  if (number <= kMaxNumber) return {};
  return Fail(fmt::format("{} is too large", number), field, fmt::format("at most {}", kMaxNumber));
}

}  // namespace

std::string_view PublisherTypeName(PublisherType type) {
  return type == PublisherType::kMooncake ? "Mooncake" : "vLLM";
}

Result<PublisherType> ParsePublisherType(std::string_view text) {
  const auto is = [&](std::string_view lower) {
    return std::ranges::equal(text, lower, [](char a, char b) {
      return (a >= 'A' && a <= 'Z' ? static_cast<char>(a - 'A' + 'a') : a) == b;
    });
  };
  if (is("vllm")) return PublisherType::kVllm;
  if (is("mooncake")) return PublisherType::kMooncake;
  return Fail(fmt::format("'{}' is not a publisher type", Shown(text)), "type", "vLLM or Mooncake");
}

std::string Registration::Key() const {
  return fmt::format("{}|{}|{}", instance_id, tenant, dp_rank);
}

std::vector<std::string_view> DifferingFields(const Registration& a, const Registration& b) {
  std::vector<std::string_view> fields;
  const auto compare = [&](std::string_view name, bool same) {
    if (!same) fields.push_back(name);
  };
  compare("endpoint", a.endpoint == b.endpoint);
  compare("replay_endpoint", a.replay_endpoint == b.replay_endpoint);
  compare("topic", a.topic == b.topic);
  compare("type", a.type == b.type);
  compare("modelname", a.model == b.model);
  compare("lora_name", a.lora_name == b.lora_name);
  compare("tenant_id", a.tenant == b.tenant);
  compare("instance_id", a.instance_id == b.instance_id);
  compare("block_size", a.block_size == b.block_size);
  compare("dp_rank", a.dp_rank == b.dp_rank);
  compare("additional_salt", a.additional_salt == b.additional_salt);
  compare("copies", a.copies == b.copies);
  return fields;
}

Status Validate(const Registration& registration) {
  if (registration.endpoint.empty()) {
    return Fail("is empty", "endpoint", "tcp://HOST:PORT, ipc://PATH or inproc://NAME");
  }
  const auto endpoint = ReadAddress(registration.endpoint, "endpoint");
  if (!endpoint) return tl::unexpected(endpoint.error());
  if (!registration.replay_endpoint.empty()) {
    const auto replay = ReadAddress(registration.replay_endpoint, "replay_endpoint");
    if (!replay) return tl::unexpected(replay.error());
    if (*replay == *endpoint) {
      return Fail(fmt::format("'{}' is the event endpoint", registration.replay_endpoint),
                  "replay_endpoint", "the engine's own replay socket, or none");
    }
  }
  struct Name {
    const std::string& text;
    const char* field;
    bool may_be_empty;
  };
  const std::array<Name, 6> names{{
      {registration.model, "modelname", false},
      {registration.instance_id, "instance_id", false},
      {registration.tenant, "tenant_id", false},
      {registration.lora_name, "lora_name", true},
      {registration.additional_salt, "additional_salt", true},
      {registration.topic, "topic", true},
  }};
  for (const auto& [text, field, may_be_empty] : names) {
    if (auto status = ValidateName(text, field, may_be_empty); !status) return status;
  }
  if (auto status = ValidateKeyPart(registration.instance_id, "instance_id"); !status) {
    return status;
  }
  if (auto status = ValidateKeyPart(registration.tenant, "tenant_id"); !status) return status;
  if (auto status = ValidateNumber(registration.block_size, "block_size"); !status) return status;
  return ValidateNumber(registration.dp_rank, "dp_rank");
}

}  // namespace conductor::serve
