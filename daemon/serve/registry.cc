#include "daemon/serve/registry.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <mutex>
#include <utility>

#include "daemon/serve/publisher_consumer.h"
#include "daemon/serve/reservations.h"
#include "lib/base/log.h"
#include "lib/wire/timestamp.h"

namespace conductor::serve {
namespace {

struct Entry {
  std::shared_ptr<const Registration> registration;
  std::shared_ptr<PublisherBoard> board;
  // Nothing while it is being added, and again while it is being removed: its key and endpoint are
  // taken, but it is not listed.
  std::optional<stream::Transport::PublisherId> id;
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
  // Last, so that its threads, which use the index, end first.
  stream::Transport transport;

  [[nodiscard]] Result<Added> Reserve(const Registration& registration);
  // The end of what Reserve() began.
  void Erase(const std::string& key);
};

namespace {

// What is worth knowing of a registration that can be followed, but not as well as it could be.
void Advise(const Registration& registration, const std::vector<Reservations::Clash>& clashes) {
  for (const auto& [field, what] : clashes) {
    log::Warn(
        "publisher {}: its {} {}: one of the two is wrong, and what was missed may not be healed",
        registration.Key(), field, what);
  }
  if (registration.type == PublisherType::kVllm && registration.replay_endpoint.empty()) {
    log::Info(
        "publisher {}: no replay endpoint: what the engine stored before cannot be learnt, and "
        "after a hole or a reconnect its figures are no longer proven",
        registration.Key());
  }
}

}  // namespace

Registry::Registry(const Options& options) : impl_(std::make_unique<Impl>(options)) {}
Registry::~Registry() = default;

// Takes the key and the endpoint, or says who has them.
Result<Registry::Added> Registry::Impl::Reserve(const Registration& registration) {
  const std::string key = registration.Key();
  if (const auto conflict = reservations.FindConflict(registration)) {
    if (conflict->what == Reservations::What::kEndpoint) {
      return Fail(fmt::format("conflicting active registration for endpoint: {} (it is {})",
                              registration.endpoint, conflict->holder),
                  "endpoint", "an endpoint of its own for each publisher");
    }
    const Entry& same = entries.at(key);
    if (same.id && *same.registration == registration) return Added::kAlreadyThere;
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
  entries.emplace(key, Entry{std::make_shared<const Registration>(registration),
                             std::make_shared<PublisherBoard>(), std::nullopt});
  reservations.Add(registration, key);
  return Added::kNew;
}

void Registry::Impl::Erase(const std::string& key) {
  const auto found = entries.find(key);
  reservations.Remove(*found->second.registration);
  entries.erase(found);
}

Result<Registry::Added> Registry::Add(const Registration& registration) {
  if (auto valid = Validate(registration); !valid) return tl::unexpected(valid.error());
  const std::string key = registration.Key();
  std::shared_ptr<PublisherBoard> board;
  uint32_t number = 0;
  std::vector<Reservations::Clash> clashes;
  {
    const std::lock_guard lock(impl_->mutex);
    clashes = impl_->reservations.Clashes(registration);
    const auto reserved = impl_->Reserve(registration);
    if (!reserved || *reserved == Added::kAlreadyThere) return reserved;
    board = impl_->entries.at(key).board;
    number = impl_->next_number++;
  }
  stream::StreamOptions stream = impl_->options.stream;
  stream.has_replay = !registration.replay_endpoint.empty();
  stream.first_sequence = registration.type == PublisherType::kMooncake ? 1 : 0;
  stream.jitter_seed = number;
  stream.batch_time = wire::PeekTimestamp;
  const stream::PublisherAddress address{.endpoint = registration.endpoint,
                                         .replay_endpoint = registration.replay_endpoint,
                                         .topic = registration.topic};
  auto id = impl_->transport.Add(
      address, stream,
      std::make_unique<PublisherConsumer>(impl_->index, registration, impl_->options.ingest, number,
                                          std::move(board)));
  {
    const std::lock_guard lock(impl_->mutex);
    if (!id) {
      impl_->Erase(key);
      return tl::unexpected(std::move(id.error()));
    }
    impl_->entries.at(key).id = *id;
  }
  log::Info("publisher {} at {}: registered", key, registration.endpoint);
  Advise(registration, clashes);
  return Added::kNew;
}

bool Registry::Remove(const std::string& key) {
  stream::Transport::PublisherId id = 0;
  {
    const std::lock_guard lock(impl_->mutex);
    const auto found = impl_->entries.find(key);
    if (found == impl_->entries.end() || !found->second.id) return false;
    id = *std::exchange(found->second.id, std::nullopt);
  }
  impl_->transport.Remove(id);
  log::Info("publisher {}: unregistered, and its blocks are dropped", key);
  const std::lock_guard lock(impl_->mutex);
  impl_->Erase(key);
  return true;
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
      if (entry.id && entry.registration->type == PublisherType::kVllm) entries.push_back(entry);
    }
  }
  std::vector<EngineView> engines;
  engines.reserve(entries.size());
  for (Entry& entry : entries) {
    const std::lock_guard lock(entry.board->mutex);
    const uint32_t learnt = entry.board->ingest.block_size;
    const uint32_t block_size = learnt != 0 ? learnt : entry.registration->block_size;
    engines.push_back(EngineView{std::move(entry.registration), entry.board->trust, block_size,
                                 entry.board->last_lag_seconds});
  }
  return engines;
}

size_t Registry::size() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->entries.size();
}

const index::PrefixIndex& Registry::index() const { return impl_->index; }

const std::string& Registry::limit_warning() const { return impl_->transport.limit_warning(); }

}  // namespace conductor::serve
