#ifndef CONDUCTOR_LIB_BASE_ENDPOINT_H_
#define CONDUCTOR_LIB_BASE_ENDPOINT_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "lib/base/result.h"

namespace conductor {

// A ZeroMQ address: "tcp://HOST:PORT" (HOST a name, an IPv4 address, or an IPv6 address in
// brackets), "ipc://PATH" or "inproc://NAME".
struct Endpoint {
  std::string scheme;  // "tcp", "ipc" or "inproc"
  std::string host;    // tcp: without brackets; otherwise the path or name
  uint16_t port = 0;   // tcp only

  [[nodiscard]] bool is_tcp() const { return scheme == "tcp"; }

  // The text that ZeroMQ takes; Parse(ToString()) gives this endpoint again.
  [[nodiscard]] std::string ToString() const;

  // The same address `steps` ports further on: a data-parallel rank's, or a replay socket's.
  // An error for other schemes than tcp and for ports above 65535.
  [[nodiscard]] Result<Endpoint> PortPlus(uint32_t steps) const;

  [[nodiscard]] static Result<Endpoint> Parse(std::string_view text);

  friend bool operator==(const Endpoint&, const Endpoint&) = default;
};

}  // namespace conductor

#endif  // CONDUCTOR_LIB_BASE_ENDPOINT_H_
