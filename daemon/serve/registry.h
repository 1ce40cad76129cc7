#ifndef CONDUCTOR_DAEMON_SERVE_REGISTRY_H_
#define CONDUCTOR_DAEMON_SERVE_REGISTRY_H_

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <tl/expected.hpp>
#include <utility>
#include <vector>

#include "daemon/serve/churn.h"
#include "daemon/serve/engine_table.h"
#include "daemon/serve/event_stream.h"
#include "daemon/serve/hot_prefixes.h"
#include "daemon/serve/registration.h"
#include "lib/base/result.h"
#include "lib/index/prefix_index.h"
#include "lib/ingest/publisher_ingest.h"
#include "lib/store/saved_publisher.h"
#include "lib/store/snapshot_reader.h"
#include "lib/stream/intake.h"
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
  Churn::Rate churn_1m;                // over the last minute
  Churn::Rate churn_5m;                // over the last five
};

// What answers need of a pool.
struct PoolView {
  std::string key;  // its registration's, and what the index calls it
  stream::Trust trust;
  double lag_seconds = -1;
};

// Why a registration is not taken; `where` is the field to blame.
struct Refusal : Error {
  enum class Kind : uint8_t {
    kInvalid,   // it could never be: what Validate() says, an address that cannot be used
    kConflict,  // not beside what is registered
    kLeaving,   // the publisher of its key is just being removed
    kFull,      // the limit of publishers is reached
  };

  Refusal(Kind of, Error error) : Error(std::move(error)), kind(of) {}

  Kind kind;
  size_t rank = 0;  // of AddAll(): which of its registrations
};

// What became of publishers that were restored from a snapshot: each is in one of the first three
// once it is decided. Any order.
struct RestoreTally {
  std::atomic<uint64_t> proven = 0;
  std::atomic<uint64_t> dropped = 0;
  std::atomic<uint64_t> doubted = 0;
  std::atomic<uint64_t> undecided = 0;
  // What they held was not restored at all: the configuration does not have them any more, or has
  // them as something else; or it cannot be used.
  std::atomic<uint64_t> left_out = 0;
  // Of these what they held when it was decided: (block, holder, tier), of a pool its objects.
  std::atomic<uint64_t> proven_holdings = 0;
  std::atomic<uint64_t> dropped_holdings = 0;
  std::atomic<uint64_t> doubted_holdings = 0;
  std::atomic<uint64_t> left_out_holdings = 0;
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
    EventStream::Options events;
  };

  enum class Added : uint8_t {
    kNew,
    kAlreadyThere,    // the same registration in every field: nothing was done
    kNewIncarnation,  // the same but for `incarnation`: what it held is dropped, it lives anew
  };

  // Whether engines of one context (tenant, model, adapter, block size, additional salt) may hash
  // in different ways, and a pool in another than the engines of its context. Conductor does not
  // mind; generations of the Mooncake Conductor whose own index is made of the engines' hashes do.
  enum class Profiles : uint8_t { kMayDiffer, kMustAgree };

  explicit Registry(const Options& options);
  ~Registry();
  Registry(const Registry&) = delete;
  Registry& operator=(const Registry&) = delete;

  // Refused: what Validate() says; the same key registered with other values; an endpoint that
  // another publisher has; the limit of publishers reached. What can be followed, but not as well
  // as it could be, is logged: no replay endpoint, or one that is another's socket (Reservations).
  [[nodiscard]] tl::expected<Added, Refusal> Add(const Registration& registration,
                                                 Profiles profiles = Profiles::kMayDiffer);

  // All or none: what a failure leaves behind is taken back, but for what was there before. Where
  // profiles must agree, one that is not that of the context's registered engines is refused with
  // `where` "hash_profile"; of what declares none nothing is asked.
  [[nodiscard]] tl::expected<std::vector<Added>, Refusal> AddAll(
      std::span<const Registration> ranks, Profiles profiles = Profiles::kMayDiffer);

  enum class Put : uint8_t {
    kNew,
    kAlreadyThere,    // nothing was done
    kNewIncarnation,  // as Added says it
    kNoted,           // what differs is only told: it is followed on as it was
    kReplaced,        // the publisher of this key is another one now
  };
  // As Add, but a publisher of the same key with other values goes: the new one is followed from
  // the start of a life of its own, and what the old one held is dropped. It is listed at all
  // times, as the one or as the other; when the new one cannot be followed, the old one stays.
  [[nodiscard]] tl::expected<Put, Refusal> Replace(const Registration& registration);

  // Messages for a publisher of ListenMode::kIngest, which is added at the first of them: as Add,
  // with `registration.incarnation` the life that they are of. One that is neither the present life
  // nor a former one begins. Refused besides, with `where` "incarnation": a former life, of which
  // nothing counts any more.
  struct Ingested {
    bool created = false;
    size_t taken = 0;  // messages; they were moved from. The others found no room
    std::shared_ptr<stream::Intake> intake;
    uint64_t ticket = 0;  // of the intake
  };
  [[nodiscard]] tl::expected<Ingested, Refusal> Ingest(const Registration& registration,
                                                       std::span<stream::Intake::Message> messages);
  // Until all that was taken so far is applied, and told by Publisher(): true. False after `until`,
  // at a requested stop, or when the publisher was removed.
  [[nodiscard]] bool WaitApplied(const std::string& key, const Ingested& ingested, MonoTime until,
                                 const std::stop_token& stop);

  enum class Removed : uint8_t {
    kRemoved,  // its blocks are gone
    kUnknown,  // no publisher has this key
    kLeaving,  // somebody else is just removing it
  };
  [[nodiscard]] Removed Remove(const std::string& key);

  // For operators; false when no publisher has this key. Resync asks for everything anew, and what
  // is held stays until that is complete; where nothing can be asked it is dropped at once. Clear
  // drops what is held and asks for none of it again.
  bool Resync(const std::string& key);
  bool Clear(const std::string& key);

  // In order of their keys.
  [[nodiscard]] std::vector<PublisherStatus> Publishers() const;
  // Nothing when no publisher has this key.
  [[nodiscard]] std::optional<PublisherStatus> Publisher(const std::string& key) const;
  // Those that are engines, pools left out; in order of their keys.
  [[nodiscard]] std::vector<EngineView> Engines() const;
  // The same, for every answer: cheap where nothing has changed since the last one.
  [[nodiscard]] std::shared_ptr<const EngineTable> Table() const;
  [[nodiscard]] std::vector<PoolView> Pools() const;
  [[nodiscard]] size_t size() const;

  [[nodiscard]] const index::PrefixIndex& index() const;
  // Of what queries match; for them to tell it.
  [[nodiscard]] HotPrefixes& hot_prefixes() const;
  // Every event of every publisher as it is applied.
  [[nodiscard]] EventStream& events() const;
  // Why the process can serve fewer publishers than configured; empty when it can.
  [[nodiscard]] const std::string& limit_warning() const;

  // --- Snapshots; registry_snapshot.cc. `Snapshots` is who calls these in a daemon.

  // A copy of one publisher as it is at one moment, with all that it holds, or nothing when it is
  // not registered any more. It is held still meanwhile (Transport::RunHeld), for a tenth of a
  // microsecond a block; others go on. A publisher that is shown and not followed has no copy. An
  // error: there is no memory for it.
  [[nodiscard]] Result<std::optional<store::SavedPublisher>> Copy(const std::string& key) const;
  // In order.
  [[nodiscard]] std::vector<std::string> Keys() const;

  struct RestoreOptions {
    // Those of a configuration file: what it says of a publisher wins over what the snapshot says,
    // and one that it does not have any more is not brought back.
    std::vector<Registration> configured;
    // Whether publishers are listened to. Otherwise they are shown as they were, `stale`, for
    // questions about the snapshot itself; then nothing is asked of `configured`.
    bool followed = true;
  };
  struct Restored {
    size_t publishers = 0;        // that are registered now ...
    size_t with_blocks = 0;       // ... of these with what they held
    uint64_t holdings = 0;        // (block, holder, tier)
    std::vector<Error> left_out;  // publishers, or what they held; `where` is the key
  };
  // Takes in what a snapshot has. Requires that nothing is registered yet. What publishers hold is
  // stale until each proves it. An error when the file cannot be used: nothing of it is there then.
  [[nodiscard]] Result<Restored> Restore(store::SnapshotReader& reader,
                                         const RestoreOptions& options);
  // What became of that.
  [[nodiscard]] const RestoreTally& restored() const;

 private:
  struct Entry;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_REGISTRY_H_
