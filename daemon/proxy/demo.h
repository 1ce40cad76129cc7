#ifndef CONDUCTOR_DAEMON_PROXY_DEMO_H_
#define CONDUCTOR_DAEMON_PROXY_DEMO_H_

#include <cstdint>
#include <string>

namespace conductor::proxy {

struct DemoOptions {
  std::string host = "127.0.0.1";
  uint16_t port = 8000;  // of the proxy with `score`; 0: a free one
  uint64_t seed = 1;     // of the workload
};

// `conductor proxy --demo`: two simulated fleets of four prefillers and a decoder, one behind a
// proxy that chooses by score, with an index of its own that hears the prefillers' KV events, and
// one behind a proxy that goes round. Both get the same chat workload at the same times; what
// their prefillers' caches had is printed side by side every two seconds, after a curl line to try.
// Until SIGINT or SIGTERM. The process's exit code: 0 ended by a signal, 1 could not start.
[[nodiscard]] int RunDemo(const DemoOptions& options);

}  // namespace conductor::proxy

#endif  // CONDUCTOR_DAEMON_PROXY_DEMO_H_
