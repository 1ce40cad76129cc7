#ifndef CONDUCTOR_DAEMON_SERVE_REGISTRY_IMPL_H_
#define CONDUCTOR_DAEMON_SERVE_REGISTRY_IMPL_H_

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "daemon/serve/engine_consumer.h"
#include "daemon/serve/pool_consumer.h"
#include "daemon/serve/pool_lister.h"
#include "daemon/serve/registry.h"
#include "daemon/serve/reservations.h"

// What is behind Registry. For its own files only:
//   registry.cc           registering, removing, telling
//   registry_snapshot.cc  copying publishers for a snapshot, and going on from one
namespace conductor::serve {

struct Registry::Entry {
  std::shared_ptr<const Registration> registration;
  std::shared_ptr<PublisherBoard> board;
  // Nothing while it is being added, and again while it is being removed: its key and endpoint are
  // taken, but it is not listed.
  std::optional<stream::Transport::PublisherId> id;
  std::shared_ptr<PoolLister> lister;      // of pools that have an admin endpoint
  std::shared_ptr<stream::Intake> intake;  // of those whose events are handed in
  bool replacing = false;                  // another publisher is about to take its place
  bool leaving = false;                    // it is being removed
  // Of one that is shown and not followed (RestoreOptions::followed); `id` is that of nobody then.
  std::shared_ptr<PublisherConsumer> still;
};

struct Registry::Impl {
  explicit Impl(const Options& given)
      : options(given), index(given.index), events(given.events), transport(given.transport) {}

  const Options options;
  index::PrefixIndex index;
  HotPrefixes hot_prefixes;
  EventStream events;
  // Guards entries, reservations and next_number; never held across a wait.
  mutable std::mutex mutex;
  std::condition_variable_any replaced;  // with mutex: an Entry::replacing ended
  std::map<std::string, Entry> entries;
  Reservations reservations;  // of all entries, held by their keys
  uint32_t next_number = 0;
  // Counted up after each change of what Table() tells.
  std::shared_ptr<std::atomic<uint64_t>> changes = std::make_shared<std::atomic<uint64_t>>(0);
  mutable std::mutex table_mutex;  // guards table; taken before `mutex`
  std::shared_ptr<const EngineTable> table =
      std::make_shared<EngineTable>(std::vector<EngineView>{}, 0);
  // Late, so that its threads, which use the index, end first.
  stream::Transport transport;
  const std::shared_ptr<RestoreTally> restored = std::make_shared<RestoreTally>();
  std::jthread churn_looks;  // at the boards, now and then; uses all of the above

  // With the mutex held:
  [[nodiscard]] tl::expected<Added, Refusal> Reserve(const Registration& registration,
                                                     Profiles profiles);
  // Whether an engine of its context hashes in another way, as far as both say how.
  [[nodiscard]] bool HashesUnlikeOthers(const Registration& registration) const;
  // The end of what Reserve() began.
  void Erase(const std::string& key);
  // The entry, once nobody replaces it; nullptr when there is none, or it is being added or
  // removed.
  [[nodiscard]] Entry* Settled(std::unique_lock<std::mutex>& lock, const std::string& key);

  // What follows a publisher.
  struct Following {
    stream::Transport::PublisherId id = 0;
    std::shared_ptr<PublisherBoard> board;
    std::shared_ptr<PoolLister> lister;
    std::shared_ptr<stream::Intake> intake;
  };
  [[nodiscard]] tl::expected<Following, Refusal> Follow(
      const Registration& registration, uint32_t number,
      std::optional<stream::Transport::PublisherId> replaces = {});
  // A publisher that nothing is listened to of yet.
  struct Prepared {
    std::shared_ptr<PublisherBoard> board;
    std::shared_ptr<ListingRequests> listings;
    std::unique_ptr<PublisherConsumer> consumer;
    EngineConsumer* engine = nullptr;  // the same, of an engine ...
    PoolConsumer* pool = nullptr;      // ... or of a pool
  };
  [[nodiscard]] Prepared Prepare(const Registration& registration, uint32_t number);
  [[nodiscard]] tl::expected<Following, Refusal> Follow(
      const Registration& registration, uint32_t number, Prepared prepared,
      std::optional<stream::Resume> resume,
      std::optional<stream::Transport::PublisherId> replaces = {});
  // What is followed becomes the entry's.
  static void Enter(Entry& entry, Following following);
  // A listed publisher lives anew, by the name that its registration has now.
  void LiveAnew(const Registration& registration, stream::Transport::PublisherId id);
  // Takes the place of the publisher that is `replacing`.
  [[nodiscard]] tl::expected<Put, Refusal> TakePlace(const Registration& registration,
                                                     uint32_t number);
  [[nodiscard]] PublisherStatus StatusOf(const Entry& entry, MonoTime now) const;
  void LookAtChurn();
  [[nodiscard]] stream::StreamOptions StreamOptionsOf(const Registration& registration,
                                                      uint32_t number) const;
  [[nodiscard]] std::shared_ptr<PoolLister> MakeLister(
      stream::Transport::PublisherId id, std::unique_ptr<PoolAdmin> admin,
      const std::shared_ptr<ListingRequests>& listings, PoolConsumer& pool);
  // False when no publisher has this key; otherwise `work` was done on its ingest thread.
  bool Run(const std::string& key, const char* what,
           const std::function<void(stream::PublisherStream&)>& work);
};

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_REGISTRY_IMPL_H_
