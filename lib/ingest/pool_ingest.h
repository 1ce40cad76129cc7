#ifndef CONDUCTOR_LIB_INGEST_POOL_INGEST_H_
#define CONDUCTOR_LIB_INGEST_POOL_INGEST_H_

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/clock.h"
#include "lib/base/tier.h"
#include "lib/hash/hash_profile.h"
#include "lib/index/prefix_index.h"
#include "lib/ingest/pool_copy.h"
#include "lib/ingest/publisher_ingest.h"
#include "lib/ingest/saved_life.h"
#include "lib/wire/kv_event.h"

namespace conductor::ingest {

// What was said of a pool when it was registered, as far as its events need it.
struct PoolProfile {
  std::string name;  // unique among pools: what index::PoolMatch calls it
  std::string tenant = "default";
  std::string model;
  std::string additional_salt;
  // Model as keys name it ("llama", or "prefix@llama" for keys with a prefix) -> model as queries
  // name it. Empty: keys without a prefix whose model is `model`, its last path component, or not
  // named at all are of `model`.
  std::map<std::string, std::string> key_models;
  index::PoolLookup lookup = index::PoolLookup::kFromStart;
  // How many components a block has; nothing: learnt.
  std::optional<uint32_t> tp_size;
  std::optional<uint32_t> kv_heads;  // at most so many of the tp_size ranks store their own part
  std::optional<uint32_t> pp_size;
  std::optional<uint32_t> layers;
  // After so long what was stored on the tier counts as removed, unless it was announced again;
  // 0: never. By Tier.
  std::array<Duration, kTierCount> ttl{};
  // Lets objects that no engine has announced be found from a prompt's tokens.
  std::optional<hash::HashProfile> hash_profile;
};

// One object of a listing. Where the listing says nothing of tiers the object counts as on disk,
// the weakest claim, until more is told.
struct ListedObject {
  std::string key;
  bool cpu = false;
  bool disk = false;
};

// Why figures of a publisher may be wrong although its stream is whole.
struct Doubt {
  bool too_high = false;  // otherwise only too low
  std::string detail;     // a sentence: what, and what to do
};

// The way of a pool's objects into the index.
//
// The rules (docs/architecture.md explains them):
//  * An object is known by its tenant and key. The event's tenant is the object's, but for none and
//    "default", which stand for the registered one. Its key (or what the event describes) gives
//    model, KV-cache group, hash, and which component of the block it is.
//  * Keys of no known family are counted and passed over (objects_unread), those of models and
//    prefixes that are not the registered ones too (objects_foreign). Ranks above kMostRanks are of
//    no known family.
//  * A block is on the host when each of its components is there, on disk when each is on either;
//    otherwise it is not held. Components are the pairs of all tensor-parallel, pipeline, context
//    -parallel ranks, layers and parts (k, v) that a family's keys have. Sizes are those registered
//    (tensor-parallel: the lesser of tp_size and kv_heads), or what a key says (LMCache's world),
//    or else one more than the greatest rank seen so far in the family; the greater of them. A
//    family with a learnt size is in doubt (too high) until kStableObjects have come without
//    another. Context-parallel ranks that were only ever 0 are no doubt.
//  * "stored" of one tier adds to what the object has, without a tier it is on disk, the weakest
//    claim, until more is told; "removed" takes the object from all tiers and is matched by the
//    key, whatever tier or backend it names. Objects that may be on tiers of which nothing was told
//    are a doubt (too low).
//  * A block is joined with the blocks that engines of the same tenant, model and additional salt
//    announced with tokens under the same hash and group: before or after. Until then it is
//    detached: it counts for nothing, unless the profile lets queries find it by their own hashes.
//  * What would take more than IngestLimits::max_pool_bytes is not kept (waiting_dropped).
//  * ScopeCleared drops the objects of that tenant, backend and medium, and those whose backend or
//    tier nobody told.
//
// Not thread-safe: used by its publisher's ingest thread.
class PoolIngest {
 public:
  // Objects after which a learnt size is believed. Prompts are stored rank by rank, thousands of
  // objects each.
  static constexpr uint64_t kStableObjects = 10'000;
  static constexpr uint32_t kMostRanks = 4096;  // of each kind, layers too

  // `index` must outlive it.
  PoolIngest(index::PrefixIndex& index, PoolProfile profile, IngestLimits limits);
  // Drops what the pool holds.
  ~PoolIngest();
  PoolIngest(const PoolIngest&) = delete;
  PoolIngest& operator=(const PoolIngest&) = delete;

  // `now` is for the time to live.
  void Apply(const wire::EventBatch& batch, MonoTime now = {});

  // When Tick has something to do next.
  [[nodiscard]] std::optional<MonoTime> NextDeadline() const;
  // Drops what has outlived its time to live.
  void Tick(MonoTime now);

  // A restart of the master: everything goes.
  void NewLife();

  // A listing was asked for: from here on it is remembered which objects events touch.
  void BeginListing();
  // The answer: what it lists is there and what it does not list is not, but for objects that were
  // touched since BeginListing, of which the events know better. What tiers an object is on may
  // have changed unheard before it: unless the listing tells them, they are as far as the events
  // since BeginListing say, and the rest is to be asked for. A listing has the default tenant's
  // objects only; those of others are dropped, and doubt() says so. Ends the listing. False when an
  // event touched anything since BeginListing, so that the listing does not speak for all objects.
  bool ApplyListing(std::span<const ListedObject> objects);
  void AbandonListing();
  // Objects that may be on tiers of which nothing was told, at most so many.
  [[nodiscard]] std::vector<std::string> KeysWithoutTier(size_t most) const;
  // The same, to be asked for.
  [[nodiscard]] std::vector<std::string> AskForTiers(size_t most);
  // What was asked for. It says nothing of objects that were touched since AskForTiers, which are
  // to be asked for again; one that is on no tier is gone.
  void TiersLearnt(std::span<const ListedObject> objects);

  // A copy of all that the pool is, to be stepped to its end while nothing is done to this.
  [[nodiscard]] std::unique_ptr<PoolCopy> BeginCopy(MonoTime now) const;
  // Goes on from it, `elapsed` later. Requires that nothing was applied yet. What its blocks were
  // joined with is for index::ChainRestore::Join, after this and within the same `writer`.
  void Restore(index::PrefixIndex::Writer& writer, const SavedPool& saved, MonoTime now,
               Duration elapsed);

  [[nodiscard]] bool HoldsNothing() const;
  [[nodiscard]] std::optional<Doubt> doubt() const;
  [[nodiscard]] IngestCounters Counters() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace conductor::ingest

#endif  // CONDUCTOR_LIB_INGEST_POOL_INGEST_H_
