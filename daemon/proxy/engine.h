#ifndef CONDUCTOR_DAEMON_PROXY_ENGINE_H_
#define CONDUCTOR_DAEMON_PROXY_ENGINE_H_

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/proxy/asio.h"
#include "lib/base/result.h"

namespace conductor::proxy {

// What an engine is there for. kUnified does both: where no decoders are named.
enum class Role : uint8_t { kPrefill, kDecode, kUnified };

// "prefill", "decode", "unified".
[[nodiscard]] std::string_view RoleName(Role role);

// A publisher of an engine's KV events, for the conductor: of one data-parallel rank.
struct EventSource {
  uint32_t dp_rank = 0;
  std::string endpoint;
  std::string replay_endpoint;  // empty: none

  friend bool operator==(const EventSource&, const EventSource&) = default;
};

// An engine as its operator names it.
struct EngineSpec {
  std::string host;  // a name or an address, IPv6 without brackets
  uint16_t port = 0;
  std::string instance_id;          // the conductor's; empty: found out (instance_map.h)
  std::vector<EventSource> events;  // to be registered at the conductor; empty: nothing is
  // Where its bootstrap server listens (kMooncake, kSglang). Nothing: at the port of all; 0: it has
  // none that is to be named.
  std::optional<uint16_t> bootstrap_port;

  // "HOST:PORT", IPv6 in brackets: what an engine is called.
  [[nodiscard]] std::string Name() const;
  // "HOST:PORT", "http://HOST:PORT" and the same with a "/" behind it.
  [[nodiscard]] static Result<EngineSpec> Parse(std::string_view text);
  // A bootstrap port: "1" to "65535", or "none", which is 0.
  [[nodiscard]] static Result<uint16_t> ParseBootstrapPort(std::string_view text);

  friend bool operator==(const EngineSpec&, const EngineSpec&) = default;
};

// What a Mooncake engine's bootstrap server says of its ranks.
using BootstrapIds = std::map<uint32_t, std::string>;  // rank -> engine_id

// One engine while it is known: where its name leads now, and what has been learnt of it. How it
// stands (load, breaker) is the fleet's. Any thread.
class Engine {
 public:
  Engine(Role role, EngineSpec spec);

  [[nodiscard]] Role role() const { return role_; }
  [[nodiscard]] const EngineSpec& spec() const { return spec_; }
  [[nodiscard]] const std::string& name() const { return name_; }

  // Looks its name up, and blocks for that; an address it is done with at once. Where that fails,
  // what was found before stands.
  Status Resolve();
  // The same, by whoever looked it up without blocking.
  void SetAddresses(std::vector<tcp::endpoint> addresses);
  [[nodiscard]] std::vector<tcp::endpoint> addresses() const;

  // Empty while its bootstrap server does not say.
  [[nodiscard]] BootstrapIds bootstrap() const;
  void SetBootstrap(BootstrapIds ids);
  // It has said some, be they forgotten since.
  [[nodiscard]] bool has_been_ready() const;
  // 0, 1, 2, ...: for what goes round among its ranks.
  [[nodiscard]] uint32_t Turn() { return turn_.fetch_add(1, std::memory_order_relaxed); }

 private:
  const Role role_;
  const EngineSpec spec_;
  const std::string name_;
  mutable std::mutex mutex_;  // guards the rest
  std::vector<tcp::endpoint> addresses_;
  BootstrapIds bootstrap_;
  bool has_been_ready_ = false;
  std::atomic<uint32_t> turn_ = 0;  // a count, which orders nothing
};

}  // namespace conductor::proxy

#endif  // CONDUCTOR_DAEMON_PROXY_ENGINE_H_
