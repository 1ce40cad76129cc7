#include "daemon/proxy/instance_map.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "daemon/proxy/asio.h"
#include "lib/base/endpoint.h"

namespace conductor::proxy {
namespace {

// One of the conductor's instances, with all its publishers.
struct Instance {
  KnownInstance known;
  std::set<std::string> hosts;  // of its event endpoints, as registered
  uint16_t port = 0;            // the least of these
};

std::vector<Instance> InstancesOf(const std::vector<client::PublisherEntry>& publishers) {
  std::map<std::string, Instance> by_id;
  for (const client::PublisherEntry& entry : publishers) {
    if (entry.type == "Mooncake") continue;
    Instance& instance = by_id[entry.tenant_id + "|" + entry.instance_id];
    instance.known = {entry.instance_id, entry.tenant_id, entry.model,
                      std::max(instance.known.block_size, entry.block_size)};
    const auto endpoint = Endpoint::Parse(entry.endpoint);
    if (!endpoint || !endpoint->is_tcp()) continue;
    instance.hosts.insert(endpoint->host);
    if (instance.port == 0 || endpoint->port < instance.port) instance.port = endpoint->port;
  }
  std::vector<Instance> instances;
  for (auto& [id, instance] : by_id) instances.push_back(std::move(instance));
  std::ranges::stable_sort(instances, {}, &Instance::port);
  return instances;
}

bool NamesPort(const std::string& id, uint16_t port) {
  const std::string text = std::to_string(port);
  if (!id.ends_with(text)) return false;
  if (id.size() == text.size()) return true;
  const char before = id[id.size() - text.size() - 1];
  return before < '0' || before > '9';
}

class Matcher {
 public:
  Matcher(const std::vector<EngineSpec>& engines, std::vector<Instance> instances,
          const LookUp& look_up)
      : engines_(engines), instances_(std::move(instances)), look_up_(look_up) {}

  InstanceMap Run() {
    for (const EngineSpec& engine : engines_) {
      if (engine.instance_id.empty()) continue;
      const auto found = std::ranges::find(instances_, engine.instance_id, [](const Instance& one) {
        return one.known.instance_id;
      });
      if (found == instances_.end()) {
        Warn(engine, fmt::format("the conductor knows no instance '{}'", engine.instance_id));
      } else {
        Take(engine, *found);
      }
    }
    for (const EngineSpec& engine : engines_) {
      if (!IsOpen(engine)) continue;
      for (const Instance& instance : instances_) {
        if (!IsTaken(instance) && SameHost(engine, instance) &&
            NamesPort(instance.known.instance_id, engine.port)) {
          Take(engine, instance);
          break;
        }
      }
    }
    for (const EngineSpec& engine : engines_) {
      if (IsOpen(engine)) MatchHost(engine);
    }
    return std::move(map_);
  }

 private:
  // The engine, and all that share its host.
  void MatchHost(const EngineSpec& engine) {
    std::vector<const Instance*> instances;
    for (const Instance& instance : instances_) {
      if (!IsTaken(instance) && SameHost(engine, instance)) instances.push_back(&instance);
    }
    std::vector<const EngineSpec*> engines;
    for (const EngineSpec& other : engines_) {
      if (IsOpen(other) && Addresses(other.host) == Addresses(engine.host)) {
        engines.push_back(&other);
      }
    }
    if (instances.empty()) {
      return Warn(engine, "the conductor has no event endpoint on its host");
    }
    if (instances.size() != engines.size()) {
      return Warn(engine,
                  fmt::format("its host has {} instances at the conductor and {} engines here; say "
                              "which is which with --prefiller-instance-ids",
                              instances.size(), engines.size()));
    }
    std::ranges::sort(engines, {}, &EngineSpec::port);
    for (size_t i = 0; i < engines.size(); ++i) Take(*engines[i], *instances[i]);
  }

  const std::set<std::string>& Addresses(const std::string& host) {
    const auto [found, is_new] = addresses_.try_emplace(host);
    if (is_new) {
      found->second = look_up_(host);
      if (found->second.empty()) found->second = {host};
    }
    return found->second;
  }
  bool SameHost(const EngineSpec& engine, const Instance& instance) {
    return std::ranges::any_of(instance.hosts, [&](const std::string& host) {
      if (host == engine.host) return true;
      const auto& ours = Addresses(engine.host);
      const auto& theirs = Addresses(host);
      return std::ranges::any_of(ours,
                                 [&](const std::string& one) { return theirs.contains(one); });
    });
  }
  [[nodiscard]] bool IsOpen(const EngineSpec& engine) const {
    return !map_.engines.contains(engine.Name()) && !warned_.contains(engine.Name());
  }
  [[nodiscard]] bool IsTaken(const Instance& instance) const {
    return taken_.contains(instance.known.tenant + "|" + instance.known.instance_id);
  }
  void Take(const EngineSpec& engine, const Instance& instance) {
    map_.engines[engine.Name()] = instance.known;
    taken_.insert(instance.known.tenant + "|" + instance.known.instance_id);
  }
  void Warn(const EngineSpec& engine, const std::string& what) {
    warned_.insert(engine.Name());
    map_.warnings.push_back(fmt::format("{}: {}", engine.Name(), what));
  }

  const std::vector<EngineSpec>& engines_;
  const std::vector<Instance> instances_;
  const LookUp& look_up_;
  InstanceMap map_;
  std::set<std::string> taken_;
  std::set<std::string> warned_;
  std::map<std::string, std::set<std::string>> addresses_;
};

}  // namespace

InstanceMap MatchInstances(const std::vector<EngineSpec>& engines,
                           const std::vector<client::PublisherEntry>& publishers,
                           const LookUp& look_up) {
  return Matcher(engines, InstancesOf(publishers), look_up).Run();
}

std::set<std::string> AddressesOf(const std::string& host) {
  net::io_context io;
  tcp::resolver resolver(io);
  error_code error;
  const auto found = resolver.resolve(host, "", error);
  std::set<std::string> addresses;
  if (error) return addresses;
  for (const auto& entry : found) addresses.insert(entry.endpoint().address().to_string());
  return addresses;
}

}  // namespace conductor::proxy
