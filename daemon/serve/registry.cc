#include "daemon/serve/registry.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <atomic>
#include <functional>
#include <mutex>
#include <utility>

#include "daemon/serve/engine_consumer.h"
#include "daemon/serve/pool_consumer.h"
#include "daemon/serve/pool_lister.h"
#include "daemon/serve/reservations.h"
#include "lib/base/log.h"
#include "lib/wire/peek_rank.h"
#include "lib/wire/timestamp.h"

namespace conductor::serve {
namespace {

struct Entry {
  std::shared_ptr<const Registration> registration;
  std::shared_ptr<PublisherBoard> board;
  // Nothing while it is being added, and again while it is being removed: its key and endpoint are
  // taken, but it is not listed.
  std::optional<stream::Transport::PublisherId> id;
  std::shared_ptr<PoolLister> lister;  // of pools that have an admin endpoint
};

}  // namespace

struct Registry::Impl {
  explicit Impl(const Options& given)
      : options(given), index(given.index), transport(given.transport) {}

  const Options options;
  index::PrefixIndex index;
  // Guards entries, reservations and next_number; never held across a wait.
  mutable std::mutex mutex;
  std::map<std::string, Entry> entries;
  Reservations reservations;  // of all entries, held by their keys
  uint32_t next_number = 0;
  // Counted up after each change of what Table() tells.
  std::shared_ptr<std::atomic<uint64_t>> changes = std::make_shared<std::atomic<uint64_t>>(0);
  mutable std::mutex table_mutex;  // guards table; taken before `mutex`
  std::shared_ptr<const EngineTable> table =
      std::make_shared<EngineTable>(std::vector<EngineView>{}, 0);
  // Last, so that its threads, which use the index, end first.
  stream::Transport transport;

  [[nodiscard]] Result<Added> Reserve(const Registration& registration);
  // The end of what Reserve() began.
  void Erase(const std::string& key);
  [[nodiscard]] stream::StreamOptions StreamOptionsOf(const Registration& registration,
                                                      uint32_t number) const;
  struct MadeConsumer {
    std::unique_ptr<stream::Consumer> consumer;
    PoolConsumer* pool;  // the same, of a pool; otherwise nullptr
  };
  [[nodiscard]] MadeConsumer MakeConsumer(const Registration& registration, uint32_t number,
                                          std::shared_ptr<PublisherBoard> board,
                                          const std::shared_ptr<ListingRequests>& listings);
  [[nodiscard]] std::shared_ptr<PoolLister> MakeLister(
      stream::Transport::PublisherId id, std::unique_ptr<PoolAdmin> admin,
      const std::shared_ptr<ListingRequests>& listings, PoolConsumer& pool);
  // False when no publisher has this key; otherwise `work` was done on its ingest thread.
  bool Run(const std::string& key, const char* what,
           const std::function<void(stream::PublisherStream&)>& work);
};

namespace {

stream::PublisherAddress AddressOf(const Registration& registration) {
  return {.endpoint = registration.endpoint,
          .replay_endpoint = registration.replay_endpoint,
          .mode = registration.mode,
          .peer = registration.peer,
          .topic = registration.topic,
          .rank = registration.dp_rank};
}

bool SameButIncarnation(const Registration& a, Registration b) {
  b.incarnation = a.incarnation;
  return a == b;
}

// What is worth knowing of a registration that can be followed, but not as well as it could be.
void Advise(const Registration& registration, const std::vector<Reservations::Clash>& clashes) {
  for (const auto& [field, what] : clashes) {
    log::Warn(
        "publisher {}: its {} {}: one of the two is wrong, and what was missed may not be healed",
        registration.Key(), field, what);
  }
  if (IsPool(registration.type)) {
    if (registration.pool.admin_endpoint.empty()) {
      log::Info(
          "publisher {}: no admin_endpoint: what the pool held before cannot be learnt, nor can "
          "what is lost on the way",
          registration.Key());
    }
  } else if (registration.replay_endpoint.empty()) {
    log::Info(
        "publisher {}: no replay endpoint: what the engine stored before cannot be learnt, and "
        "after a hole or a reconnect its figures are no longer proven",
        registration.Key());
  }
}

}  // namespace

Registry::Registry(const Options& options) : impl_(std::make_unique<Impl>(options)) {}

Registry::~Registry() {
  std::vector<std::shared_ptr<PoolLister>> listers;
  {
    const std::lock_guard lock(impl_->mutex);
    for (auto& [key, entry] : impl_->entries) {
      if (entry.lister) listers.push_back(std::exchange(entry.lister, nullptr));
    }
  }
  // All at once: each may take a while to notice, and uses the transport until then.
  for (const auto& lister : listers) lister->Stop();
}

// Takes the key and the endpoint, or says who has them.
Result<Registry::Added> Registry::Impl::Reserve(const Registration& registration) {
  const std::string key = registration.Key();
  if (const auto conflict = reservations.FindConflict(registration)) {
    if (conflict->what == Reservations::What::kEndpoint) {
      return Fail(fmt::format("conflicting active registration for endpoint: {} (it is {})",
                              registration.endpoint, conflict->holder),
                  "endpoint", "an endpoint of its own for each publisher");
    }
    Entry& same = entries.at(key);
    if (same.id && *same.registration == registration) return Added::kAlreadyThere;
    if (same.id && SameButIncarnation(*same.registration, registration)) {
      // Naming the life that it lives is no new one, nor is leaving the name out.
      const bool known = !same.registration->incarnation.empty();
      if (registration.incarnation.empty()) return Added::kAlreadyThere;
      same.registration = std::make_shared<const Registration>(registration);
      return known ? Added::kNewIncarnation : Added::kAlreadyThere;
    }
    const std::string why =
        same.id ? fmt::format("other values of {}",
                              fmt::join(DifferingFields(*same.registration, registration), ", "))
                : "it is just being added or removed";
    return Fail(fmt::format("conflicting registration for service key: {} ({})", key, why),
                "instance_id", "the same fields as before, or /unregister first");
  }
  if (entries.size() >= options.transport.max_publishers) {
    return Fail(fmt::format("the limit of {} publishers is reached", entries.size()), "instance_id",
                "a higher --max-publishers");
  }
  auto board = std::make_shared<PublisherBoard>();
  board->changes = changes;
  entries.emplace(key, Entry{std::make_shared<const Registration>(registration), std::move(board),
                             std::nullopt, nullptr});
  reservations.Add(registration, key);
  return Added::kNew;
}

void Registry::Impl::Erase(const std::string& key) {
  const auto found = entries.find(key);
  reservations.Remove(*found->second.registration);
  entries.erase(found);
}

bool Registry::Impl::Run(const std::string& key, const char* what,
                         const std::function<void(stream::PublisherStream&)>& work) {
  stream::Transport::PublisherId id = 0;
  {
    const std::lock_guard lock(mutex);
    const auto found = entries.find(key);
    if (found == entries.end() || !found->second.id) return false;
    id = *found->second.id;
  }
  log::Info("publisher {}: {} was asked for", key, what);
  return transport.Run(
      id, [&work](stream::PublisherStream& stream, stream::Consumer&) { work(stream); });
}

stream::StreamOptions Registry::Impl::StreamOptionsOf(const Registration& registration,
                                                      uint32_t number) const {
  stream::StreamOptions stream = options.stream;
  stream.has_replay = !registration.replay_endpoint.empty();
  stream.has_listing = !registration.pool.admin_endpoint.empty();
  if (IsPool(registration.type)) {
    stream.first_sequence = 1;
    stream.remedy = "Register its admin_endpoint";
  }
  stream.jitter_seed = number;
  stream.batch_time = wire::PeekTimestamp;
  stream.batch_rank = wire::PeekRank;
  return stream;
}

Registry::Impl::MadeConsumer Registry::Impl::MakeConsumer(
    const Registration& registration, uint32_t number, std::shared_ptr<PublisherBoard> board,
    const std::shared_ptr<ListingRequests>& listings) {
  if (!IsPool(registration.type)) {
    return {std::make_unique<EngineConsumer>(index, registration, options.ingest, number,
                                             std::move(board)),
            nullptr};
  }
  auto pool = std::make_unique<PoolConsumer>(index, registration, options.ingest, std::move(board),
                                             listings);
  PoolConsumer* const made = pool.get();
  return {std::move(pool), made};
}

std::shared_ptr<PoolLister> Registry::Impl::MakeLister(
    stream::Transport::PublisherId id, std::unique_ptr<PoolAdmin> admin,
    const std::shared_ptr<ListingRequests>& listings, PoolConsumer& pool) {
  const auto run = [this, id](const std::function<void(stream::PublisherStream&)>& work) {
    return transport.Run(
        id, [&work](stream::PublisherStream& stream, stream::Consumer&) { work(stream); });
  };
  return std::make_shared<PoolLister>(
      std::move(admin), listings, pool, run,
      PoolLister::Options{.probe_interval = options.stream.probe_interval,
                          .max_listing_bytes = options.ingest.max_pool_bytes});
}

Result<Registry::Added> Registry::Add(const Registration& registration) {
  if (auto valid = Validate(registration); !valid) return tl::unexpected(valid.error());
  std::unique_ptr<PoolAdmin> admin;
  if (!registration.pool.admin_endpoint.empty()) {
    auto created =
        PoolAdmin::Create(registration.pool.admin_endpoint, impl_->options.stream.listing_timeout);
    if (!created) return tl::unexpected(created.error());
    admin = std::move(*created);
  }
  const std::string key = registration.Key();
  std::shared_ptr<PublisherBoard> board;
  uint32_t number = 0;
  std::vector<Reservations::Clash> clashes;
  std::optional<stream::Transport::PublisherId> id;
  {
    const std::lock_guard lock(impl_->mutex);
    clashes = impl_->reservations.Clashes(registration);
    const auto reserved = impl_->Reserve(registration);
    if (!reserved || *reserved == Added::kAlreadyThere) return reserved;
    if (*reserved == Added::kNewIncarnation) {
      id = impl_->entries.at(key).id;
    } else {
      board = impl_->entries.at(key).board;
      number = impl_->next_number++;
    }
  }
  if (id) {
    log::Info("publisher {}: it is said to live anew, as {}", key, registration.incarnation);
    impl_->transport.Run(*id, [](stream::PublisherStream& stream, stream::Consumer&) {
      stream.NewIncarnation(MonoNow());
    });
    return Added::kNewIncarnation;
  }
  const auto listings = std::make_shared<ListingRequests>();
  auto [consumer, pool] = impl_->MakeConsumer(registration, number, std::move(board), listings);
  auto added = impl_->transport.Add(
      AddressOf(registration), impl_->StreamOptionsOf(registration, number), std::move(consumer));
  std::shared_ptr<PoolLister> lister;
  if (added && admin) lister = impl_->MakeLister(*added, std::move(admin), listings, *pool);
  {
    const std::lock_guard lock(impl_->mutex);
    if (!added) {
      impl_->Erase(key);
      return tl::unexpected(std::move(added.error()));
    }
    Entry& entry = impl_->entries.at(key);
    entry.id = *added;
    entry.lister = std::move(lister);
    impl_->changes->fetch_add(1);
  }
  log::Info("publisher {} at {}: registered", key, registration.endpoint);
  Advise(registration, clashes);
  return Added::kNew;
}

bool Registry::Remove(const std::string& key) {
  stream::Transport::PublisherId id = 0;
  std::shared_ptr<PoolLister> lister;
  {
    const std::lock_guard lock(impl_->mutex);
    const auto found = impl_->entries.find(key);
    if (found == impl_->entries.end() || !found->second.id) return false;
    id = *std::exchange(found->second.id, std::nullopt);
    impl_->changes->fetch_add(1);
    lister = std::exchange(found->second.lister, nullptr);
  }
  lister.reset();  // it uses the publisher
  impl_->transport.Remove(id);
  log::Info("publisher {}: unregistered, and its blocks are dropped", key);
  const std::lock_guard lock(impl_->mutex);
  impl_->Erase(key);
  return true;
}

bool Registry::Resync(const std::string& key) {
  return impl_->Run(key, "resync",
                    [](stream::PublisherStream& stream) { stream.Resync(MonoNow()); });
}

bool Registry::Clear(const std::string& key) {
  return impl_->Run(key, "clear", [](stream::PublisherStream& stream) { stream.Clear(MonoNow()); });
}

std::vector<PublisherStatus> Registry::Publishers() const {
  std::vector<Entry> entries;
  {
    const std::lock_guard lock(impl_->mutex);
    for (const auto& [key, entry] : impl_->entries) {
      if (entry.id) entries.push_back(entry);
    }
  }
  const MonoTime now = MonoNow();
  std::vector<PublisherStatus> all;
  all.reserve(entries.size());
  for (const Entry& entry : entries) {
    PublisherStatus& status = all.emplace_back();
    status.registration = *entry.registration;
    status.stream = impl_->transport.Counters(*entry.id);
    PublisherBoard& board = *entry.board;
    const std::lock_guard lock(board.mutex);
    status.trust = board.trust;
    status.ingest = board.ingest;
    status.decode_skips = board.decode_skips;
    status.last_decode_error = board.last_decode_error;
    if (board.last_applied) {
      status.last_event_age_seconds =
          std::chrono::duration<double>(now - *board.last_applied).count();
    }
    status.last_event_lag_seconds = board.last_lag_seconds;
    status.effective_block_size =
        board.ingest.block_size != 0 ? board.ingest.block_size : entry.registration->block_size;
  }
  return all;
}

std::vector<EngineView> Registry::Engines() const {
  std::vector<Entry> entries;
  {
    const std::lock_guard lock(impl_->mutex);
    entries.reserve(impl_->entries.size());
    for (const auto& [key, entry] : impl_->entries) {
      if (entry.id && !IsPool(entry.registration->type)) entries.push_back(entry);
    }
  }
  std::vector<EngineView> engines;
  engines.reserve(entries.size());
  for (Entry& entry : entries) {
    const std::lock_guard lock(entry.board->mutex);
    const uint32_t learnt = entry.board->ingest.block_size;
    const uint32_t block_size = learnt != 0 ? learnt : entry.registration->block_size;
    engines.push_back(EngineView{.registration = std::move(entry.registration),
                                 .trust = entry.board->trust,
                                 .block_size = block_size,
                                 .lag_seconds = entry.board->last_lag_seconds,
                                 .lag_now = {entry.board, &entry.board->last_lag_seconds}});
  }
  return engines;
}

std::shared_ptr<const EngineTable> Registry::Table() const {
  const std::lock_guard lock(impl_->table_mutex);
  // Before the look: a change meanwhile makes the next one look again.
  const uint64_t version = impl_->changes->load();
  if (impl_->table->version() != version) {
    impl_->table = std::make_shared<const EngineTable>(Engines(), version);
  }
  return impl_->table;
}

std::vector<PoolView> Registry::Pools() const {
  std::vector<std::pair<std::string, std::shared_ptr<PublisherBoard>>> boards;
  {
    const std::lock_guard lock(impl_->mutex);
    for (const auto& [key, entry] : impl_->entries) {
      if (entry.id && IsPool(entry.registration->type)) boards.emplace_back(key, entry.board);
    }
  }
  std::vector<PoolView> pools;
  for (const auto& [key, board] : boards) {
    const std::lock_guard lock(board->mutex);
    pools.push_back(PoolView{key, board->trust, board->last_lag_seconds});
  }
  return pools;
}

size_t Registry::size() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->entries.size();
}

const index::PrefixIndex& Registry::index() const { return impl_->index; }

const std::string& Registry::limit_warning() const { return impl_->transport.limit_warning(); }

}  // namespace conductor::serve
