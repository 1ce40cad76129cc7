#ifndef CONDUCTOR_DAEMON_PROXY_KEEPER_H_
#define CONDUCTOR_DAEMON_PROXY_KEEPER_H_

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>

#include "daemon/proxy/fleet.h"
#include "daemon/proxy/options.h"
#include "lib/client/transport.h"

namespace conductor::proxy {

// Keeps what is known of engines true, on a thread of its own that may block: where their names
// lead, and for kMooncake what their bootstrap servers say (GET /query). Every second; an engine
// that does not answer is told once, and once when it is back.
class Keeper {
 public:
  Keeper(Fleet& fleet, const ProxyOptions& options);
  ~Keeper();
  Keeper(const Keeper&) = delete;
  Keeper& operator=(const Keeper&) = delete;

  // One round at once, and then the thread.
  void Start();

 private:
  void Run();
  void Round();
  void AskBootstrap(Engine& engine);
  // Tells a problem when it is new, and its end.
  void Tell(const std::string& subject, const std::string& problem);

  Fleet& fleet_;
  const ProxyOptions& options_;
  std::map<std::string, std::unique_ptr<client::Transport>> bootstraps_;  // by the engine's name
  std::map<std::string, std::string> told_;
  std::mutex mutex_;  // guards ends_
  std::condition_variable changed_;
  bool ends_ = false;
  std::thread thread_;
};

// The ids in a bootstrap server's answer: {"0": {"engine_id": "..."}, ...}.
[[nodiscard]] Result<BootstrapIds> ReadBootstrap(std::string_view json);

}  // namespace conductor::proxy

#endif  // CONDUCTOR_DAEMON_PROXY_KEEPER_H_
