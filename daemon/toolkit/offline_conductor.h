#ifndef CONDUCTOR_DAEMON_TOOLKIT_OFFLINE_CONDUCTOR_H_
#define CONDUCTOR_DAEMON_TOOLKIT_OFFLINE_CONDUCTOR_H_

#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "daemon/serve/http_api.h"
#include "daemon/serve/registration.h"
#include "daemon/serve/registry.h"
#include "lib/base/result.h"
#include "lib/client/client.h"
#include "lib/client/transport.h"
#include "lib/stream/intake.h"

namespace conductor::toolkit {

// A conductor inside this process: the daemon's own registry, index and routes, without a socket.
// It knows what it is fed, and is asked as a daemon is, by a client::Client:
//
//   OfflineConductor conductor;
//   conductor.Feed(registration, messages);   // of mode kIngest
//   conductor.Settle();
//   auto answer = conductor.MakeClient("recording")->Score(spec);
//
// Its trust is that of a publisher whose events are handed in: `live` when they are a stream from
// its first sequence on, `degraded` where they begin later or have a hole.
class OfflineConductor {
 public:
  struct Options {
    serve::Registry::Options registry;
    serve::HttpApi::Options http;  // what has to do with sockets means nothing
  };

  OfflineConductor() : OfflineConductor(Options()) {}
  explicit OfflineConductor(const Options& options);
  OfflineConductor(const OfflineConductor&) = delete;
  OfflineConductor& operator=(const OfflineConductor&) = delete;

  // Hands in what follows in the stream of a publisher, which is added with its first messages; of
  // `registration` `mode` must be kIngest. Blocks while the queue of the publisher is full. The
  // messages are moved from. An error names the publisher; what was handed in before it stands.
  // One thread at a time for each publisher.
  [[nodiscard]] Status Feed(const serve::Registration& registration,
                            std::span<stream::Intake::Message> messages,
                            const std::stop_token& stop = {});
  // Until all that was fed is applied, so that answers tell it. No thread may feed meanwhile.
  [[nodiscard]] Status Settle(const std::stop_token& stop = {});

  // What its publishers serve, each once.
  [[nodiscard]] std::vector<std::string> Models() const;

  // The way to it for a client, which must not outlive it. All paths but that of /v1/events, which
  // has no end. It answers at once, whatever the deadlines.
  [[nodiscard]] std::unique_ptr<client::Transport> MakeTransport();
  // A client that asks nobody else, in whose errors it is called `name`.
  [[nodiscard]] std::unique_ptr<client::Client> MakeClient(const std::string& name);

  [[nodiscard]] serve::Registry& registry() { return registry_; }

 private:
  serve::Registry registry_;
  serve::HttpApi api_;
  std::mutex mutex_;                                          // guards what follows
  std::map<std::string, serve::Registry::Ingested> pending_;  // the last ticket of each publisher
};

}  // namespace conductor::toolkit

#endif  // CONDUCTOR_DAEMON_TOOLKIT_OFFLINE_CONDUCTOR_H_
