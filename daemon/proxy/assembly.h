#ifndef CONDUCTOR_DAEMON_PROXY_ASSEMBLY_H_
#define CONDUCTOR_DAEMON_PROXY_ASSEMBLY_H_

#include <cstdint>
#include <memory>

#include "daemon/proxy/options.h"
#include "lib/base/clock.h"
#include "lib/base/result.h"

namespace conductor::proxy {

// One proxy with all its parts, put together as its options say. A process may have several.
class Assembly {
 public:
  // Listens and takes requests. Errors say what could not be had: a port, a file, a conductor's
  // address.
  [[nodiscard]] static Result<std::unique_ptr<Assembly>> Start(const ProxyOptions& options);
  ~Assembly();  // Stop()
  Assembly(const Assembly&) = delete;
  Assembly& operator=(const Assembly&) = delete;

  [[nodiscard]] uint16_t port() const;  // that is listened on

  // Takes no new requests, and waits for those that have begun, for at most `limit`: in hand, or
  // still on their way here.
  void Drain(Duration limit);
  // Ends all that is left.
  void Stop();

 private:
  struct Parts;
  explicit Assembly(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace conductor::proxy

#endif  // CONDUCTOR_DAEMON_PROXY_ASSEMBLY_H_
