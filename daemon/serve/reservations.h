#ifndef CONDUCTOR_DAEMON_SERVE_RESERVATIONS_H_
#define CONDUCTOR_DAEMON_SERVE_RESERVATIONS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "daemon/serve/registration.h"

namespace conductor::serve {

// Which keys and addresses a set of publishers has, each under its holder's name: what messages
// are to call it by (the path in a file, the key). Addresses are compared as what they mean, not
// as they are written: "tcp://Host:05557" is "tcp://host:5557".
//
// Not thread-safe.
class Reservations {
 public:
  enum class What { kKey, kEndpoint };
  struct Conflict {
    What what;
    std::string holder;
  };
  // A field whose address is somebody else's socket too.
  struct Clash {
    std::string_view field;  // "endpoint" or "replay_endpoint"
    std::string what;        // "'tcp://h:5558' is the event endpoint of <holder>"
  };

  // No two publishers share a key or an event endpoint, but that several may share one that is
  // bound, when peer, topic or rank tells them apart, and that one whose events are handed in has
  // none: who has one of `registration`'s, or nothing.
  // The key comes first.
  [[nodiscard]] std::optional<Conflict> FindConflict(const Registration& registration) const;

  // Precondition: no conflict.
  void Add(const Registration& registration, const std::string& holder);
  // Gives back what Add() took for the same registration.
  void Remove(const Registration& registration);

  // A replay endpoint that is another's event or replay endpoint, or an event endpoint that is
  // another's replay endpoint. One of the two is a mistake, most often the next port where ranks or
  // engines sit at consecutive ports; which one nobody can know, so it can be registered. To be
  // asked before Add(). Of several that share a replay endpoint one is named.
  [[nodiscard]] std::vector<Clash> Clashes(const Registration& registration) const;

  // The same for an address that would be a replay endpoint: "the event endpoint of <holder>", or
  // nothing.
  [[nodiscard]] std::optional<std::string> RoleOf(const std::string& address) const;

 private:
  // Who publishes to an endpoint, and what tells it from others there.
  struct Publisher {
    std::string holder;
    bool bound = false;
    std::string peer;
    std::string topic;
    uint32_t dp_rank = 0;

    [[nodiscard]] bool MayShareWith(const Publisher& other) const;
  };
  [[nodiscard]] static Publisher PublisherOf(const Registration& registration,
                                             const std::string& holder);

  std::unordered_map<std::string, std::string> keys_;
  std::unordered_multimap<std::string, Publisher> event_endpoints_;
  std::unordered_multimap<std::string, std::string> replay_endpoints_;
};

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_RESERVATIONS_H_
