#ifndef CONDUCTOR_TESTS_BENCH_FLEET_TARGET_H_
#define CONDUCTOR_TESTS_BENCH_FLEET_TARGET_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "lib/base/result.h"
#include "load.h"

namespace conductor::bench {

// What one lookup found.
struct Found {
  uint32_t holders = 0;  // that hold at least its first block
  uint32_t longest = 0;  // blocks
  uint32_t walked = 0;   // blocks that were looked for
};

// What the load is put on. Each client asks from a thread of its own, and one more announces, all
// at the same time. Drain and ResidentBytes when none of them does any more.
class Target {
 public:
  virtual ~Target() = default;

  // Made ready before the clock starts: bodies and payloads.
  [[nodiscard]] virtual Status Prepare(const std::vector<Step>& steps) = 0;
  // `client` counts from 0, below the number that the target was made for.
  [[nodiscard]] virtual Result<Found> Ask(uint32_t client, size_t step) = 0;
  [[nodiscard]] virtual Status Announce(size_t step) = 0;
  // Waits until all that was announced is in the index.
  [[nodiscard]] virtual Status Drain() = 0;
  // Of the process with the index; 0: not known.
  [[nodiscard]] virtual uint64_t ResidentBytes() = 0;
};

// An index in this process, fed with payloads as they come off the wire.
[[nodiscard]] std::unique_ptr<Target> MakeIndexTarget(const FleetOptions& options, uint32_t clients,
                                                      uint64_t memory_limit);

// A running daemon: engines' publishers over ZeroMQ, registered over HTTP, and POST /v1/query on a
// connection for each client. What was registered is unregistered with the target's end.
// `url` is http://host:port.
[[nodiscard]] Result<std::unique_ptr<Target>> MakeDaemonTarget(const FleetOptions& options,
                                                               uint32_t clients,
                                                               const std::string& url);

}  // namespace conductor::bench

#endif  // CONDUCTOR_TESTS_BENCH_FLEET_TARGET_H_
