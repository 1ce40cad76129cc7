#ifndef CONDUCTOR_DAEMON_SERVE_REGISTRATION_H_
#define CONDUCTOR_DAEMON_SERVE_REGISTRATION_H_

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/clock.h"
#include "lib/base/result.h"
#include "lib/base/tier.h"
#include "lib/hash/hash_profile.h"
#include "lib/index/prefix_index.h"
#include "lib/stream/transport.h"
#include "lib/wire/dialect.h"

namespace conductor::serve {

// What emits a publisher's events. Those of kMooncake are shared pools' masters, not routable
// engines.
using PublisherType = wire::Dialect;

[[nodiscard]] constexpr bool IsPool(PublisherType type) { return type == PublisherType::kMooncake; }

// "vLLM", "vLLM-Ascend", "SGLang", ...: as configuration files and answers spell them.
[[nodiscard]] std::string_view PublisherTypeName(PublisherType type);
// Case does not matter.
[[nodiscard]] Result<PublisherType> ParsePublisherType(std::string_view text);
// "vLLM, vLLM-Ascend, SGLang, ...": for messages.
[[nodiscard]] std::string PublisherTypeNames();

// What only a pool has; see ingest::PoolProfile.
struct PoolRegistration {
  index::PoolLookup lookup = index::PoolLookup::kFromStart;
  // Components of a block; nothing: learnt from the objects.
  std::optional<uint32_t> tp_size;
  std::optional<uint32_t> kv_heads;
  std::optional<uint32_t> pp_size;
  std::optional<uint32_t> layers;
  // "HOST:PORT" of the master's HTTP port; empty: none.
  std::string admin_endpoint;
  // Model in object keys -> model as queries name it; empty: see ingest::PoolProfile.
  std::map<std::string, std::string> key_models;

  friend bool operator==(const PoolRegistration&, const PoolRegistration&) = default;
};

// One publisher as a configuration file or a request names it, whatever generation's words were
// used (docs/http-api.md and conductor.json(5) list them).
struct Registration {
  // "tcp://127.0.0.1:5557"; to be bound: "tcp://*:5557" too. None where events are handed in.
  std::string endpoint;
  std::string replay_endpoint;  // empty: none
  stream::ListenMode mode = stream::ListenMode::kConnect;
  std::string peer;   // bound endpoints: address of the publisher's machine; empty: any
  std::string topic;  // subscription prefix; empty: everything
  PublisherType type = PublisherType::kVllm;
  std::string model;
  std::string lora_name;
  std::string tenant = "default";
  std::string instance_id;
  uint32_t block_size = 0;  // tokens; 0: learnt from the first stored event with tokens
  uint32_t dp_rank = 0;
  std::string additional_salt;
  index::CopyMode copies = index::CopyMode::kCount;
  // Names one life of the publisher, where a supervisor knows it; another one is a new life.
  std::string incarnation;
  // After so long what was stored on the tier is taken for gone; 0: never.
  std::array<Duration, kTierCount> ttl{};
  std::optional<hash::HashProfile> hash_profile;
  // Of one block of KV cache on one rank; 0: not said. For people: nothing is decided by it.
  uint64_t bytes_per_block = 0;
  PoolRegistration pool;

  // "instance_id|tenant|dp_rank": what /unregister speaks of; unique among registered publishers.
  [[nodiscard]] std::string Key() const;
  // Its endpoint, or what stands for one in messages.
  [[nodiscard]] std::string Source() const;

  friend bool operator==(const Registration&, const Registration&) = default;
};

inline constexpr uint64_t kMaxBytesPerBlock = uint64_t{1} << 40;

// "connect", "bind", "ingest".
[[nodiscard]] std::string_view ListenModeName(stream::ListenMode mode);

// "HOST:PORT" of `text`, which may stand behind "http://" and before a "/".
[[nodiscard]] Result<std::string> ParseAdminEndpoint(std::string_view text);

// The names, as requests spell them, of the fields in which two registrations differ.
[[nodiscard]] std::vector<std::string_view> DifferingFields(const Registration& a,
                                                            const Registration& b);

// Checks what no publisher could ever have: empty endpoint (or one, where events are handed in),
// model or instance id, addresses that
// ZeroMQ cannot connect to (or bind), names above 4096 bytes, numbers above 2147483647, a '|' in
// instance_id or tenant (it separates the parts of a key), a peer that is no address, fields that
// mean nothing for the type or the mode.
// The error's `where` is the field's name as files and requests have it: "endpoint",
// "replay_endpoint", "modelname", "tenant_id", ...
[[nodiscard]] Status Validate(const Registration& registration);

// The registrations of ranks 0 to dp_size - 1 of an engine whose rank 0 is `registration`: both
// ports one further on for each rank, as vLLM and SGLang count them. `dp_size` 1 is `registration`
// itself, of any rank. Errors: what Validate() says of it; with `where` "dp_size" or "dp_rank",
// endpoints that are not tcp, ports above 65535, event and replay ports of which two would be the
// same, a rank other than 0 beside dp_size.
[[nodiscard]] Result<std::vector<Registration>> ExpandRanks(const Registration& registration,
                                                            uint32_t dp_size);

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_REGISTRATION_H_
