#ifndef CONDUCTOR_LIB_STREAM_TRANSPORT_H_
#define CONDUCTOR_LIB_STREAM_TRANSPORT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "lib/base/clock.h"
#include "lib/base/result.h"
#include "lib/stream/consumer.h"
#include "lib/stream/intake.h"
#include "lib/stream/publisher_stream.h"
#include "lib/stream/resolver.h"

namespace conductor::stream {

enum class ListenMode : uint8_t {
  kConnect,  // to the publisher's socket
  kBind,     // the publisher connects to ours; many may
  kIngest,   // to nothing: its messages are handed in (Intake)
};

// Where one publisher is and how to listen to it.
struct PublisherAddress {
  // "tcp://127.0.0.1:5557"; to be bound: "tcp://*:5557" too. With kIngest: what messages call it.
  std::string endpoint;
  std::string replay_endpoint;  // empty: it has none
  ListenMode mode = ListenMode::kConnect;
  // Behind a bound socket a publisher is (peer, topic, rank): the numeric address that it connects
  // from; empty: any.
  std::string peer;
  std::string topic;  // subscription prefix; empty: everything
  uint32_t rank = 0;  // behind a bound socket only; see StreamOptions::batch_rank
  std::shared_ptr<Intake> intake = nullptr;  // with kIngest, where it must be

  friend bool operator==(const PublisherAddress&, const PublisherAddress&) = default;
};

// The ZeroMQ edge: moves bytes between sockets and each publisher's PublisherStream. A few ingest
// threads, each with an epoll loop over the sockets of its publishers; publishers are spread
// evenly, and take turns of a few milliseconds.
//
// Designed for 500 to 1000 publishers with a few events a second each, most of them silent at any
// moment: a wake-up costs the publisher that caused it and not all the others, as zmq_poll over
// all sockets would.
//
// Thread-safe; but a Consumer must not call it.
class Transport {
 public:
  struct Options {
    uint32_t threads = 2;
    uint32_t io_threads = 2;  // libzmq's
    uint32_t max_publishers = 1024;
    // How long what comes may gather before an ingest thread that was just busy looks again: bounds
    // its wake-ups, which cost most where hundreds of publishers say little. Added to no event's
    // way more than once.
    Duration gather = std::chrono::milliseconds(2);
    // A peer that accepts the connection and does not finish ZMTP's handshake in this time is
    // told as one that does not speak ZeroMQ.
    Duration handshake_timeout = std::chrono::seconds(5);
    Duration heartbeat_interval = std::chrono::seconds(5);
    Duration reconnect_min = std::chrono::milliseconds(100);
    // Also the longest wait before a peer that does not speak ZeroMQ is tried again. Short, so
    // that a publisher that returns is followed within a few seconds.
    Duration reconnect_max = std::chrono::seconds(2);
    // Of one frame; a peer that sends more is cut off. Nothing in libzmq bounds how many frames a
    // message may have, and it keeps those of an unfinished message without limit: a hostile
    // publisher can exhaust memory, so ports of publishers belong into a network that is trusted.
    int64_t max_message_bytes = 256 << 20;
    // Messages of one connection that libzmq itself may hold before TCP's flow control reaches the
    // publisher; the bytes that wait behind them are bounded by StreamOptions::max_pending_bytes.
    int live_high_water_mark = 1000;
    // Of one replay's answer that may wait for being applied; beyond it the rest is asked for anew.
    size_t max_replay_bytes = 256 << 20;
    // How host names become addresses.
    ResolveFunction resolve = ResolveHost;
  };

  using PublisherId = uint64_t;

  // Raises the soft limits of file descriptors and ZeroMQ sockets to what `max_publishers` needs;
  // limit_warning() says so when it could not.
  explicit Transport(const Options& options);
  // Stops the threads and closes all sockets within a second, whatever peers and name servers do.
  ~Transport();
  Transport(const Transport&) = delete;
  Transport& operator=(const Transport&) = delete;

  [[nodiscard]] const std::string& limit_warning() const;

  // Starts to listen. Publishers of one bound endpoint share its socket and its ingest thread, and
  // are told apart by peer, topic and rank (BoundRouter). The consumer is used on one ingest thread
  // only and destroyed there. An error only for what can never work (address syntax, limit
  // reached): a publisher that is not there yet is waited for. `replaces`, where it is one, is
  // going to be removed and so is not counted.
  [[nodiscard]] Result<PublisherId> Add(const PublisherAddress& address,
                                        const StreamOptions& options,
                                        std::unique_ptr<Consumer> consumer,
                                        std::optional<PublisherId> replaces = {});

  // After it returns the consumer has been destroyed. Unknown ids are ignored.
  void Remove(PublisherId id);

  // Runs `work` on the publisher's ingest thread between two turns, and returns when it is done;
  // false, without a call, for an unknown id. For what an operator asks for: resync, clear. Not
  // while another Run or RunHeld of the same publisher goes on: it waits for its end.
  bool Run(PublisherId id, const std::function<void(PublisherStream&, Consumer&)>& work);

  // Runs `step` on the publisher's ingest thread again and again until it returns false; false when
  // the id is unknown, or the publisher was removed before that. Meanwhile nothing else happens to
  // the publisher: what comes for it waits, as if its thread were busy, while the others of the
  // thread take their turns between steps. For what must see it at one moment and takes long.
  bool RunHeld(PublisherId id, const std::function<bool(PublisherStream&, Consumer&)>& step);

  // What the stream counted so far; zeros for an unknown id.
  [[nodiscard]] StreamCounters Counters(PublisherId id) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace conductor::stream

#endif  // CONDUCTOR_LIB_STREAM_TRANSPORT_H_
