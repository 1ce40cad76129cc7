#ifndef CONDUCTOR_DAEMON_PROXY_OPTIONS_H_
#define CONDUCTOR_DAEMON_PROXY_OPTIONS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/proxy/breaker.h"
#include "daemon/proxy/choreography.h"
#include "daemon/proxy/client_connection.h"
#include "daemon/proxy/engine.h"
#include "daemon/proxy/policy.h"
#include "daemon/proxy/upstream.h"
#include "lib/base/clock.h"
#include "lib/base/result.h"

namespace conductor::proxy {

// How the publishers of prefillers are registered at the conductor, and how prompts are asked for.
struct Namespace {
  std::string model;  // empty: what the matched instance is registered with
  std::string tenant = "default";
  std::string lora_name;
  uint32_t block_size = 0;  // tokens; 0: learnt from the engines' events
  // Of registrations only; empty: no hash profile is declared.
  std::string hash_algorithm;
  std::string python_hash_seed;
};

// `conductor proxy` as its flags and its file say it.
struct ProxyOptions {
  std::string host = "127.0.0.1";
  uint16_t port = 8000;  // 0: a free one
  uint32_t threads = 2;

  std::vector<EngineSpec> prefillers;  // with no decoders: engines that do both
  std::vector<EngineSpec> decoders;
  ChoreographyOptions choreography;
  uint16_t bootstrap_port = 8998;  // of prefillers that have no other, for kMooncake and kSglang

  std::vector<std::string> conductors;  // URLs, in the order of preference; empty: nobody is asked
  bool embedded = false;                // an index of its own in place of a conductor
  std::string publishers_file;          // of the index of its own: a file of `conductor serve`
  std::optional<Policy> policy;         // none: kScore where somebody can be asked
  Namespace prompts;
  Duration query_timeout = std::chrono::milliseconds(250);
  Duration registration_timeout = std::chrono::seconds(5);
  Duration tokenize_timeout = std::chrono::milliseconds(250);
  uint64_t token_cache_bytes = 64 << 20;
  // The decoder prefills by itself what it holds but for at most so many tokens; 0: never.
  uint32_t skip_prefill_below = 0;

  Upstreams::Options upstreams;
  ClientConnection::Options clients;
  Breaker::Options breaker;
  uint32_t retries = 2;           // after the first attempt, of each leg
  bool prefill_required = false;  // where no prefiller can be had: 502, and not decode alone
  uint32_t max_requests = 4096;   // in hand; more are answered with 429
  uint32_t max_connections = 16384;
  uint64_t max_inflight_bytes = 512 << 20;  // of the bodies of all requests together
  Duration drain_timeout = std::chrono::seconds(30);

  std::string admin_key;   // of /instances/*; empty: those are refused
  std::string api_key;     // sent to engines in place of the client's own Authorization; or empty
  std::string access_log;  // a file, "-": stdout; empty: none

  // 0: none.
  [[nodiscard]] uint16_t BootstrapPortOf(const EngineSpec& prefiller) const {
    return prefiller.bootstrap_port.value_or(bootstrap_port);
  }
  [[nodiscard]] bool is_unified() const { return decoders.empty(); }
  [[nodiscard]] bool has_conductor() const { return embedded || !conductors.empty(); }
  [[nodiscard]] Policy effective_policy() const {
    return policy.value_or(has_conductor() ? Policy::kScore : Policy::kLeastLoaded);
  }
};

// Engines as lists of hosts, ports and instance ids: by their places. One host stands for all
// ports, one port for all hosts; no hosts: localhost; no ports: `default_port`. Errors name the
// flags, which begin with "--`what`".
struct EngineLists {
  std::vector<std::string> hosts;
  std::vector<std::string> ports;
  std::vector<std::string> endpoints;  // in place of both: HOST:PORT
  std::vector<std::string> instance_ids;
  // PORT or none; one stands for all. For prefillers these may also stand behind their endpoints:
  // "http://a:8100" "8998" "http://a:8101" "8999".
  std::vector<std::string> bootstrap_ports;
};
[[nodiscard]] Result<std::vector<EngineSpec>> EnginesOf(const EngineLists& lists,
                                                        std::string_view what,
                                                        uint16_t default_port);

// "ID RANK ENDPOINT [ID RANK ENDPOINT]...": publishers of the engine with that instance id.
[[nodiscard]] Status AddRegistrations(const std::vector<std::string>& words,
                                      std::vector<EngineSpec>& engines);

// "HOST:PORT" (http), or what lib/client/conductor_url.h takes.
[[nodiscard]] Result<std::string> ConductorAddress(std::string_view text);

// Reads the proxy's configuration file into `options`: `conductor`, `prefill` and `decode` as the
// Mooncake Conductor's example has them, and `proxy` with any flag by its name with underscores.
// docs/proxy.md describes it. Errors name the file and the JSON path; an unknown key is one.
[[nodiscard]] Status ReadProxyFile(const std::string& path, ProxyOptions& options);
[[nodiscard]] Status ReadProxyJson(std::string_view json, std::string_view name,
                                   ProxyOptions& options);

// What can only be said of all of it: no engine at all, one named twice, a policy that asks nobody.
[[nodiscard]] Status CheckOptions(const ProxyOptions& options);
// Two prefillers at one bootstrap server would be taken for each other: decoders fetch from the one
// what the other has computed, and wait in vain.
[[nodiscard]] Status CheckBootstrap(const std::vector<EngineSpec>& prefillers,
                                    const ProxyOptions& options);

// A limit or a time as people set it, by a flag or a key of the file. The one list of them.
struct ProxySetting {
  std::string_view name;   // the flag without its dashes
  std::string_view shape;  // "N", "SIZE", "TIME", "NAME"
  std::string_view help;   // without the default
  bool common = false;     // stands in the short help
  // Reads `text` into `options`; why not.
  Status (*set)(std::string_view text, ProxyOptions& options);
  // The value in `options`, as `set` takes it; empty: none.
  std::string (*show)(const ProxyOptions& options);

  [[nodiscard]] std::string Key() const;  // "connect_timeout"
};
[[nodiscard]] const std::vector<ProxySetting>& ProxySettings();

}  // namespace conductor::proxy

#endif  // CONDUCTOR_DAEMON_PROXY_OPTIONS_H_
