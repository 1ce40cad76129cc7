#ifndef CONDUCTOR_DAEMON_SERVE_DEMO_H_
#define CONDUCTOR_DAEMON_SERVE_DEMO_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "daemon/serve/registration.h"
#include "lib/base/result.h"

namespace conductor::serve {

// The simulated fleet of `conductor serve --demo`: instance "demo-a" with one rank and "demo-b"
// with two, model "demo-model", block size 16, each rank a publisher of its own on a free port of
// 127.0.0.1 that sends real KV events of a seeded chat workload over ZeroMQ, with replay. Beside
// the workload every rank stores and evicts one fixed prompt, the watched one, in a cycle of some
// seconds, so that its answer is seen to change.
class Demo {
 public:
  [[nodiscard]] static Result<std::unique_ptr<Demo>> Create(uint64_t seed);
  ~Demo();  // Stop()
  Demo(const Demo&) = delete;
  Demo& operator=(const Demo&) = delete;

  // What to register for the fleet to be known.
  [[nodiscard]] const std::vector<Registration>& registrations() const;

  // Starts the fleet, and a narrator that asks the daemon at `url` ("http://HOST:PORT") about the
  // watched prompt and prints each change of the answer to stdout, after one line with a curl
  // command that asks the same.
  void Start(const std::string& url);

  // Ends the fleet's traffic and the narrator. The publishers' sockets stay until the Demo goes,
  // so that nobody who still listens takes them for engines that died.
  void Stop();

 private:
  struct Impl;
  explicit Demo(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_DEMO_H_
