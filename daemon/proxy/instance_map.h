#ifndef CONDUCTOR_DAEMON_PROXY_INSTANCE_MAP_H_
#define CONDUCTOR_DAEMON_PROXY_INSTANCE_MAP_H_

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "daemon/proxy/engine.h"
#include "lib/client/questions.h"

namespace conductor::proxy {

// What the conductor calls an engine, and in which namespace it holds its blocks.
struct KnownInstance {
  std::string instance_id;
  std::string tenant;
  std::string model;
  uint32_t block_size = 0;  // tokens; 0: not known yet

  friend bool operator==(const KnownInstance&, const KnownInstance&) = default;
};

// Which engine is which of the conductor's instances.
struct InstanceMap {
  std::map<std::string, KnownInstance> engines;  // by the engine's name
  std::vector<std::string> warnings;             // one for each engine that is none of them
};

// The addresses that a host's name stands for, as text; of an address itself. Empty: not known.
using LookUp = std::function<std::set<std::string>(const std::string& host)>;

// By the instance id where the engine has one; otherwise by the host of the event endpoint. Where a
// host has several instances, the ones that engines were given by id are out; of the rest, an
// instance id that is or ends with the engine's port (":8100", "-8100") decides; and where still as
// many engines as instances are left, they are paired in the order of their ports. Pools are no
// instances. Pure, but for `look_up`.
[[nodiscard]] InstanceMap MatchInstances(const std::vector<EngineSpec>& engines,
                                         const std::vector<client::PublisherEntry>& publishers,
                                         const LookUp& look_up);

// By the system, which may block.
[[nodiscard]] std::set<std::string> AddressesOf(const std::string& host);

}  // namespace conductor::proxy

#endif  // CONDUCTOR_DAEMON_PROXY_INSTANCE_MAP_H_
