#ifndef CONDUCTOR_DAEMON_PROXY_KEEPER_H_
#define CONDUCTOR_DAEMON_PROXY_KEEPER_H_

#include <atomic>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>

#include "daemon/proxy/asio.h"
#include "daemon/proxy/departure.h"
#include "daemon/proxy/fleet.h"
#include "daemon/proxy/options.h"
#include "daemon/proxy/time_limits.h"
#include "daemon/proxy/upstream.h"

namespace conductor::proxy {

// Keeps what is known of engines true, on a thread of its own that may block: where their names
// lead, and for kMooncake what their bootstrap servers say (GET /query). Every second; these are
// asked beside each other, so that one that does not answer keeps nobody waiting. Of a problem is
// told once, and once when it is over.
class Keeper {
 public:
  Keeper(Fleet& fleet, const ProxyOptions& options);
  ~Keeper();
  Keeper(const Keeper&) = delete;
  Keeper& operator=(const Keeper&) = delete;

  // One round at once, for which answers are waited for a second, and then the thread.
  void Start();

 private:
  void Run();
  void Round();
  // Unless it is being asked.
  void AskBootstrap(const std::shared_ptr<Engine>& engine);
  [[nodiscard]] Awaitable<Result<BootstrapIds>> Query(const Engine& server);
  // Tells a problem when it is new, and its end.
  void Tell(const std::string& subject, const std::string& problem);

  Fleet& fleet_;
  const ProxyOptions& options_;
  net::io_context io_{1};  // run by Start(), and then by the thread
  TimeLimits limits_{io_};
  Upstreams upstreams_;
  Departure ending_;
  std::set<std::string> asked_;  // engines whose bootstrap servers have not answered yet
  std::map<std::string, std::string> told_;
  std::atomic<bool> ends_ = false;  // wakes nobody by itself
  std::thread thread_;
};

// The ids in a bootstrap server's answer: {"0": {"engine_id": "..."}, ...}.
[[nodiscard]] Result<BootstrapIds> ReadBootstrap(std::string_view json);

}  // namespace conductor::proxy

#endif  // CONDUCTOR_DAEMON_PROXY_KEEPER_H_
