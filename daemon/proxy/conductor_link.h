#ifndef CONDUCTOR_DAEMON_PROXY_CONDUCTOR_LINK_H_
#define CONDUCTOR_DAEMON_PROXY_CONDUCTOR_LINK_H_

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "daemon/proxy/breaker.h"
#include "daemon/proxy/embedded.h"
#include "daemon/proxy/fleet.h"
#include "daemon/proxy/instance_map.h"
#include "daemon/proxy/options.h"
#include "lib/client/client.h"

namespace conductor::proxy {

// The way to the conductors, on threads of its own that block: two that ask for prompts, and one
// that keeps up with who is registered, and registers what it was told to, again where a conductor
// has forgotten it. Nothing of it is needed to start, and nothing here throws a request away: who
// gets no answer chooses without.
class ConductorLink {
 public:
  // `embedded`: asked in place of the options' conductors; or none. Both outlive it.
  ConductorLink(const ProxyOptions& options, Fleet& fleet, Embedded* embedded);
  ~ConductorLink();
  ConductorLink(const ConductorLink&) = delete;
  ConductorLink& operator=(const ConductorLink&) = delete;

  // Registers and matches once, for at most the registration timeout, and starts the threads.
  [[nodiscard]] Status Start();

  // Runs `job` with a client on one of the threads. False when it will not: too many wait already,
  // or the conductors have failed and are left alone for a moment. Any thread.
  using Job = std::function<void(client::Client& client)>;
  [[nodiscard]] bool Ask(Job job, MonoTime until);
  // How a question ended, for the next ones.
  void Answered(bool well);

  // Who is who now. Any thread.
  [[nodiscard]] std::shared_ptr<const InstanceMap> instances() const;

 private:
  struct Waiting {
    Job job;
    MonoTime until;
  };

  [[nodiscard]] Result<client::Client> MakeClient(const std::string& url, Duration limit) const;
  void Work(client::Client client);
  void Watch();
  // Lists the publishers at each conductor, registers what is missing, matches.
  void Round();
  // At one conductor. Whether it has got a new one.
  [[nodiscard]] bool Register(const std::string& url, client::Client& client,
                              const std::vector<client::PublisherEntry>& there);
  void Tell(const std::string& subject, const std::string& problem);

  const ProxyOptions& options_;
  Fleet& fleet_;
  Embedded* const embedded_;
  std::map<std::string, client::Client> conductors_;  // of the watching thread, by URL
  std::map<std::string, std::string> told_;           // of the watching thread
  mutable std::mutex mutex_;                          // guards the rest
  std::condition_variable changed_;
  std::deque<Waiting> waiting_;
  bool ends_ = false;
  Breaker breaker_;
  std::shared_ptr<const InstanceMap> instances_;
  std::vector<std::thread> threads_;
};

// The body of POST /register for one publisher.
[[nodiscard]] std::string RegistrationBody(const EngineSpec& engine, const EventSource& source,
                                           const Namespace& prompts);

}  // namespace conductor::proxy

#endif  // CONDUCTOR_DAEMON_PROXY_CONDUCTOR_LINK_H_
