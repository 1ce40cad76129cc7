#ifndef CONDUCTOR_DAEMON_SERVE_POOL_LISTER_H_
#define CONDUCTOR_DAEMON_SERVE_POOL_LISTER_H_

#include <cstddef>
#include <functional>
#include <memory>

#include "daemon/serve/pool_admin.h"
#include "daemon/serve/pool_consumer.h"
#include "lib/base/clock.h"
#include "lib/stream/publisher_stream.h"

namespace conductor::serve {

// Gets the listings that a pool's stream asks for from its master, in a thread of its own, and
// judges a pool's silence.
//
// A listing comes in two steps: all keys, after which the stream goes on, then what tier each is
// on, a few dozen keys a request; until then an object counts as on disk.
//
// A master that has published more events than were received, twice in a row, although it is
// silent, has lost the tail of its stream on the way: the stream is resynchronised.
class PoolLister {
 public:
  struct Options {
    Duration probe_interval = std::chrono::seconds(5);
    size_t max_listing_bytes = 0;
  };
  // Runs the work on the pool's ingest thread and returns when it is done; false when the pool is
  // gone.
  using Run = std::function<bool(const std::function<void(stream::PublisherStream&)>&)>;

  // Starts the thread. `consumer` is used inside of `run` only, and lives as long as that returns
  // true; `run` is not called any more once the destructor has returned.
  PoolLister(std::unique_ptr<PoolAdmin> admin, std::shared_ptr<ListingRequests> requests,
             PoolConsumer& consumer, Run run, const Options& options);
  // Within a second or two, whatever the master and name servers do.
  ~PoolLister();
  // Begins to end it, without waiting.
  void Stop();
  PoolLister(const PoolLister&) = delete;
  PoolLister& operator=(const PoolLister&) = delete;

 private:
  struct State;
  static void Loop(const std::shared_ptr<State>& state);

  std::shared_ptr<State> state_;
};

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_POOL_LISTER_H_
