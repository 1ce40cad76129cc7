#ifndef CONDUCTOR_LIB_STREAM_PUBLISHER_LINK_H_
#define CONDUCTOR_LIB_STREAM_PUBLISHER_LINK_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "lib/base/clock.h"
#include "lib/base/result.h"
#include "lib/stream/bound_endpoint.h"
#include "lib/stream/guarded_consumer.h"
#include "lib/stream/live_link.h"
#include "lib/stream/peer_socket.h"
#include "lib/stream/publisher_stream.h"
#include "lib/stream/replay_link.h"
#include "lib/stream/resolver.h"
#include "lib/stream/transport.h"

namespace conductor::stream {

// One publisher on its ingest thread: its stream, its consumer, and the two ways by which bytes
// come to them, live messages and answers to replay requests.
class PublisherLink : public Task {
 public:
  // `context`, `resolver`, `watcher` and `options` must outlive the link. `task` is what `watcher`
  // is told. Used on the ingest thread only from here on.
  PublisherLink(void* context, Resolver& resolver, Watcher& watcher, uint64_t task,
                const Transport::Options& options, PublisherAddress address,
                StreamOptions stream_options, std::unique_ptr<Consumer> consumer);

  // The endpoint that has to be bound for it; empty: it is connected to.
  [[nodiscard]] std::string BoundTo() const;

  // Opens the sockets and starts to listen. `bound`, where BoundTo() says so, must outlive the
  // link.
  [[nodiscard]] Status Open(MonoTime now, BoundEndpoint* bound);

  bool Turn(bool monitor) override;
  [[nodiscard]] std::optional<MonoTime> Deadline() const override;

  [[nodiscard]] PublisherStream& stream() { return stream_; }
  [[nodiscard]] Consumer& consumer() { return consumer_.guarded(); }

 private:
  [[nodiscard]] std::optional<MonoTime> ConsumerDeadline() const;

  void* const context_;
  Resolver& resolver_;
  Watcher& watcher_;
  const uint64_t task_;
  const Transport::Options& options_;
  const PublisherAddress address_;
  const StreamOptions stream_options_;
  const size_t inbox_limit_;

  GuardedConsumer consumer_;
  ReplayLink replay_;
  PublisherStream stream_;
  std::unique_ptr<LiveLink> live_;
  MonoTime ticked_{};  // when the consumer was last
};

}  // namespace conductor::stream

#endif  // CONDUCTOR_LIB_STREAM_PUBLISHER_LINK_H_
