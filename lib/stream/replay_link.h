#ifndef CONDUCTOR_LIB_STREAM_REPLAY_LINK_H_
#define CONDUCTOR_LIB_STREAM_REPLAY_LINK_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "lib/base/clock.h"
#include "lib/base/endpoint.h"
#include "lib/stream/peer_socket.h"
#include "lib/stream/publisher_stream.h"
#include "lib/stream/resolver.h"
#include "lib/stream/transport.h"
#include "lib/stream/zmq_socket.h"

namespace conductor::stream {

// One publisher's replay requests: a DEALER for each, closed at its end, so that no late answer is
// taken for another's. Of one ingest thread.
//
// A name is looked up anew for every request; of several addresses the one that the live connection
// has is asked, where both are at the same name, otherwise the next one after each request in vain.
class ReplayLink : public ReplayOutbox {
 public:
  // All references must outlive the link. `task` is what `watcher` is told. `endpoint` is empty
  // where nothing will ever be asked.
  ReplayLink(void* context, Resolver& resolver, Watcher& watcher, uint64_t task,
             const Transport::Options& options, std::string endpoint, Duration replay_timeout);
  ~ReplayLink() override;

  void OpenReplay(uint64_t request, uint64_t from) override;
  void CloseReplay(uint64_t request) override;

  // Where the live connection goes: `host` as it is registered, and its address; this is empty
  // while it is being looked up.
  void LiveIsAt(std::string host, std::string address);

  // Hands what was answered to the stream that asks, until about that time.
  void Turn(PublisherStream& stream, MonoTime until);
  [[nodiscard]] bool HasMoreWork() const;

 private:
  struct Replay {
    uint64_t request = 0;
    uint64_t from = 0;
    MonoTime opened{};
    bool answered = false;
    std::shared_ptr<Lookup> lookup;  // of the endpoint's name, before there is a socket
    ZmqSocket socket;                // closed when the answer was cut off
    int fd = -1;
    Inbox inbox;
    bool lost = false;
    std::string why;  // it was lost, for people
    // libzmq signals nothing for a socket before the first attempt to receive.
    bool polled = false;
  };

  void TurnLookup();
  void Ask(const std::string& endpoint);
  void Lose(std::string why);
  void CannotResolve(const std::string& why);

  void* const context_;
  Resolver& resolver_;
  Watcher& watcher_;
  const uint64_t task_;
  const Transport::Options& options_;
  const std::string endpoint_;
  const std::optional<Endpoint> name_;  // nothing when libzmq can be given the endpoint as it is
  const Duration replay_timeout_;

  std::string live_host_;
  std::string live_address_;
  size_t turn_ = 0;  // which of the addresses of the name is asked
  std::unique_ptr<Replay> replay_;
};

}  // namespace conductor::stream

#endif  // CONDUCTOR_LIB_STREAM_REPLAY_LINK_H_
