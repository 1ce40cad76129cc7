#include "daemon/serve/registration.h"

#include <arpa/inet.h>
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
constexpr std::array kTypes = {PublisherType::kVllm,        PublisherType::kVllmAscend,
                               PublisherType::kSglang,      PublisherType::kLmcache,
                               PublisherType::kTensorRtLlm, PublisherType::kRfc1527,
                               PublisherType::kMooncake};

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

// An IPv4 or IPv6 address, the latter perhaps with its zone.
bool IsNumericAddress(const std::string& text) {
  in6_addr any{};
  return ::inet_pton(AF_INET, text.c_str(), &any) == 1 ||
         ::inet_pton(AF_INET6, text.substr(0, text.find('%')).c_str(), &any) == 1;
}

std::string Shown(std::string_view text) {
  return text.size() <= kMaxShownBytes ? std::string(text)
                                       : std::string(text.substr(0, kMaxShownBytes)) + "...";
}

enum class Use : uint8_t { kConnect, kBind };

// `text` as an address that ZeroMQ can use so.
Result<Endpoint> ReadAddress(const std::string& text, const char* field, Use use) {
  auto endpoint = Endpoint::Parse(text);
  if (!endpoint) {
    return Fail(fmt::format("'{}' {}", Shown(text), endpoint.error().what), field,
                endpoint.error().expected);
  }
  if (endpoint->scheme == "inproc") {
    return Fail(fmt::format("'{}' is inside of one process", Shown(text)), field,
                "tcp://HOST:PORT or ipc://PATH");
  }
  const bool any_address = endpoint->is_tcp() && endpoint->host == "*";
  if (any_address && use == Use::kConnect) {
    return Fail(
        fmt::format("'{}' has * as its host, which only the engine itself can use", Shown(text)),
        field, "the name or address of the engine's machine, or \"mode\": \"bind\"");
  }
  if (endpoint->is_tcp() && !any_address && !IsHost(endpoint->host)) {
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

std::string_view PublisherTypeName(PublisherType type) { return wire::DialectName(type); }

Result<PublisherType> ParsePublisherType(std::string_view text) {
  const auto lower = [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  };
  for (const PublisherType type : kTypes) {
    if (std::ranges::equal(text, PublisherTypeName(type), {}, lower, lower)) return type;
  }
  return Fail(fmt::format("'{}' is not a publisher type", Shown(text)), "type",
              PublisherTypeNames());
}

std::string PublisherTypeNames() {
  std::string names;
  for (const PublisherType type : kTypes) {
    if (!names.empty()) names += type == kTypes.back() ? " or " : ", ";
    names += PublisherTypeName(type);
  }
  return names;
}

Result<std::string> ParseAdminEndpoint(std::string_view text) {
  constexpr std::string_view kScheme = "http://";
  std::string_view rest = text;
  if (rest.starts_with(kScheme)) rest.remove_prefix(kScheme.size());
  if (rest.ends_with('/')) rest.remove_suffix(1);
  const auto address = Endpoint::Parse(fmt::format("tcp://{}", rest));
  if (!address || !IsHost(address->host)) {
    return Fail(fmt::format("'{}' is not an HTTP address", Shown(text)), "admin_endpoint",
                "HOST:PORT or http://HOST:PORT");
  }
  return address->ToString().substr(std::string_view("tcp://").size());
}

std::string_view ListenModeName(stream::ListenMode mode) {
  switch (mode) {
    case stream::ListenMode::kConnect:
      return "connect";
    case stream::ListenMode::kBind:
      return "bind";
    case stream::ListenMode::kIngest:
      return "ingest";
  }
  return "";
}

std::string Registration::Key() const {
  return fmt::format("{}|{}|{}", instance_id, tenant, dp_rank);
}

std::string Registration::Source() const {
  return mode == stream::ListenMode::kIngest ? "/v1/ingest" : endpoint;
}

std::vector<std::string_view> DifferingFields(const Registration& a, const Registration& b) {
  std::vector<std::string_view> fields;
  const auto compare = [&](std::string_view name, bool same) {
    if (!same) fields.push_back(name);
  };
  compare("endpoint", a.endpoint == b.endpoint);
  compare("replay_endpoint", a.replay_endpoint == b.replay_endpoint);
  compare("mode", a.mode == b.mode);
  compare("peer", a.peer == b.peer);
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
  compare("incarnation", a.incarnation == b.incarnation);
  compare("ttl", a.ttl == b.ttl);
  compare("hash_profile", a.hash_profile == b.hash_profile);
  compare("bytes_per_block", a.bytes_per_block == b.bytes_per_block);
  compare("pool_lookup", a.pool.lookup == b.pool.lookup);
  compare("tp_size", a.pool.tp_size == b.pool.tp_size);
  compare("kv_heads", a.pool.kv_heads == b.pool.kv_heads);
  compare("pp_size", a.pool.pp_size == b.pool.pp_size);
  compare("layers", a.pool.layers == b.pool.layers);
  compare("admin_endpoint", a.pool.admin_endpoint == b.pool.admin_endpoint);
  compare("key_models", a.pool.key_models == b.pool.key_models);
  return fields;
}

namespace {

// Nobody is listened to.
Status ValidateNoAddresses(const Registration& registration) {
  struct Field {
    const std::string& text;
    const char* name;
  };
  for (const auto& [text, name] :
       {Field{registration.endpoint, "endpoint"},
        Field{registration.replay_endpoint, "replay_endpoint"}, Field{registration.peer, "peer"},
        Field{registration.topic, "topic"},
        Field{registration.pool.admin_endpoint, "admin_endpoint"}}) {
    if (text.empty()) continue;
    return Fail("has no meaning where events are handed in", name,
                "none of it, or another mode than \"ingest\"");
  }
  return {};
}

Status ValidateAddresses(const Registration& registration) {
  if (registration.mode == stream::ListenMode::kIngest) return ValidateNoAddresses(registration);
  const bool bound = registration.mode == stream::ListenMode::kBind;
  if (registration.endpoint.empty()) {
    return Fail("is empty", "endpoint", "tcp://HOST:PORT or ipc://PATH");
  }
  const auto endpoint =
      ReadAddress(registration.endpoint, "endpoint", bound ? Use::kBind : Use::kConnect);
  if (!endpoint) return tl::unexpected(endpoint.error());
  if (!registration.peer.empty() && !bound) {
    return Fail("has no meaning where Conductor connects", "peer", "\"mode\": \"bind\" beside it");
  }
  if (!registration.peer.empty() && !IsNumericAddress(registration.peer)) {
    return Fail(fmt::format("'{}' is not an address", Shown(registration.peer)), "peer",
                "the IPv4 or IPv6 address that the publisher connects from, not a name");
  }
  if (registration.replay_endpoint.empty()) return {};
  const auto replay = ReadAddress(registration.replay_endpoint, "replay_endpoint", Use::kConnect);
  if (!replay) return tl::unexpected(replay.error());
  if (*replay != *endpoint) return {};
  return Fail(fmt::format("'{}' is the event endpoint", registration.replay_endpoint),
              "replay_endpoint", "the engine's own replay socket, or none");
}

// Fields that only one kind of publisher can have.
Status ValidateKind(const Registration& registration) {
  const PoolRegistration& pool = registration.pool;
  if (IsPool(registration.type)) {
    if (pool.kv_heads && !pool.tp_size) {
      return Fail("stands without tp_size", "kv_heads",
                  "both: heads are spread over the tensor-parallel ranks");
    }
    if (!pool.admin_endpoint.empty()) {
      const auto address = ParseAdminEndpoint(pool.admin_endpoint);
      if (!address) return tl::unexpected(address.error());
    }
    for (const auto& [key, model] : pool.key_models) {
      if (auto status = ValidateName(key, "key_models", false); !status) return status;
      if (auto status = ValidateName(model, "key_models", false); !status) return status;
    }
    return {};
  }
  if (pool == PoolRegistration{}) return {};
  Registration engine = registration;
  engine.pool = {};
  const std::string field(DifferingFields(registration, engine).front());
  return Fail(
      fmt::format("has no meaning for an engine ({})", PublisherTypeName(registration.type)), field,
      "\"type\": \"Mooncake\" beside it");
}

}  // namespace

Status Validate(const Registration& registration) {
  if (auto status = ValidateAddresses(registration); !status) return status;
  struct Name {
    const std::string& text;
    const char* field;
    bool may_be_empty;
  };
  const std::array<Name, 7> names{{
      {registration.model, "modelname", false},
      {registration.instance_id, "instance_id", false},
      {registration.tenant, "tenant_id", false},
      {registration.lora_name, "lora_name", true},
      {registration.additional_salt, "additional_salt", true},
      {registration.topic, "topic", true},
      {registration.incarnation, "incarnation", true},
  }};
  for (const auto& [text, field, may_be_empty] : names) {
    if (auto status = ValidateName(text, field, may_be_empty); !status) return status;
  }
  if (auto status = ValidateKeyPart(registration.instance_id, "instance_id"); !status) {
    return status;
  }
  if (auto status = ValidateKeyPart(registration.tenant, "tenant_id"); !status) return status;
  if (auto status = ValidateNumber(registration.block_size, "block_size"); !status) return status;
  if (auto status = ValidateNumber(registration.dp_rank, "dp_rank"); !status) return status;
  if (registration.bytes_per_block > kMaxBytesPerBlock) {
    return Fail(fmt::format("{} is too large", registration.bytes_per_block), "bytes_per_block",
                fmt::format("at most {}", kMaxBytesPerBlock));
  }
  if (registration.hash_profile) {
    const hash::HashProfile& profile = *registration.hash_profile;
    if (auto status = ValidateName(profile.seed, "hash_profile.python_hash_seed", false); !status) {
      return status;
    }
    if (auto status = ValidateNumber(profile.hash_block_size, "hash_profile.hash_block_size");
        !status) {
      return status;
    }
  }
  return ValidateKind(registration);
}

Result<std::vector<Registration>> ExpandRanks(const Registration& registration, uint32_t dp_size) {
  if (auto valid = Validate(registration); !valid) return tl::unexpected(valid.error());
  if (dp_size <= 1) return std::vector{registration};
  if (registration.dp_rank != 0) {
    return Fail(fmt::format("is {} beside dp_size {}", registration.dp_rank, dp_size), "dp_rank",
                "rank 0's entry with dp_size, or an entry for each rank without it");
  }
  const auto events = Endpoint::Parse(registration.endpoint);
  const auto replay = Endpoint::Parse(registration.replay_endpoint);
  if (events && replay && events->host == replay->host) {
    const uint32_t apart =
        events->port > replay->port ? events->port - replay->port : replay->port - events->port;
    if (events->is_tcp() && replay->is_tcp() && apart < dp_size) {
      return Fail(fmt::format("is {} and both ports count up with the rank, so that '{}' of one "
                              "rank is '{}' of another",
                              dp_size, registration.replay_endpoint, registration.endpoint),
                  "dp_size", fmt::format("event and replay ports at least {} apart", dp_size));
    }
  }
  std::vector<Registration> ranks;
  for (uint32_t rank = 0; rank < dp_size; ++rank) {
    Registration& of_rank = ranks.emplace_back(registration);
    of_rank.dp_rank = rank;
    for (std::string* address : {&of_rank.endpoint, &of_rank.replay_endpoint}) {
      if (address->empty()) continue;
      const auto moved = Endpoint::Parse(*address).and_then(
          [rank](const Endpoint& e) { return e.PortPlus(rank); });
      if (!moved) {
        return Fail(fmt::format("is {}, but '{}' has no port for rank {}: {}", dp_size, *address,
                                rank, moved.error().what),
                    "dp_size", "tcp endpoints with so many ports after them");
      }
      *address = moved->ToString();
    }
  }
  return ranks;
}

}  // namespace conductor::serve
