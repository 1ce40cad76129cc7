#ifndef CONDUCTOR_LIB_TRACE_SIMULATED_PUBLISHER_H_
#define CONDUCTOR_LIB_TRACE_SIMULATED_PUBLISHER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/clock.h"
#include "lib/base/result.h"
#include "lib/wire/kv_event.h"

namespace conductor::trace {

// A publisher of KV events as vLLM from v0.26 on has it: a PUB socket with frames [topic, sequence,
// payload] numbered from 0, and a ROUTER that replays the last `ring_batches` batches on request
// (docs/wire-formats.md). Serves replays on a thread of its own, which Publish() never waits for.
// Everything but that from one thread at a time. Without Options::linger the destructor returns at
// once: what peers have not yet read is lost, as when an engine dies.
class SimulatedPublisher {
 public:
  struct Options {
    std::string endpoint = "tcp://127.0.0.1:*";
    std::string replay_endpoint = "tcp://127.0.0.1:*";  // empty: none
    std::string topic;
    int64_t dp_rank = 0;
    size_t ring_batches = 10000;
    // WaitForSubscriber() may be called. It costs what subscribers say.
    bool see_subscribers = false;
    // How long the destructor waits until connected peers have what was sent to them.
    Duration linger{};
  };

  // Binds both sockets; the error names the endpoint.
  [[nodiscard]] static Result<std::unique_ptr<SimulatedPublisher>> Create(const Options& options);
  ~SimulatedPublisher();
  SimulatedPublisher(const SimulatedPublisher&) = delete;
  SimulatedPublisher& operator=(const SimulatedPublisher&) = delete;

  // The addresses that were bound, wildcards resolved; no replay address when there is none.
  [[nodiscard]] const std::string& endpoint() const;
  [[nodiscard]] const std::string& replay_endpoint() const;

  // Sends one batch with the next sequence, stamped with the present time and the rank.
  void Publish(std::vector<wire::KvEvent> events);

  // Sends one payload as it is, under a sequence of the caller's: above the last one, or the same
  // payload again, or any after NewLife(). `topic` is this message's own.
  void Send(std::string_view topic, uint64_t sequence, std::string payload);
  // The ring is emptied: what comes is of another life.
  void NewLife();

  // Only with see_subscribers: true once somebody has subscribed; waits for at most `most`.
  [[nodiscard]] bool WaitForSubscriber(Duration most);

 private:
  struct Impl;
  explicit SimulatedPublisher(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace conductor::trace

#endif  // CONDUCTOR_LIB_TRACE_SIMULATED_PUBLISHER_H_
