#include "daemon/proxy/options.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "lib/base/endpoint.h"
#include "lib/base/number.h"
#include "lib/client/conductor_url.h"

namespace conductor::proxy {

namespace {

// HOST:PORT, and behind those of prefillers perhaps a bootstrap port.
Result<std::vector<EngineSpec>> EnginesAt(const std::vector<std::string>& words,
                                          std::string_view what) {
  std::vector<EngineSpec> engines;
  const std::string flag = fmt::format("--{}-endpoints", what);
  for (const std::string& word : words) {
    const bool has_place =
        what == "prefiller" && !engines.empty() && !engines.back().bootstrap_port;
    if (has_place && word.find(':') == std::string::npos) {
      const auto port = EngineSpec::ParseBootstrapPort(word);
      if (!port) return tl::unexpected(Error(port.error()).Within(flag));
      engines.back().bootstrap_port = *port;
      continue;
    }
    auto engine = EngineSpec::Parse(word);
    if (!engine) return tl::unexpected(std::move(engine.error()).Within(flag));
    engines.push_back(*std::move(engine));
  }
  return engines;
}

Status AddBootstrapPorts(std::vector<std::string> ports, std::string_view what,
                         std::vector<EngineSpec>& engines) {
  if (ports.empty()) return {};
  const std::string flag = fmt::format("--{}-bootstrap-ports", what);
  if (ports.size() == 1 && !engines.empty()) ports.resize(engines.size(), ports.front());
  if (ports.size() != engines.size()) {
    return Fail(fmt::format("{} ports for {} engines", ports.size(), engines.size()), flag,
                "one for each, by its place, or one for all");
  }
  for (size_t i = 0; i < engines.size(); ++i) {
    if (engines[i].bootstrap_port) {
      return Fail(fmt::format("{} has one already, behind its address", engines[i].Name()), flag,
                  "the one or the other");
    }
    const auto port = EngineSpec::ParseBootstrapPort(ports[i]);
    if (!port) return tl::unexpected(Error(port.error()).Within(flag));
    engines[i].bootstrap_port = *port;
  }
  return {};
}

}  // namespace

Result<std::vector<EngineSpec>> EnginesOf(const EngineLists& lists, std::string_view what,
                                          uint16_t default_port) {
  std::vector<EngineSpec> engines;
  if (!lists.endpoints.empty()) {
    if (!lists.hosts.empty() || !lists.ports.empty()) {
      return Fail("stands beside hosts or ports", fmt::format("--{}-endpoints", what),
                  "the one or the other");
    }
    auto at = EnginesAt(lists.endpoints, what);
    if (!at) return at;
    engines = *std::move(at);
  } else if (!lists.hosts.empty() || !lists.ports.empty()) {
    auto hosts = lists.hosts;
    auto ports = lists.ports;
    if (hosts.empty()) hosts = {"localhost"};
    if (ports.empty()) ports = {std::to_string(default_port)};
    const size_t count = std::max(hosts.size(), ports.size());
    if (hosts.size() == 1) hosts.resize(count, hosts.front());
    if (ports.size() == 1) ports.resize(count, ports.front());
    if (hosts.size() != ports.size()) {
      return Fail(fmt::format("{} hosts and {} ports", hosts.size(), ports.size()),
                  fmt::format("--{}-hosts, --{}-ports", what, what),
                  "as many of the one as of the other, or one of either for all");
    }
    for (size_t i = 0; i < count; ++i) {
      const bool bare_ipv6 = hosts[i].find(':') != std::string::npos && hosts[i][0] != '[';
      const std::string host = bare_ipv6 ? fmt::format("[{}]", hosts[i]) : hosts[i];
      auto engine = EngineSpec::Parse(fmt::format("{}:{}", host, ports[i]));
      if (!engine) {
        return tl::unexpected(
            std::move(engine.error()).Within(fmt::format("--{}-hosts, --{}-ports", what, what)));
      }
      engines.push_back(*std::move(engine));
    }
  }
  if (!lists.instance_ids.empty() && lists.instance_ids.size() != engines.size()) {
    return Fail(fmt::format("{} ids for {} engines", lists.instance_ids.size(), engines.size()),
                fmt::format("--{}-instance-ids", what), "one for each, by its place");
  }
  for (size_t i = 0; i < lists.instance_ids.size(); ++i) {
    engines[i].instance_id = lists.instance_ids[i];
  }
  if (const auto added = AddBootstrapPorts(lists.bootstrap_ports, what, engines); !added) {
    return tl::unexpected(added.error());
  }
  return engines;
}

Status AddRegistrations(const std::vector<std::string>& words, std::vector<EngineSpec>& engines) {
  constexpr const char* kFlag = "--prefiller-registration";
  for (size_t i = 0; i + 2 < words.size(); i += 3) {
    const auto engine = std::ranges::find(engines, words[i], &EngineSpec::instance_id);
    if (engine == engines.end()) {
      return Fail(fmt::format("'{}' is no prefiller's instance id", words[i]), kFlag,
                  "one of --prefiller-instance-ids");
    }
    const auto rank = ParseNumber(words[i + 1], "a rank", 0, INT32_MAX);
    if (!rank) return tl::unexpected(Error(rank.error()).Within(kFlag));
    const auto endpoint = Endpoint::Parse(words[i + 2]);
    if (!endpoint) return tl::unexpected(Error(endpoint.error()).Within(kFlag));
    engine->events.push_back({static_cast<uint32_t>(*rank), words[i + 2], {}});
  }
  return {};
}

Result<std::string> ConductorAddress(std::string_view text) {
  const std::string url = text.find("://") == std::string_view::npos
                              ? fmt::format("http://{}", text)
                              : std::string(text);
  return client::ConductorUrl::Parse(url).map(
      [](const client::ConductorUrl& parsed) { return parsed.text; });
}

namespace {

// An address of this machine only, as far as its text says.
bool IsLoopback(const std::string& host) {
  error_code error;
  const auto address = net::ip::make_address(host, error);
  return error ? host == "localhost" : address.is_loopback();
}

// Decoders of kAscendLayerwise are told where to call the proxy.
Status CheckMetaserver(const ProxyOptions& options) {
  constexpr const char* kExpected = "http://HOST:PORT/v1/metaserver, as decoders reach this proxy";
  const std::string& url = options.choreography.metaserver;
  if (!url.empty()) {
    const bool is_url = url.starts_with("http://") || url.starts_with("https://");
    if (!is_url || url.find_first_of(" \"\\") != std::string::npos) {
      return Fail(fmt::format("'{}' is no URL", url), "--metaserver", kExpected);
    }
    return {};
  }
  if (options.choreography.connector != Connector::kAscendLayerwise) return {};
  error_code error;
  const auto address = net::ip::make_address(options.host, error);
  if (!error && address.is_unspecified()) {
    return Fail(fmt::format("is missing: no decoder can call back to {}, which is every address",
                            options.host),
                "--metaserver", kExpected);
  }
  if (!IsLoopback(options.host)) return {};
  for (const EngineSpec& decoder : options.decoders) {
    if (IsLoopback(decoder.host)) continue;
    return Fail(fmt::format("is missing: {} cannot call back to {}, which is its own machine there",
                            decoder.Name(), options.host),
                "--metaserver", kExpected);
  }
  return {};
}

}  // namespace

Status CheckBootstrap(const std::vector<EngineSpec>& prefillers, const ProxyOptions& options) {
  const Connector connector = options.choreography.connector;
  const bool is_mooncake = connector == Connector::kMooncake;
  if (options.is_unified() || (!is_mooncake && connector != Connector::kSglang)) return {};
  std::map<std::pair<std::string, uint16_t>, std::string> servers;
  for (const EngineSpec& engine : prefillers) {
    const uint16_t port = options.BootstrapPortOf(engine);
    if (port == 0 && is_mooncake) {
      return Fail("has no bootstrap server", engine.Name(),
                  "a port: decoders of mooncake ask there for its blocks");
    }
    if (port == 0) continue;
    const auto [other, is_new] = servers.emplace(std::pair(engine.host, port), engine.Name());
    if (is_new) continue;
    return Fail(fmt::format("its bootstrap port {} is that of {} too", port, other->second),
                engine.Name(),
                "one of its own: --prefiller-bootstrap-ports, or bootstrap_port in the file");
  }
  return {};
}

Status CheckOptions(const ProxyOptions& options) {
  if (options.prefillers.empty() && options.decoders.empty()) {
    return Fail("no engine is named", {},
                "--prefiller-hosts and --decoder-hosts, or --engine-endpoints");
  }
  if (options.prefillers.empty()) {
    return Fail("decoders are named, and no prefiller", {},
                "--prefiller-hosts, or --engine-endpoints for engines that do both");
  }
  for (const auto* engines : {&options.prefillers, &options.decoders}) {
    std::set<std::string> names;
    std::set<std::string> ids;
    for (const EngineSpec& engine : *engines) {
      if (!names.insert(engine.Name()).second) {
        return Fail("is named twice", engine.Name(), "every engine once");
      }
      if (!engine.instance_id.empty() && !ids.insert(engine.instance_id).second) {
        return Fail(fmt::format("instance id '{}' is another engine's too", engine.instance_id),
                    engine.Name(), "one of its own");
      }
      if (!engine.events.empty() && engine.instance_id.empty()) {
        return Fail("is to be registered, and has no instance id", engine.Name(), "an instance id");
      }
    }
  }
  if (const auto checked = CheckBootstrap(options.prefillers, options); !checked) return checked;
  if (options.embedded && !options.conductors.empty()) {
    return Fail("stands beside --conductor-address", "--embedded", "the one or the other");
  }
  if (!options.publishers_file.empty() && !options.embedded) {
    return Fail("is read by --embedded only", "--publishers", "both");
  }
  const bool registers = std::ranges::any_of(
      options.prefillers, [](const EngineSpec& engine) { return !engine.events.empty(); });
  if (registers && options.prompts.model.empty()) {
    return Fail("publishers are to be registered, and the model is not named", {}, "--model");
  }
  if (options.policy && AsksConductor(*options.policy) && !options.has_conductor()) {
    return Fail(fmt::format("{} needs to ask who holds what", PolicyName(*options.policy)),
                "--policy", "--conductor-address or --embedded beside it");
  }
  if (options.prompts.hash_algorithm.empty() != options.prompts.python_hash_seed.empty()) {
    return Fail("one of --hash-algorithm and --python-hash-seed is missing", {}, "both or none");
  }
  return CheckMetaserver(options);
}

}  // namespace conductor::proxy
