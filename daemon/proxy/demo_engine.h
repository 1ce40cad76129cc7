#ifndef CONDUCTOR_DAEMON_PROXY_DEMO_ENGINE_H_
#define CONDUCTOR_DAEMON_PROXY_DEMO_ENGINE_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/proxy/client_connection.h"
#include "daemon/proxy/engine.h"
#include "daemon/proxy/json_members.h"
#include "daemon/proxy/lane.h"
#include "lib/base/result.h"
#include "lib/hash/block_hash.h"
#include "lib/trace/simulated_engine.h"
#include "lib/trace/simulated_publisher.h"

namespace conductor::proxy {

inline constexpr const char* kDemoModel = "demo-model";
inline constexpr uint32_t kDemoBlockSize = 16;

// A simulated engine on a free port of 127.0.0.1, as the proxy sees vLLM with NixlConnector: it
// answers completions, streaming or not, and /tokenize. One that prefills has a prefix cache,
// publishes what is stored and evicted over ZeroMQ, with replay, and takes the longer for a prompt
// the less of it is cached; one prompt after the other. What it says is always the same text.
//
// It lives on a lane: all but Create() there, and it ends with the lane.
class DemoEngine {
 public:
  [[nodiscard]] static Result<std::unique_ptr<DemoEngine>> Create(Role role, std::string name,
                                                                  uint64_t seed, Lane& lane);

  // Takes connections until the lane ends.
  void Start();

  // What a proxy is told of it.
  [[nodiscard]] EngineSpec spec() const;

  // Of all prompts that were prefilled.
  struct Counts {
    uint64_t prompts = 0;
    uint64_t tokens = 0;
    uint64_t cached_tokens = 0;
  };
  [[nodiscard]] const Counts& counts() const { return counts_; }

 private:
  DemoEngine(Role role, std::string name, uint64_t seed, Lane& lane);

  [[nodiscard]] Awaitable<void> Accept();
  [[nodiscard]] Awaitable<void> Serve(std::shared_ptr<ClientConnection> client);
  [[nodiscard]] Awaitable<bool> Answer(ClientConnection& client, const ClientRequest& asked);
  [[nodiscard]] Awaitable<bool> Prefill(ClientConnection& client, std::span<const TokenId> prompt);
  [[nodiscard]] Awaitable<bool> Decode(ClientConnection& client, const JsonMembers& members,
                                       size_t prompt_tokens, bool is_chat);

  const Role role_;
  const std::string name_;
  Lane& lane_;
  BodyBudget bodies_;
  tcp::acceptor acceptor_;
  trace::SimulatedEngine cache_;
  std::unique_ptr<trace::SimulatedPublisher> publisher_;  // of one that prefills
  MonoTime busy_until_{};
  Counts counts_;
};

// Waits on the lane. False when it ends.
[[nodiscard]] Awaitable<bool> Pause(Lane& lane, Duration time);

}  // namespace conductor::proxy

#endif  // CONDUCTOR_DAEMON_PROXY_DEMO_ENGINE_H_
