#include "daemon/serve/registry.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <tuple>
#include <utility>

#include "daemon/serve/registry_impl.h"
#include "lib/base/log.h"
#include "lib/wire/peek_rank.h"
#include "lib/wire/timestamp.h"

namespace conductor::serve {
namespace {

using Kind = Refusal::Kind;

tl::unexpected<Refusal> Refused(Kind kind, Error error) {
  return tl::unexpected(Refusal(kind, std::move(error)));
}

stream::PublisherAddress AddressOf(const Registration& registration,
                                   std::shared_ptr<stream::Intake> intake) {
  return {.endpoint = registration.Source(),
          .replay_endpoint = registration.replay_endpoint,
          .mode = registration.mode,
          .peer = registration.peer,
          .topic = registration.topic,
          .rank = registration.dp_rank,
          .intake = std::move(intake)};
}

tl::unexpected<Refusal> EndpointTaken(const Registration& registration,
                                      const Reservations::Conflict& conflict) {
  return Refused(Kind::kConflict,
                 {fmt::format("conflicting active registration for endpoint: {} (it is {})",
                              registration.endpoint, conflict.holder),
                  "endpoint", "an endpoint of its own for each publisher"});
}

BlockCounts CountsOf(const ingest::IngestCounters& ingest) {
  return {.stored = ingest.stored_blocks, .removed = ingest.removed_blocks + ingest.expired_blocks};
}

// What nothing is decided by.
bool SameButNotes(const Registration& a, Registration b) {
  b.bytes_per_block = a.bytes_per_block;
  return a == b;
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
  if (registration.mode == stream::ListenMode::kIngest) return;
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

Registry::Registry(const Options& options) : impl_(std::make_unique<Impl>(options)) {
  impl_->churn_looks = std::jthread([impl = impl_.get()](const std::stop_token& stop) {
    std::mutex mutex;
    std::condition_variable_any never;
    std::unique_lock lock(mutex);
    while (!stop.stop_requested()) {
      never.wait_for(lock, stop, kChurnStep, [] { return false; });
      impl->LookAtChurn();
    }
  });
}

Registry::~Registry() {
  impl_->churn_looks.request_stop();
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
tl::expected<Registry::Added, Refusal> Registry::Impl::Reserve(const Registration& registration,
                                                               Profiles profiles) {
  const std::string key = registration.Key();
  if (const auto conflict = reservations.FindConflict(registration)) {
    if (conflict->what == Reservations::What::kEndpoint)
      return EndpointTaken(registration, *conflict);
    Entry& same = entries.at(key);
    const bool settled = same.id && !same.replacing;
    if (settled && *same.registration == registration) return Added::kAlreadyThere;
    if (settled && SameButIncarnation(*same.registration, registration)) {
      // Naming the life that it lives is no new one, nor is leaving the name out.
      const bool known = !same.registration->incarnation.empty();
      if (registration.incarnation.empty()) return Added::kAlreadyThere;
      same.registration = std::make_shared<const Registration>(registration);
      if (!known && same.intake) same.intake->Name(registration.incarnation);
      return known ? Added::kNewIncarnation : Added::kAlreadyThere;
    }
    if (same.leaving) {
      return Refused(Kind::kLeaving, {fmt::format("service is being unregistered: {}", key),
                                      "instance_id", "the same a moment later"});
    }
    const std::string why =
        settled ? fmt::format("other values of {}",
                              fmt::join(DifferingFields(*same.registration, registration), ", "))
                : "it is just being added or replaced";
    return Refused(
        Kind::kConflict,
        {fmt::format("conflicting registration for service key: {} ({})", key, why), "instance_id",
         "the same fields as before, or /unregister or DELETE /v1/publishers/{id} first"});
  }
  if (profiles == Profiles::kMustAgree && HashesUnlikeOthers(registration)) {
    return Refused(Kind::kConflict,
                   {"another profile is registered for the context of the same tenant, model, "
                    "adapter and block size",
                    "hash_profile", "the one that its engines have"});
  }
  if (entries.size() >= options.transport.max_publishers) {
    return Refused(Kind::kFull,
                   {fmt::format("the limit of {} publishers is reached", entries.size()),
                    "instance_id", "a higher --max-publishers"});
  }
  entries.emplace(key, Entry{.registration = std::make_shared<const Registration>(registration)});
  reservations.Add(registration, key);
  return Added::kNew;
}

bool Registry::Impl::HashesUnlikeOthers(const Registration& registration) const {
  if (!registration.hash_profile) return false;
  const hash::HashProfile& profile = *registration.hash_profile;
  const auto context = [](const Registration& of) {
    return std::tie(of.tenant, of.model, of.lora_name, of.block_size, of.additional_salt);
  };
  return std::ranges::any_of(entries, [&](const auto& entry) {
    const Registration& other = *entry.second.registration;
    return !IsPool(other.type) && other.hash_profile && context(other) == context(registration) &&
           std::tie(other.hash_profile->algorithm, other.hash_profile->seed) !=
               std::tie(profile.algorithm, profile.seed);
  });
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
  if (registration.mode == stream::ListenMode::kIngest) {
    stream.endpoint = fmt::format("the ingest of {}", registration.Key());
    stream.remedy = "Ingest it from its first sequence under another incarnation";
  }
  stream.jitter_seed = number;
  stream.batch_time = wire::PeekTimestamp;
  stream.batch_rank = wire::PeekRank;
  return stream;
}

Registry::Impl::Prepared Registry::Impl::Prepare(const Registration& registration,
                                                 uint32_t number) {
  Prepared prepared;
  prepared.board = std::make_shared<PublisherBoard>();
  prepared.board->changes = changes;
  prepared.board->events = &events;
  prepared.listings = std::make_shared<ListingRequests>();
  if (IsPool(registration.type)) {
    auto pool = std::make_unique<PoolConsumer>(index, registration, options.ingest, prepared.board,
                                               prepared.listings);
    prepared.pool = pool.get();
    prepared.consumer = std::move(pool);
  } else {
    auto engine = std::make_unique<EngineConsumer>(index, registration, options.ingest, number,
                                                   prepared.board);
    prepared.engine = engine.get();
    prepared.consumer = std::move(engine);
  }
  return prepared;
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

tl::expected<Registry::Impl::Following, Refusal> Registry::Impl::Follow(
    const Registration& registration, uint32_t number,
    std::optional<stream::Transport::PublisherId> replaces) {
  return Follow(registration, number, Prepare(registration, number), std::nullopt, replaces);
}

tl::expected<Registry::Impl::Following, Refusal> Registry::Impl::Follow(
    const Registration& registration, uint32_t number, Prepared prepared,
    std::optional<stream::Resume> resume, std::optional<stream::Transport::PublisherId> replaces) {
  std::unique_ptr<PoolAdmin> admin;
  if (!registration.pool.admin_endpoint.empty()) {
    auto created =
        PoolAdmin::Create(registration.pool.admin_endpoint, options.stream.listing_timeout);
    if (!created) return Refused(Kind::kInvalid, std::move(created.error()));
    admin = std::move(*created);
  }
  Following following;
  following.board = std::move(prepared.board);
  if (registration.mode == stream::ListenMode::kIngest) {
    following.intake = std::make_shared<stream::Intake>(options.stream.max_pending_bytes,
                                                        registration.incarnation);
  }
  stream::StreamOptions stream = StreamOptionsOf(registration, number);
  stream.resume = std::move(resume);
  auto added = transport.Add(AddressOf(registration, following.intake), stream,
                             std::move(prepared.consumer), replaces);
  if (!added) return Refused(Kind::kInvalid, std::move(added.error()));
  following.id = *added;
  if (admin) {
    following.lister = MakeLister(*added, std::move(admin), prepared.listings, *prepared.pool);
  }
  return following;
}

void Registry::Impl::Enter(Entry& entry, Following following) {
  entry.id = following.id;
  entry.board = std::move(following.board);
  entry.lister = std::move(following.lister);
  entry.intake = std::move(following.intake);
}

void Registry::Impl::LiveAnew(const Registration& registration, stream::Transport::PublisherId id) {
  log::Info("publisher {}: it is said to live anew, as {}", registration.Key(),
            registration.incarnation);
  transport.Run(id, [](stream::PublisherStream& stream, stream::Consumer&) {
    stream.NewIncarnation(MonoNow());
  });
}

tl::expected<Registry::Added, Refusal> Registry::Add(const Registration& registration,
                                                     Profiles profiles) {
  if (auto valid = Validate(registration); !valid) {
    return Refused(Kind::kInvalid, std::move(valid.error()));
  }
  const std::string key = registration.Key();
  uint32_t number = 0;
  std::vector<Reservations::Clash> clashes;
  std::optional<stream::Transport::PublisherId> lives_anew;
  {
    const std::lock_guard lock(impl_->mutex);
    clashes = impl_->reservations.Clashes(registration);
    const auto reserved = impl_->Reserve(registration, profiles);
    if (!reserved || *reserved == Added::kAlreadyThere) return reserved;
    if (*reserved == Added::kNewIncarnation) {
      const Entry& entry = impl_->entries.at(key);
      // In its queue the new life comes after what was handed in before.
      if (entry.intake) {
        entry.intake->BeginLife(registration.incarnation);
        return reserved;
      }
      lives_anew = entry.id;
    } else {
      number = impl_->next_number++;
    }
  }
  if (lives_anew) {
    impl_->LiveAnew(registration, *lives_anew);
    return Added::kNewIncarnation;
  }
  auto following = impl_->Follow(registration, number);
  {
    const std::lock_guard lock(impl_->mutex);
    if (!following) {
      impl_->Erase(key);
      return tl::unexpected(std::move(following.error()));
    }
    Entry& entry = impl_->entries.at(key);
    Impl::Enter(entry, *std::move(following));
    impl_->changes->fetch_add(1);
  }
  log::Info("publisher {} at {}: registered", key, registration.Source());
  Advise(registration, clashes);
  return Added::kNew;
}

tl::expected<std::vector<Registry::Added>, Refusal> Registry::AddAll(
    std::span<const Registration> ranks, Profiles profiles) {
  std::vector<Added> added;
  for (const Registration& rank : ranks) {
    auto one = Add(rank, profiles);
    if (one) {
      added.push_back(*one);
      continue;
    }
    for (size_t i = 0; i < added.size(); ++i) {
      if (added[i] == Added::kNew) (void)Remove(ranks[i].Key());
    }
    one.error().rank = added.size();
    if (ranks.size() > 1) {
      one.error().what = fmt::format("rank {}: {}", rank.dp_rank, one.error().what);
    }
    return tl::unexpected(std::move(one.error()));
  }
  return added;
}

Registry::Entry* Registry::Impl::Settled(std::unique_lock<std::mutex>& lock,
                                         const std::string& key) {
  for (;;) {
    const auto found = entries.find(key);
    if (found == entries.end() || !found->second.id) return nullptr;
    if (!found->second.replacing) return &found->second;
    replaced.wait(lock);
  }
}

tl::expected<Registry::Put, Refusal> Registry::Replace(const Registration& registration) {
  if (auto valid = Validate(registration); !valid) {
    return Refused(Kind::kInvalid, std::move(valid.error()));
  }
  uint32_t number = 0;
  std::vector<Reservations::Clash> clashes;
  {
    std::unique_lock lock(impl_->mutex);
    Entry* const entry = impl_->Settled(lock, registration.Key());
    if (entry == nullptr || SameButIncarnation(*entry->registration, registration)) {
      lock.unlock();
      return Add(registration).map([](Added added) {
        return added == Added::kNew              ? Put::kNew
               : added == Added::kNewIncarnation ? Put::kNewIncarnation
                                                 : Put::kAlreadyThere;
      });
    }
    if (SameButNotes(*entry->registration, registration)) {
      entry->registration = std::make_shared<const Registration>(registration);
      return Put::kNoted;
    }
    impl_->reservations.Remove(*entry->registration);
    if (const auto conflict = impl_->reservations.FindConflict(registration)) {
      impl_->reservations.Add(*entry->registration, registration.Key());
      return EndpointTaken(registration, *conflict);
    }
    clashes = impl_->reservations.Clashes(registration);
    impl_->reservations.Add(registration, registration.Key());
    entry->replacing = true;
    number = impl_->next_number++;
  }
  auto put = impl_->TakePlace(registration, number);
  if (put) Advise(registration, clashes);
  return put;
}

tl::expected<Registry::Put, Refusal> Registry::Impl::TakePlace(const Registration& registration,
                                                               uint32_t number) {
  const std::string key = registration.Key();
  stream::Transport::PublisherId old = 0;
  {
    const std::lock_guard lock(mutex);
    old = *entries.at(key).id;
  }
  auto following = Follow(registration, number, old);
  std::shared_ptr<PoolLister> lister;  // the old one; it uses the old publisher
  {
    const std::lock_guard lock(mutex);
    Entry& entry = entries.at(key);
    if (!following) {
      reservations.Remove(registration);
      reservations.Add(*entry.registration, key);
      entry.replacing = false;
      replaced.notify_all();
      return tl::unexpected(std::move(following.error()));
    }
    entry.registration = std::make_shared<const Registration>(registration);
    entry.id = following->id;
    entry.board = std::move(following->board);
    lister = std::exchange(entry.lister, std::move(following->lister));
    entry.intake = std::move(following->intake);
    changes->fetch_add(1);
  }
  lister.reset();
  transport.Remove(old);
  log::Info(
      "publisher {} at {}: it takes the place of what was registered so far, whose blocks are "
      "dropped",
      key, registration.Source());
  const std::lock_guard lock(mutex);
  entries.at(key).replacing = false;
  replaced.notify_all();
  return Put::kReplaced;
}

tl::expected<Registry::Ingested, Refusal> Registry::Ingest(
    const Registration& registration, std::span<stream::Intake::Message> messages) {
  const std::string key = registration.Key();
  if (registration.mode != stream::ListenMode::kIngest) {
    return Refused(Kind::kConflict, {fmt::format("{} is listened to", key), "mode",
                                     "a publisher of mode \"ingest\", or another key"});
  }
  const auto former = [&] {
    return Refused(Kind::kConflict,
                   {fmt::format("'{}' is over: {} lives anew since", registration.incarnation, key),
                    "incarnation", "the present life, or a name that was never one"});
  };
  {
    std::unique_lock lock(impl_->mutex);
    const Entry* entry = impl_->Settled(lock, key);
    if (entry && entry->intake && entry->intake->IsFormer(registration.incarnation)) {
      return former();
    }
  }
  const auto added = Add(registration);
  if (!added) return tl::unexpected(added.error());
  Ingested ingested{.created = *added == Added::kNew};
  {
    const std::lock_guard lock(impl_->mutex);
    const auto found = impl_->entries.find(key);
    if (found != impl_->entries.end()) ingested.intake = found->second.intake;
  }
  if (!ingested.intake) {
    return Refused(Kind::kConflict, {fmt::format("{} was just removed", key), "publisher", ""});
  }
  const auto offered = ingested.intake->Offer(registration.incarnation, messages);
  if (!offered.present) return former();
  ingested.taken = offered.taken;
  ingested.ticket = offered.ticket;
  return ingested;
}

bool Registry::WaitApplied(const std::string& key, const Ingested& ingested, MonoTime until,
                           const std::stop_token& stop) {
  if (!ingested.intake->WaitFor(ingested.ticket, until, stop)) return false;
  stream::Transport::PublisherId id = 0;
  {
    const std::lock_guard lock(impl_->mutex);
    const auto found = impl_->entries.find(key);
    if (found == impl_->entries.end() || !found->second.id) return false;
    id = *found->second.id;
  }
  // Behind the turn in which it was applied, whose end tells the counters.
  return impl_->transport.Run(id, [](stream::PublisherStream&, stream::Consumer&) {});
}

Registry::Removed Registry::Remove(const std::string& key) {
  stream::Transport::PublisherId id = 0;
  std::shared_ptr<PoolLister> lister;
  {
    std::unique_lock lock(impl_->mutex);
    Entry* const entry = impl_->Settled(lock, key);
    if (entry == nullptr) {
      const auto found = impl_->entries.find(key);
      const bool leaving = found != impl_->entries.end() && found->second.leaving;
      return leaving ? Removed::kLeaving : Removed::kUnknown;
    }
    id = *std::exchange(entry->id, std::nullopt);
    entry->leaving = true;
    lister = std::exchange(entry->lister, nullptr);
    impl_->changes->fetch_add(1);
  }
  lister.reset();  // it uses the publisher
  impl_->transport.Remove(id);
  log::Info("publisher {}: unregistered, and its blocks are dropped", key);
  const std::lock_guard lock(impl_->mutex);
  const std::string instance = impl_->entries.at(key).registration->instance_id;
  impl_->Erase(key);
  const bool others = std::ranges::any_of(impl_->entries, [&](const auto& entry) {
    return entry.second.registration->instance_id == instance;
  });
  if (!others) impl_->hot_prefixes.Forget(instance);
  return Removed::kRemoved;
}

bool Registry::Resync(const std::string& key) {
  return impl_->Run(key, "resync",
                    [](stream::PublisherStream& stream) { stream.Resync(MonoNow()); });
}

bool Registry::Clear(const std::string& key) {
  return impl_->Run(key, "clear", [](stream::PublisherStream& stream) { stream.Clear(MonoNow()); });
}

PublisherStatus Registry::Impl::StatusOf(const Entry& entry, MonoTime now) const {
  PublisherStatus status;
  status.registration = *entry.registration;
  status.stream = transport.Counters(*entry.id);
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
  const BlockCounts counts = CountsOf(board.ingest);
  status.churn_1m = board.churn.Over(std::chrono::minutes(1), now, counts);
  status.churn_5m = board.churn.Over(std::chrono::minutes(5), now, counts);
  return status;
}

void Registry::Impl::LookAtChurn() {
  std::vector<std::shared_ptr<PublisherBoard>> boards;
  {
    const std::lock_guard lock(mutex);
    for (const auto& [key, entry] : entries) {
      if (entry.id) boards.push_back(entry.board);
    }
  }
  const MonoTime now = MonoNow();
  for (const auto& board : boards) {
    const std::lock_guard lock(board->mutex);
    board->churn.Look(now, CountsOf(board->ingest));
  }
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
  for (const Entry& entry : entries) all.push_back(impl_->StatusOf(entry, now));
  return all;
}

std::optional<PublisherStatus> Registry::Publisher(const std::string& key) const {
  std::optional<Entry> entry;
  {
    const std::lock_guard lock(impl_->mutex);
    const auto found = impl_->entries.find(key);
    if (found == impl_->entries.end() || !found->second.id) return std::nullopt;
    entry = found->second;
  }
  return impl_->StatusOf(*entry, MonoNow());
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

HotPrefixes& Registry::hot_prefixes() const { return impl_->hot_prefixes; }
EventStream& Registry::events() const { return impl_->events; }

const std::string& Registry::limit_warning() const { return impl_->transport.limit_warning(); }

}  // namespace conductor::serve
