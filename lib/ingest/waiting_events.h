#ifndef CONDUCTOR_LIB_INGEST_WAITING_EVENTS_H_
#define CONDUCTOR_LIB_INGEST_WAITING_EVENTS_H_

#include <absl/container/flat_hash_map.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "lib/base/tier.h"
#include "lib/hash/block_hash.h"
#include "lib/index/prefix_index.h"

namespace conductor::ingest {

// A stored event that has no place yet: an orphan (its parent is unknown), or a detached one
// (without tokens, or without a parent where that does not mean the root, and its own name is
// unknown).
struct WaitingEvent {
  // The event's namespace; null where it is that of the block that the event names.
  std::shared_ptr<const index::NamespaceKey> name_space;
  index::AliasSpace space{};
  Tier tier = Tier::kGpu;
  uint32_t dp_rank = 0;
  std::optional<EngineHash> parent;
  std::vector<EngineHash> hashes;
  std::vector<LocalHash> locals;     // of its tokens ...
  std::vector<PrefixHash> prefixes;  // ... or told in their place; both empty: neither was sent
  uint32_t span = 1;
  bool begins_prompt = false;  // a missing parent means that nothing stands before
  std::vector<uint8_t> gone;   // per hash: removed again while it waited

  // The name whose appearance gives it its place.
  [[nodiscard]] EngineHash awaited() const { return parent ? *parent : hashes.front(); }
  [[nodiscard]] size_t bytes() const;
  // It says what its blocks are, so that it can give a name to what nobody has named yet.
  [[nodiscard]] bool tells_blocks() const { return !locals.empty() || !prefixes.empty(); }
};

// The waiting events of one publisher's life, in the order they came, bounded in bytes. Everything
// costs in proportion to the events that it touches. Not thread-safe.
class WaitingEvents {
 public:
  explicit WaitingEvents(size_t max_bytes) : max_bytes_(max_bytes) {}

  // Adds at the end; what is marked gone in it already stays so. The number of events dropped for
  // it, oldest first; one that is larger than the bound by itself is not kept and counts too.
  size_t Add(WaitingEvent event);

  // Numbers, rising with age's end, of the events that wait for `name`.
  [[nodiscard]] const std::set<uint64_t>* AwaitedBy(index::AliasSpace space, EngineHash name) const;

  // Requires, as Take does, that `number` came from AwaitedBy and was not taken yet. Valid until
  // the next change.
  [[nodiscard]] const WaitingEvent& Get(uint64_t number) const { return events_.at(number); }

  // visit(event) for each, in the order they came.
  template <typename Visit>
  void ForEach(Visit visit) const {
    for (const auto& [number, event] : events_) visit(event);
  }

  // Takes an event out.
  WaitingEvent Take(uint64_t number);

  // Marks `name` gone in the oldest event of this rank, space and tier that still counts it, or in
  // every one (`all`); false when there is none. An event without tokens is dropped then: it has
  // no names to give.
  bool Remove(index::AliasSpace space, Tier tier, uint32_t dp_rank, EngineHash name, bool all);

  // Drops the events of the rank and tier.
  void Clear(Tier tier, uint32_t dp_rank);
  // Drops the events of the tier that `gone` is true for. Looks at all that wait.
  void ClearIf(Tier tier, const std::function<bool(const WaitingEvent&)>& gone);

  [[nodiscard]] bool empty() const { return events_.empty(); }
  [[nodiscard]] size_t size() const { return events_.size(); }
  [[nodiscard]] size_t bytes() const { return bytes_; }

 private:
  using Name = std::pair<index::AliasSpace, EngineHash>;
  // What a removal speaks of.
  using Counted = std::tuple<index::AliasSpace, EngineHash, Tier, uint32_t>;
  // An event, and the position in its hashes.
  using Position = std::pair<uint64_t, size_t>;

  [[nodiscard]] static Counted CountedAs(const WaitingEvent& event, EngineHash name) {
    return {event.space, name, event.tier, event.dp_rank};
  }

  size_t max_bytes_;
  size_t bytes_ = 0;
  uint64_t next_ = 0;
  std::map<uint64_t, WaitingEvent> events_;
  absl::flat_hash_map<Name, std::set<uint64_t>> awaited_;     // the name waited for -> events
  absl::flat_hash_map<Counted, std::set<Position>> counted_;  // what is not gone
  std::map<std::pair<Tier, uint32_t>, std::set<uint64_t>> of_rank_;
};

}  // namespace conductor::ingest

#endif  // CONDUCTOR_LIB_INGEST_WAITING_EVENTS_H_
