#ifndef CONDUCTOR_LIB_INGEST_PUBLISHER_LIFE_H_
#define CONDUCTOR_LIB_INGEST_PUBLISHER_LIFE_H_

#include <absl/container/flat_hash_map.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "lib/base/tier.h"
#include "lib/index/prefix_index.h"
#include "lib/ingest/expiry_queue.h"
#include "lib/ingest/hash_check.h"
#include "lib/ingest/publisher_ingest.h"
#include "lib/ingest/waiting_events.h"
#include "lib/wire/kv_event.h"

namespace conductor::ingest {

// Everything that one life of a publisher (or one rebuild of it) owns in the index: its holders by
// adapter and rank, its names by cache group, its waiting events. Leaves nothing behind.
// PublisherIngest documents the rules.
class PublisherLife {
 public:
  // All references outlive it. `number` keeps this life apart from all others in the index.
  PublisherLife(index::PrefixIndex& index, const PublisherProfile& profile,
                const IngestLimits& limits, uint32_t number, bool visible,
                IngestCounters& counters);
  ~PublisherLife();
  PublisherLife(const PublisherLife&) = delete;
  PublisherLife& operator=(const PublisherLife&) = delete;

  void Apply(const wire::EventBatch& batch, MonoTime now, const index::Occasion& occasion);

  [[nodiscard]] std::optional<MonoTime> NextDeadline() const { return expiry_.NextDeadline(); }
  void Tick(MonoTime now, const index::Occasion& occasion);

  // Everything that it holds and calls by a name goes.
  void Leave(index::RemovalCause cause, const index::Occasion& occasion);

  // Makes this life's holders visible and `other`'s go, so that a lookup finds the ones or the
  // others.
  void Replace(PublisherLife& other, const index::Occasion& occasion);

  // life_restore.cc; see PublisherIngest.
  [[nodiscard]] std::unique_ptr<LifeCopy> BeginCopy(MonoTime now) const;
  [[nodiscard]] PublisherIngest::Restored Restore(index::PrefixIndex::Writer& writer,
                                                  const SavedLife& saved, MonoTime now,
                                                  Duration elapsed);

  [[nodiscard]] uint64_t Holdings() const;
  [[nodiscard]] bool HoldsNothing() const;
  // Given up for the index's memory_limit; what was lost so before a clear does not count any more.
  [[nodiscard]] uint64_t TrimmedBlocks() const;
  [[nodiscard]] uint32_t number() const { return number_; }
  [[nodiscard]] uint32_t block_size() const { return block_size_; }
  [[nodiscard]] const WaitingEvents& waiting() const { return waiting_; }
  // Null without a hash profile.
  [[nodiscard]] const HashCheck* hash_check() const { return hash_check_.get(); }

 private:
  using Writer = index::PrefixIndex::Writer;
  using NamespacePtr = std::shared_ptr<const index::NamespaceKey>;
  // With the rank.
  using HolderKey = std::pair<index::NamespaceKey, uint32_t>;
  // What is held under a name by a rank on a tier.
  using Held = std::tuple<index::AliasSpace, Tier, uint32_t, EngineHash>;
  // A cache group's index; 0 where an event has none, as in models with one group.
  using GroupKey = int64_t;

  // A stored event that the rules let through, made ready without the index.
  struct AcceptedStore {
    bool accepted = false;
    Tier tier{};
    NamespacePtr name_space;  // null for an event that does not tell its blocks
    size_t first_local = 0;   // in locals_, of its tokens ...
    size_t locals = 0;        // how many
    size_t first_prefix = 0;  // ... or in prefixes_, told in their place
    size_t prefixes = 0;
    uint32_t span = 1;
    bool begins_prompt = false;
  };

  // A stored event on its way to its place, fields as those of WaitingEvent. Views.
  struct Placing {
    const NamespacePtr& name_space;
    index::AliasSpace space{};
    Tier tier{};
    uint32_t dp_rank = 0;
    std::optional<EngineHash> parent;
    std::span<const EngineHash> hashes;
    std::span<const LocalHash> locals;
    std::span<const PrefixHash> prefixes;
    uint32_t span = 1;
    bool begins_prompt = false;
    std::span<const uint8_t> gone;

    [[nodiscard]] bool tells_blocks() const { return !locals.empty() || !prefixes.empty(); }
    [[nodiscard]] static Placing Of(const WaitingEvent& event);
    [[nodiscard]] WaitingEvent ToWait() const;
  };

  enum class Placed : uint8_t {
    kYes,
    kWaits,    // what it awaits is unknown, or stands in another namespace; nothing was changed
    kRefused,  // one holder too many; nothing was changed
  };

  [[nodiscard]] uint32_t RankOf(const wire::EventBatch& batch);
  // False when the number is none, or only what engines without data parallelism say.
  [[nodiscard]] bool Believes(int64_t dp_rank);
  void NoteRank(uint32_t dp_rank);
  [[nodiscard]] uint32_t RankOf(const std::optional<wire::Origin>& origin, uint32_t of_batch);
  // Nothing when a name is too long.
  [[nodiscard]] NamespacePtr NamespaceOf(const wire::BlockStored& event);
  // Counts what is refused.
  [[nodiscard]] AcceptedStore Accept(const wire::BlockStored& event);
  void Stored(Writer& writer, const wire::BlockStored& event, const AcceptedStore& accepted,
              uint32_t dp_rank);
  // What the next events remove, on its way into the cache.
  static void PrefetchRemoved(const Writer& writer, std::span<const wire::KvEvent> events);
  void Removed(Writer& writer, const wire::BlockRemoved& event, uint32_t dp_rank);
  // False when nothing was held or counted under the name.
  bool RemoveName(Writer& writer, index::AliasSpace space, Tier tier, uint32_t dp_rank,
                  EngineHash name);
  void Cleared(Writer& writer, uint32_t dp_rank);
  void Cleared(Writer& writer, const wire::ScopeCleared& event);
  // Drops what is held or waits under the name, every copy.
  void Expire(Writer& writer, const Held& held);

  // Puts the event where it belongs. Names that it made known are added to `bound`, if it is not
  // null.
  [[nodiscard]] Placed Place(Writer& writer, const Placing& event, std::vector<EngineHash>* bound);
  // Place or wait, then all that the new names give a place to.
  void PlaceOrWait(Writer& writer, const Placing& event);
  // Those that wait for a name in `bound`, and for the names that they make known, oldest first.
  void JoinWaiting(Writer& writer, index::AliasSpace space, std::vector<EngineHash> bound);

  // Nothing when there would be more than IngestLimits allow.
  [[nodiscard]] std::optional<index::HolderId> HolderFor(Writer& writer,
                                                         const index::NamespaceKey& name_space,
                                                         uint32_t dp_rank);
  // The one in the namespace of the block that the name names; nothing where there is none.
  [[nodiscard]] std::optional<index::HolderId> HolderOfName(const Writer& writer,
                                                            index::AliasSpace space,
                                                            EngineHash name,
                                                            uint32_t dp_rank) const;
  [[nodiscard]] std::optional<index::AliasSpace> SpaceFor(Writer& writer, GroupKey group);
  void LeaveIndex(Writer& writer, index::RemovalCause cause);

  index::PrefixIndex& index_;
  const PublisherProfile& profile_;
  const IngestLimits& limits_;
  const uint32_t number_;
  bool visible_;
  IngestCounters& counters_;
  uint32_t block_size_;
  bool seen_other_rank_than_zero_ = false;
  std::map<HolderKey, index::HolderId> holders_;
  absl::flat_hash_map<std::pair<index::NamespaceId, uint32_t>, index::HolderId> holders_by_number_;
  std::map<GroupKey, index::AliasSpace> spaces_;
  WaitingEvents waiting_;
  // Most events have the namespace of the one before, and its holder.
  NamespacePtr last_namespace_;
  std::optional<std::string>
      last_lora_name_;  // as the event told it that last_namespace_ is of ...
  std::optional<int64_t> last_lora_id_;
  bool last_is_plain_ = false;  // ... without an origin
  struct LastHolder {
    const index::NamespaceKey* name_space = nullptr;
    uint32_t dp_rank = 0;
    index::HolderId holder{};
  };
  LastHolder last_holder_;           // of last_namespace_
  mutable uint64_t trims_seen_ = 0;  // of the index, when trimmed_ was counted
  mutable uint64_t trimmed_ = 0;
  // Of the batch that is being applied.
  std::vector<AcceptedStore> accepted_;
  std::vector<LocalHash> locals_;
  std::vector<PrefixHash> prefixes_;
  std::vector<EngineHash> bound_;
  MonoTime now_{};            // of the batch that is being applied
  ExpiryQueue<Held> expiry_;  // of tiers with a time to live
  std::unique_ptr<HashCheck> hash_check_;
};

}  // namespace conductor::ingest

#endif  // CONDUCTOR_LIB_INGEST_PUBLISHER_LIFE_H_
