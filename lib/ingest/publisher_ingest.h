#ifndef CONDUCTOR_LIB_INGEST_PUBLISHER_INGEST_H_
#define CONDUCTOR_LIB_INGEST_PUBLISHER_INGEST_H_

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "lib/base/clock.h"
#include "lib/base/tier.h"
#include "lib/hash/hash_profile.h"
#include "lib/index/prefix_index.h"
#include "lib/ingest/life_copy.h"
#include "lib/ingest/saved_life.h"
#include "lib/wire/kv_event.h"

namespace conductor::ingest {

// What was said of a publisher when it was registered, as far as its events need it.
struct PublisherProfile {
  std::string name;  // what index::Removal::publisher says
  std::string instance_id;
  std::string tenant = "default";
  std::string model;
  std::string lora_name;  // for events that name no adapter themselves
  std::string additional_salt;
  uint32_t block_size = 0;  // tokens; 0: learnt from the first stored event with tokens
  uint32_t dp_rank = 0;
  index::CopyMode copies = index::CopyMode::kCount;
  // A missing parent means the root on every tier, not on the device alone: SGLang, LMCache.
  bool root_on_any_tier = false;
  // After so long what was stored on the tier counts as removed, unless it was announced again;
  // 0: never. By Tier.
  std::array<Duration, kTierCount> ttl{};
  std::optional<hash::HashProfile> hash_profile;  // what announced hashes are compared with
};

struct IngestLimits {
  size_t max_waiting_bytes = 64 << 20;  // orphans and detached events of one publisher
  // What one publisher's events may name, each in one life: pairs of adapter and rank, cache
  // groups, and how long an adapter's name may be.
  size_t max_holders = 1024;
  size_t max_groups = 64;
  size_t max_name_bytes = 4096;
  size_t max_pool_bytes = size_t{4} << 30;  // of one pool's objects, about
  // One block in so many is compared with the publisher's hash profile, after the first ones of a
  // life; 0: none is.
  uint32_t hash_check_every = 64;
};

// What came of the events. All counts are since the publisher was added.
struct IngestCounters {
  uint64_t batches = 0;
  uint64_t stored_events = 0;
  uint64_t removed_events = 0;
  uint64_t cleared_events = 0;
  uint64_t stored_blocks = 0;       // hashes of stored events that are held now or were
  uint64_t removed_blocks = 0;      // by name or by AllBlocksCleared
  uint64_t removed_unknown = 0;     // removals of what this publisher does not hold
  uint64_t orphaned = 0;            // events that had to wait, ever
  uint64_t detached = 0;            // of these: without tokens
  uint64_t joined = 0;              // of these: found their place
  uint64_t waiting_dropped = 0;     // of these: dropped because max_waiting_bytes was reached
  uint64_t refused_block_size = 0;  // not a multiple of the namespace's
  uint64_t refused_shape = 0;       // hashes, tokens and block size do not fit one another
  uint64_t refused_names = 0;       // more ranks, adapters or groups than IngestLimits allow
  uint64_t ignored_group = 0;       // KV-cache groups that are no full attention
  uint64_t ignored_medium = 0;      // media of no tier
  uint64_t salted_prompts = 0;      // stored events that begin a prompt under a cache salt
  uint64_t rank_mismatches = 0;     // batches whose rank is not the registered one
  std::optional<uint32_t> rank;     // that events are of, the first one ...
  bool several_ranks = false;       // ... and whether there was another
  uint64_t expired_blocks = 0;      // dropped at the end of their registered time to live
  uint64_t trimmed_blocks = 0;      // given up for the index's memory_limit, in this life
  // Announced hashes beside those recomputed under the registered profile.
  uint64_t hash_checked = 0;  // blocks
  uint64_t hash_matched = 0;
  // Pools:
  uint64_t objects_stored = 0;   // events
  uint64_t objects_removed = 0;  // events
  uint64_t objects_unread = 0;   // keys of no known family
  uint64_t objects_foreign = 0;  // of models or prefixes that the registration does not name
  uint64_t listings = 0;         // key lists taken in
  uint64_t last_event_id = 0;    // the highest of the envelopes; 0: none yet
  // Now:
  uint64_t waiting_events = 0;
  uint64_t waiting_bytes = 0;
  uint64_t objects = 0;          // objects that the pool holds
  uint64_t pool_blocks = 0;      // blocks of which all components are there
  uint64_t partial_blocks = 0;   // blocks of which some are
  uint64_t detached_blocks = 0;  // whole, but no engine has announced them
  std::string hash_hint;         // why hashes may differ; empty: they do not, or none was checked
  std::optional<hash::HashProfile> hash_fit;  // the profile that fits, where one was found
  uint32_t block_size = 0;                    // registered or learnt; 0: not known yet
  uint32_t last_refused_block_size = 0;
};

class PublisherLife;

// The way of one publisher's decoded batches into the index: namespaces and ranks, groups, spans,
// names, orphans.
//
// The rules (docs/architecture.md explains them):
//  * An event belongs to the namespace of its publisher with its own LoRA name: lora_name when it
//    has one; the registered one, or the decimal id, when it has only lora_id; otherwise the
//    registered one.
//  * The batch's rank wins over the registered one, except that 0 from a publisher registered as
//    another rank means that rank, as long as it said nothing but 0 in this life.
//  * Where an RFC 1527 envelope names a tenant, model, salt or rank, it is that of the event.
//  * A stored event with tokens and no parent begins a prompt on the device tier, and on every tier
//    where the profile says so; one that tells its position begins a prompt when that is 0.
//    Otherwise it joins by the name of its first block, in that block's namespace, or waits for it.
//  * Hashes of the standard recipe are the blocks themselves: such an event needs no tokens.
//  * An event whose parent is unknown waits as an orphan; one without tokens whose names are
//    unknown waits detached, each name by itself. It belongs to the namespace of the block that it
//    names, whatever adapter it speaks of. They join in the order they came when the name appears.
//  * Where copies count, a removal acts first on what is held under the name on that tier and rank,
//    else on the oldest waiting event that still counts it; elsewhere it acts on all of them. What
//    was removed is not held when the event joins, but its name becomes known. AllBlocksCleared
//    drops the rank's waiting device events.
//  * Hybrid models: only groups of full, MLA and sink attention; names are kept per group index,
//    of which none and 0 are the same. Without a group kind an event
//    whose tokens are not hashes * block_size is refused.
//  * Block sizes: a multiple of the namespace's makes spans; anything else is refused.
//  * Objects of pools are not of an engine and are passed over: PoolIngest.
//
// Not thread-safe: used by its publisher's ingest thread.
class PublisherIngest {
 public:
  // `publisher` is this publisher's number, unique among those alive, below 2^31.
  PublisherIngest(index::PrefixIndex& index, PublisherProfile profile, IngestLimits limits,
                  uint32_t publisher);
  // Drops what the publisher holds, without a time unless Leave() was called.
  ~PublisherIngest();
  PublisherIngest(const PublisherIngest&) = delete;
  PublisherIngest& operator=(const PublisherIngest&) = delete;

  // `now` is for the time to live; `occasion` for the index's history, where the batch's own time
  // comes before the one given.
  void Apply(const wire::EventBatch& batch, MonoTime now = {},
             const index::Occasion& occasion = {});

  // When Tick has something to do next.
  [[nodiscard]] std::optional<MonoTime> NextDeadline() const;
  // Drops what has outlived its time to live.
  void Tick(MonoTime now, const index::Occasion& occasion = {});

  // A restart: everything owned goes, orphans and names included. A learnt block size is forgotten.
  void NewLife(const index::Occasion& occasion = {});
  // The publisher is unregistered: everything goes. The last call but for the destructor.
  void Leave(const index::Occasion& occasion);

  // See stream::Consumer.
  void BeginRebuild();
  void CommitRebuild(const index::Occasion& occasion = {});
  void AbandonRebuild();

  // A copy of the visible life, to be stepped to its end while nothing is done to this.
  [[nodiscard]] std::unique_ptr<LifeCopy> BeginCopy(MonoTime now) const;
  // Goes on from it, `elapsed` later. Requires that nothing was applied yet. What is held and how
  // it is called is for index::ChainRestore, within the same `writer`; these are its ids.
  struct Restored {
    std::vector<index::HolderId> holders;   // of SavedLife::holders
    std::vector<index::AliasSpace> spaces;  // of SavedLife::groups
    uint64_t waiting_dropped = 0;           // events that IngestLimits have no room for
  };
  [[nodiscard]] Restored Restore(index::PrefixIndex::Writer& writer, const SavedLife& saved,
                                 MonoTime now, Duration elapsed);

  // What the visible life holds: blocks, for each rank and tier.
  [[nodiscard]] uint64_t Holdings() const;
  // True when nothing is held on any tier and nothing waits; during a rebuild in the hidden set.
  [[nodiscard]] bool HoldsNothing() const;

  [[nodiscard]] IngestCounters Counters() const;

 private:
  [[nodiscard]] std::unique_ptr<PublisherLife> MakeLife(bool visible);

  index::PrefixIndex& index_;
  const PublisherProfile profile_;
  const IngestLimits limits_;
  const uint32_t publisher_;
  IngestCounters counters_;
  std::unique_ptr<PublisherLife> visible_;
  std::unique_ptr<PublisherLife> hidden_;  // during a rebuild
};

}  // namespace conductor::ingest

#endif  // CONDUCTOR_LIB_INGEST_PUBLISHER_INGEST_H_
