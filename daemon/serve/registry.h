#ifndef CONDUCTOR_DAEMON_SERVE_REGISTRY_H_
#define CONDUCTOR_DAEMON_SERVE_REGISTRY_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "daemon/serve/engine_table.h"
#include "daemon/serve/registration.h"
#include "lib/base/result.h"
#include "lib/index/prefix_index.h"
#include "lib/ingest/publisher_ingest.h"
#include "lib/stream/transport.h"

namespace conductor::serve {

// One publisher at one moment, for /v1/publishers, /services and metrics.
struct PublisherStatus {
  Registration registration;
  stream::Trust trust;
  stream::StreamCounters stream;
  ingest::IngestCounters ingest;
  // What could not be read, by reason: whole payloads ("not_a_batch", and "unread_dialect" from
  // publishers whose events are not indexed), events ("unknown_event_type", "malformed_event"),
  // fields of events that were used ("unknown_field").
  std::map<std::string, uint64_t> decode_skips;
  std::string last_decode_error;       // empty: none yet
  double last_event_age_seconds = -1;  // since the last applied batch; -1: none yet
  double last_event_lag_seconds = -1;  // from the batch's own time to its application
  uint32_t effective_block_size = 0;   // registered or learnt; 0: not known yet
};

// What answers need of a pool.
struct PoolView {
  std::string key;  // its registration's, and what the index calls it
  stream::Trust trust;
  double lag_seconds = -1;
};

// The publishers that are registered now, each with its stream and its way into the index.
// Thread-safe. Registering or removing one does not hold up the others.
class Registry {
 public:
  struct Options {
    index::PrefixIndex::Options index;
    stream::Transport::Options transport;
    // has_replay is set per publisher. A request that a publisher swallowed, and the wait after it,
    // leave room to be whole again within five seconds of its return.
    stream::StreamOptions stream{.replay_timeout = std::chrono::seconds(3),
                                 .backoff_max = std::chrono::milliseconds(1500)};
    ingest::IngestLimits ingest;
  };

  enum class Added : uint8_t {
    kNew,
    kAlreadyThere,    // the same registration in every field: nothing was done
    kNewIncarnation,  // the same but for `incarnation`: what it held is dropped, it lives anew
  };

  explicit Registry(const Options& options);
  ~Registry();
  Registry(const Registry&) = delete;
  Registry& operator=(const Registry&) = delete;

  // Errors, with `where` the field to blame: what Validate() says; the same key registered with
  // other values; an endpoint that another publisher has; the limit of publishers reached. What can
  // be followed, but not as well as it could be, is logged: no replay endpoint, or one that is
  // another's socket (Reservations).
  [[nodiscard]] Result<Added> Add(const Registration& registration);

  // False when no publisher has this key. Its blocks are gone when it returns.
  [[nodiscard]] bool Remove(const std::string& key);

  // For operators; false when no publisher has this key. Resync asks for everything anew, and what
  // is held stays until that is complete; where nothing can be asked it is dropped at once. Clear
  // drops what is held and asks for none of it again.
  bool Resync(const std::string& key);
  bool Clear(const std::string& key);

  // In order of their keys.
  [[nodiscard]] std::vector<PublisherStatus> Publishers() const;
  // Those that are engines, pools left out; in order of their keys.
  [[nodiscard]] std::vector<EngineView> Engines() const;
  // The same, for every answer: cheap where nothing has changed since the last one.
  [[nodiscard]] std::shared_ptr<const EngineTable> Table() const;
  [[nodiscard]] std::vector<PoolView> Pools() const;
  [[nodiscard]] size_t size() const;

  [[nodiscard]] const index::PrefixIndex& index() const;
  // Why the process can serve fewer publishers than configured; empty when it can.
  [[nodiscard]] const std::string& limit_warning() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_REGISTRY_H_
