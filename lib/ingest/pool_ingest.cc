#include "lib/ingest/pool_ingest.h"

#include <absl/container/flat_hash_map.h>
#include <absl/container/flat_hash_set.h>
#include <fmt/format.h>

#include <algorithm>
#include <tuple>
#include <utility>
#include <variant>

#include "lib/ingest/block_shape.h"
#include "lib/ingest/expiry_queue.h"
#include "lib/ingest/pool_objects.h"

namespace conductor::ingest {
namespace {

using Writer = index::PrefixIndex::Writer;

// Changes of one listing that are made in one go: a listing of millions must not hold other
// publishers up.
constexpr size_t kListedAtOnce = 4096;

std::string_view LastComponent(std::string_view model) {
  const size_t slash = model.rfind('/');
  return slash == std::string_view::npos ? model : model.substr(slash + 1);
}

// The tiers that a medium stands for; nothing for one that pools do not have.
std::optional<ObjectTiers> TiersOf(const std::optional<std::string>& medium) {
  if (!medium || medium->empty()) return ObjectTiers{};
  const auto tier = TierOfMedium(*medium);
  if (!tier || *tier == Tier::kGpu) return std::nullopt;
  return ObjectTiers{.cpu = *tier == Tier::kCpu, .disk = *tier == Tier::kDisk};
}

}  // namespace

struct PoolIngest::Impl {
  Impl(index::PrefixIndex& the_index, PoolProfile the_profile, IngestLimits the_limits);

  // The tenant of objects that an event gives to `named`.
  [[nodiscard]] const std::string& TenantOf(const std::optional<std::string>& named) const {
    return named && !named->empty() && *named != "default" ? *named : profile.tenant;
  }
  // The model of a key as queries name it; nothing, and counted, when it is none of ours.
  [[nodiscard]] std::optional<std::string> ModelOf(const wire::ObjectKey& key);

  // Names tell what `key` is, where the event does; otherwise the key itself is read. Nothing, and
  // counted, when it is of no use.
  struct Read {
    wire::ObjectKey key;
    std::string model;
  };
  [[nodiscard]] std::optional<Read> ReadKey(std::string_view key,
                                            const std::optional<wire::ObjectKey>& described);

  void Stored(Writer& writer, const wire::ObjectStored& event, MonoTime now);
  void Removed(Writer& writer, const wire::ObjectRemoved& event);
  void Cleared(Writer& writer, const wire::ScopeCleared& event);
  // While a listing is on its way: the object was announced on these tiers; left them.
  void TouchStored(const ObjectId& id, ObjectTiers tiers) {
    if (!listing) return;
    ObjectTiers& announced = touched[id];
    announced.cpu |= tiers.cpu;
    announced.disk |= tiers.disk;
  }
  void TouchGone(const ObjectId& id, ObjectTiers tiers = {.cpu = true, .disk = true}) {
    if (!listing) return;
    ObjectTiers& announced = touched[id];
    announced.cpu &= !tiers.cpu;
    announced.disk &= !tiers.disk;
  }

  // Tells the index.
  void Sync(Writer& writer, const PoolObjects::Change& change);
  void SyncAll(Writer& writer, const std::vector<PoolObjects::Change>& changes) {
    for (const auto& change : changes) Sync(writer, change);
  }

  void Clear(Writer& writer);

  index::PrefixIndex& index;
  const PoolProfile profile;
  const IngestLimits limits;
  index::PoolId pool{};
  PoolObjects objects;
  IngestCounters counters;
  bool dropped = false;        // something did not fit since all was last known
  bool lost_tenants = false;   // a listing could not have objects of other tenants
  std::string foreign_model;   // the last one seen
  std::string foreign_prefix;  // one of a prefix that is not ours, of a model that is
  bool listing = false;
  // Touched since BeginListing, with the tiers that were announced since then.
  absl::flat_hash_map<ObjectId, ObjectTiers> touched;
  ObjectTiers cleared_tiers;  // since then; what a listing adds was not on them
  ExpiryQueue<std::pair<ObjectId, Tier>> expiry;
};

PoolIngest::Impl::Impl(index::PrefixIndex& the_index, PoolProfile the_profile,
                       IngestLimits the_limits)
    : index(the_index),
      profile(std::move(the_profile)),
      limits(the_limits),
      objects(PoolObjects::Options{
          .declared = {.tensor_ranks = profile.tp_size && profile.kv_heads
                                           ? std::min(profile.tp_size, profile.kv_heads)
                                           : profile.tp_size,
                       .pipeline_ranks = profile.pp_size,
                       .layers = profile.layers},
          .max_bytes = limits.max_pool_bytes,
          .max_families = limits.max_holders}) {
  Writer writer = index.Write();
  pool = writer.AddPool(profile.name, profile.lookup, profile.hash_profile);
}

std::optional<std::string> PoolIngest::Impl::ModelOf(const wire::ObjectKey& key) {
  if (!profile.key_models.empty()) {
    const auto found = profile.key_models.find(
        key.prefix.empty() ? key.model : fmt::format("{}@{}", key.prefix, key.model));
    if (found != profile.key_models.end()) return found->second;
  } else if (key.model.empty() || key.model == profile.model ||
             key.model == LastComponent(profile.model)) {
    if (key.prefix.empty()) return profile.model;
    foreign_prefix = key.prefix;
  }
  ++counters.objects_foreign;
  foreign_model = key.model;
  return std::nullopt;
}

std::optional<PoolIngest::Impl::Read> PoolIngest::Impl::ReadKey(
    std::string_view key, const std::optional<wire::ObjectKey>& described) {
  Read read;
  if (described) {
    read.key = *described;
  } else {
    auto parsed = wire::ParseObjectKey(key);
    if (!parsed) {
      ++counters.objects_unread;
      return std::nullopt;
    }
    read.key = std::move(*parsed);
  }
  if (!BlockShape::Fits(read.key)) {
    ++counters.objects_unread;
    return std::nullopt;
  }
  auto model = ModelOf(read.key);
  if (!model) return std::nullopt;
  read.model = std::move(*model);
  return read;
}

void PoolIngest::Impl::Sync(Writer& writer, const PoolObjects::Change& change) {
  writer.SetPoolBlock(pool,
                      index::PoolDomain{.tenant = change.scope->tenant,
                                        .model = change.scope->model,
                                        .additional_salt = profile.additional_salt},
                      index::PoolName{change.scope->group, change.hash}, change.tier);
}

void PoolIngest::Impl::Stored(Writer& writer, const wire::ObjectStored& event, MonoTime now) {
  ++counters.objects_stored;
  const auto tiers = TiersOf(event.medium);
  if (!tiers) {
    ++counters.ignored_medium;
    return;
  }
  const ObjectId id{TenantOf(event.tenant), event.key};
  TouchStored(id, *tiers);
  std::vector<PoolObjects::Change> changes;
  if (!objects.Contains(id)) {
    const auto read = ReadKey(event.key, event.described);
    if (!read) return;
    // What it was on before a listing was asked for may never have been heard.
    if (!objects.Add(id, read->key, read->model, event.backend.value_or(""), *tiers,
                     /*settled=*/!listing, changes)) {
      ++counters.waiting_dropped;
      dropped = true;
      return;
    }
  } else {
    objects.AddTiers(id, *tiers, changes);
    if (event.backend) objects.SetBackend(id, *event.backend);
  }
  SyncAll(writer, changes);
  for (const Tier tier : {Tier::kCpu, Tier::kDisk}) {
    const Duration ttl = profile.ttl[static_cast<size_t>(tier)];
    if (ttl > Duration::zero() && (tier == Tier::kCpu ? tiers->cpu : tiers->disk)) {
      expiry.Announce({id, tier}, now + ttl);
    }
  }
}

void PoolIngest::Impl::Removed(Writer& writer, const wire::ObjectRemoved& event) {
  ++counters.objects_removed;
  const ObjectId id{TenantOf(event.tenant), event.key};
  TouchGone(id);
  std::vector<PoolObjects::Change> changes;
  if (!objects.Remove(id, changes)) ++counters.removed_unknown;
  SyncAll(writer, changes);
}

void PoolIngest::Impl::Cleared(Writer& writer, const wire::ScopeCleared& event) {
  ++counters.cleared_events;
  const auto tiers = TiersOf(event.medium);
  if (!tiers) {
    ++counters.ignored_medium;
    return;
  }
  const bool every_tier = !tiers->any();
  if (listing && (!event.tenant || TenantOf(event.tenant) == profile.tenant)) {
    cleared_tiers.cpu |= every_tier || tiers->cpu;
    cleared_tiers.disk |= every_tier || tiers->disk;
  }
  std::vector<ObjectId> cleared;
  objects.ForEach([&](const ObjectId& id, const std::string& backend, const ObjectTiers&) {
    if (event.tenant && id.tenant != TenantOf(event.tenant)) return;
    // Listings name no backend.
    if (event.backend && !backend.empty() && backend != *event.backend) return;
    cleared.push_back(id);
  });
  std::vector<PoolObjects::Change> changes;
  for (const ObjectId& id : cleared) {
    if (every_tier) {
      TouchGone(id);
      objects.Remove(id, changes);
    } else {
      TouchGone(id, *tiers);
      objects.RemoveTiers(id, *tiers, changes);
    }
  }
  SyncAll(writer, changes);
}

void PoolIngest::Impl::Clear(Writer& writer) {
  std::vector<PoolObjects::Change> changes;
  objects.Clear(changes);
  SyncAll(writer, changes);
  expiry.Clear();
  touched.clear();
  dropped = false;
  lost_tenants = false;
}

PoolIngest::PoolIngest(index::PrefixIndex& index, PoolProfile profile, IngestLimits limits)
    : impl_(std::make_unique<Impl>(index, std::move(profile), limits)) {}

PoolIngest::~PoolIngest() {
  Writer writer = impl_->index.Write();
  impl_->Clear(writer);
  writer.DropPool(impl_->pool);
}

void PoolIngest::Apply(const wire::EventBatch& batch, MonoTime now) {
  ++impl_->counters.batches;
  if (batch.last_event_id) impl_->counters.last_event_id = *batch.last_event_id;
  Writer writer = impl_->index.Write();
  for (const wire::KvEvent& event : batch.events) {
    if (const auto* stored = std::get_if<wire::ObjectStored>(&event)) {
      impl_->Stored(writer, *stored, now);
    } else if (const auto* removed = std::get_if<wire::ObjectRemoved>(&event)) {
      impl_->Removed(writer, *removed);
    } else if (const auto* cleared = std::get_if<wire::ScopeCleared>(&event)) {
      impl_->Cleared(writer, *cleared);
    } else {
      ++impl_->counters.refused_shape;  // an engine's event
    }
  }
}

std::optional<MonoTime> PoolIngest::NextDeadline() const { return impl_->expiry.NextDeadline(); }

void PoolIngest::Tick(MonoTime now) {
  auto due = impl_->expiry.TakeDue(now);
  if (!due) return;
  Writer writer = impl_->index.Write();
  std::vector<PoolObjects::Change> changes;
  for (; due; due = impl_->expiry.TakeDue(now)) {
    const auto& [id, tier] = *due;
    const ObjectTiers tiers{.cpu = tier == Tier::kCpu, .disk = tier == Tier::kDisk};
    impl_->TouchGone(id, tiers);
    ++impl_->counters.expired_blocks;
    impl_->objects.RemoveTiers(id, tiers, changes);
  }
  impl_->SyncAll(writer, changes);
}

void PoolIngest::NewLife() {
  Writer writer = impl_->index.Write();
  impl_->Clear(writer);
}

void PoolIngest::BeginListing() {
  AbandonListing();
  impl_->listing = true;
}

void PoolIngest::AbandonListing() {
  impl_->listing = false;
  impl_->touched.clear();
  impl_->cleared_tiers = {};
}

bool PoolIngest::ApplyListing(std::span<const ListedObject> listed) {
  Impl& impl = *impl_;
  impl.dropped = false;
  ++impl.counters.listings;
  absl::flat_hash_set<std::string_view> there;
  for (size_t begin = 0; begin < listed.size(); begin += kListedAtOnce) {
    Writer writer = impl.index.Write();
    std::vector<PoolObjects::Change> changes;
    for (const ListedObject& object :
         listed.subspan(begin, std::min(kListedAtOnce, listed.size() - begin))) {
      there.insert(object.key);
      const ObjectId id{impl.profile.tenant, object.key};
      ObjectTiers tiers{.cpu = object.cpu, .disk = object.disk};
      if (impl.touched.contains(id)) continue;
      if (impl.objects.Contains(id)) {
        if (tiers.any()) {
          impl.objects.SetTiers(id, tiers, changes);
        } else {
          impl.objects.Unsettle(id, tiers, changes);
        }
        continue;
      }
      if (impl.cleared_tiers.any()) {
        tiers.cpu &= !impl.cleared_tiers.cpu;
        tiers.disk &= !impl.cleared_tiers.disk;
        if (!tiers.any()) continue;
      }
      const auto read = impl.ReadKey(object.key, std::nullopt);
      if (!read) continue;
      if (!impl.objects.Add(id, read->key, read->model, "", tiers, /*settled=*/true, changes)) {
        ++impl.counters.waiting_dropped;
        impl.dropped = true;
      }
    }
    impl.SyncAll(writer, changes);
  }
  std::vector<ObjectId> gone;
  impl.objects.ForEach([&](const ObjectId& id, const std::string&, const ObjectTiers&) {
    if (impl.touched.contains(id)) return;
    if (id.tenant != impl.profile.tenant) {
      impl.lost_tenants = true;
    } else if (there.contains(id.key)) {
      return;
    }
    gone.push_back(id);
  });
  for (size_t begin = 0; begin < gone.size(); begin += kListedAtOnce) {
    Writer writer = impl.index.Write();
    std::vector<PoolObjects::Change> changes;
    for (size_t i = begin; i < std::min(begin + kListedAtOnce, gone.size()); ++i) {
      impl.objects.Remove(gone[i], changes);
    }
    impl.SyncAll(writer, changes);
  }
  const bool speaks_for_all = impl.touched.empty();
  {
    Writer writer = impl.index.Write();
    std::vector<PoolObjects::Change> changes;
    for (const auto& [id, announced] : impl.touched) {
      if (impl.objects.Contains(id)) impl.objects.Unsettle(id, announced, changes);
    }
    impl.SyncAll(writer, changes);
  }
  AbandonListing();
  return speaks_for_all;
}

std::vector<std::string> PoolIngest::KeysWithoutTier(size_t most) const {
  return impl_->objects.KeysWithoutTier(impl_->profile.tenant, most);
}

std::vector<std::string> PoolIngest::AskForTiers(size_t most) {
  return impl_->objects.AskForTiers(impl_->profile.tenant, most);
}

void PoolIngest::TiersLearnt(std::span<const ListedObject> listed) {
  Writer writer = impl_->index.Write();
  std::vector<PoolObjects::Change> changes;
  for (const ListedObject& object : listed) {
    const ObjectId id{impl_->profile.tenant, object.key};
    if (!impl_->objects.Asked(id)) continue;
    if (object.cpu || object.disk) {
      impl_->objects.SetTiers(id, ObjectTiers{.cpu = object.cpu, .disk = object.disk}, changes);
    } else {
      impl_->objects.Remove(id, changes);
    }
  }
  impl_->SyncAll(writer, changes);
}

std::unique_ptr<PoolCopy> PoolIngest::BeginCopy(MonoTime now) const {
  const Impl& impl = *impl_;
  SavedPool begun{
      .dropped = impl.dropped,
      .lost_tenants = impl.lost_tenants,
      .foreign_model = impl.foreign_model,
      .foreign_prefix = impl.foreign_prefix,
      .objects_unread = impl.counters.objects_unread,
      .objects_foreign = impl.counters.objects_foreign,
      .last_event_id = impl.counters.last_event_id,
  };
  const auto left = [&impl, now](const ObjectId& id, Tier tier) -> std::optional<Duration> {
    const auto end = impl.expiry.EndOf({id, tier});
    if (!end) return std::nullopt;
    return *end - now;
  };
  return std::make_unique<PoolCopy>(impl.index, impl.objects, std::move(begun),
                                    impl.profile.additional_salt, left,
                                    [&impl] { return impl.index.StatsOf(impl.pool).trimmed > 0; });
}

void PoolIngest::Restore(Writer& writer, const SavedPool& saved, MonoTime now, Duration elapsed) {
  Impl& impl = *impl_;
  impl.dropped = saved.dropped;
  impl.lost_tenants = saved.lost_tenants;
  impl.foreign_model = saved.foreign_model;
  impl.foreign_prefix = saved.foreign_prefix;
  impl.counters.objects_unread = saved.objects_unread;
  impl.counters.objects_foreign = saved.objects_foreign;
  impl.counters.last_event_id = saved.last_event_id;
  std::vector<PoolObjects::Change> changes;
  if (const size_t lost = impl.objects.Restore(saved, changes); lost > 0) {
    impl.counters.waiting_dropped += lost;
    impl.dropped = true;
  }
  impl.SyncAll(writer, changes);
  for (const SavedPool::Object& object : saved.objects) {
    const ObjectId id{saved.families[object.family].tenant, object.key};
    if (object.cpu_left) impl.expiry.Announce({id, Tier::kCpu}, now + *object.cpu_left - elapsed);
    if (object.disk_left) {
      impl.expiry.Announce({id, Tier::kDisk}, now + *object.disk_left - elapsed);
    }
  }
}

bool PoolIngest::HoldsNothing() const { return impl_->objects.size() == 0; }

std::optional<Doubt> PoolIngest::doubt() const {
  const Impl& impl = *impl_;
  if (const std::string guesses = impl.objects.Unsettled(kStableObjects); !guesses.empty()) {
    return Doubt{true, fmt::format("how many components a block has is learnt from the objects "
                                   "seen so far: {}. Declare it at registration",
                                   guesses)};
  }
  const auto low = [](std::string detail) { return Doubt{false, std::move(detail)}; };
  if (impl.dropped) {
    return low(fmt::format("objects beyond {} bytes were not kept: raise --max-pool-bytes",
                           impl.limits.max_pool_bytes));
  }
  if (const uint64_t trimmed = impl.index.StatsOf(impl.pool).trimmed; trimmed > 0) {
    return low(
        fmt::format("{} blocks of it were given up for room: raise --memory-limit", trimmed));
  }
  if (impl.lost_tenants) {
    return low(
        "a master lists the objects of its default tenant only: those that others had "
        "before are unknown");
  }
  if (impl.counters.objects_unread > 0) {
    return low(fmt::format("{} keys are of no known form and are not counted",
                           impl.counters.objects_unread));
  }
  if (!impl.foreign_prefix.empty()) {
    return low(
        fmt::format("there are objects of '{0}@{1}', whose prefix is not registered: name it "
                    "in key_models, as '{0}@{1}'",
                    impl.foreign_prefix, impl.foreign_model));
  }
  if (const size_t unsettled = impl.objects.unsettled(); unsettled > 0) {
    return low(
        fmt::format("of {} objects it is not known yet on which tiers they are: they count as "
                    "on disk",
                    unsettled));
  }
  if (impl.objects.size() == 0 && impl.counters.objects_foreign > 0) {
    return low(
        fmt::format("all objects are of other models ('{}') than '{}': name them in "
                    "key_models",
                    impl.foreign_model, impl.profile.model));
  }
  return std::nullopt;
}

IngestCounters PoolIngest::Counters() const {
  IngestCounters counters = impl_->counters;
  const index::PoolStats stats = impl_->index.StatsOf(impl_->pool);
  counters.objects = impl_->objects.size();
  counters.pool_blocks = stats.blocks;
  counters.detached_blocks = stats.blocks - stats.joined;
  counters.partial_blocks = impl_->objects.partial_blocks();
  return counters;
}

}  // namespace conductor::ingest
