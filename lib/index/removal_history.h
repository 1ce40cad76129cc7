#ifndef CONDUCTOR_LIB_INDEX_REMOVAL_HISTORY_H_
#define CONDUCTOR_LIB_INDEX_REMOVAL_HISTORY_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/tier.h"
#include "lib/hash/block_hash.h"

namespace conductor::index {

struct RankKey;

// Why a rank does not hold any more what it held.
enum class RemovalCause : uint8_t {
  kRemoved,       // its publisher said so
  kExpired,       // at the end of its time to live
  kRenamed,       // its publisher announced other tokens under the block's name
  kTrimmed,       // given up for the memory limit
  kCleared,       // all of a tier, by its publisher or an operator
  kNewLife,       // its publisher began a new life, or was in doubt for too long
  kReplaced,      // a replay from the first sequence took the place of what was held
  kUnregistered,  // its publisher was unregistered
};
// "removed", "expired", "renamed", "trimmed", "cleared", "new_life", "replaced", "unregistered".
[[nodiscard]] std::string_view RemovalCauseName(RemovalCause cause);

// When something left, and what said so.
struct Occasion {
  std::optional<uint64_t> sequence;  // of the publisher's batch; below 2^64 - 1
  double unix_time = 0;              // seconds; 0: not known
};

// One entry of the history, told.
struct Removal {
  uint64_t number = 0;  // rises in the order in which things left
  RemovalCause cause = RemovalCause::kRemoved;
  Tier tier = Tier::kGpu;
  std::optional<PrefixHash> block;  // nothing: all that the publisher's rank held on the tier
  uint64_t blocks = 1;              // so many went with it
  Occasion occasion;
  std::shared_ptr<const RankKey> rank;
  std::string publisher;  // as AddHolder was told
};

// The last so many things that left the index, in a ring. What leaves block by block has an entry
// for each block; what leaves at once (a clear, a lost life) has one for the rank and tier, and a
// run that is trimmed has one, with its first block.
//
// Designed to cost nothing that can be measured on the way of an event: 32 bytes are written for a
// block that leaves, in sequence, by whoever holds the index's writer lock already; nothing is
// allocated or looked up, and what publisher and rank are called is kept once for each holder.
// Whoever asks pays: they scan the ring. A table by block would make that fast, and cost a random
// access for each block that leaves.
//
// Not thread-safe: PrefixIndex guards it.
class RemovalHistory {
 public:
  static constexpr uint32_t kNoSource = ~0u;
  static constexpr size_t kBytesAnEntry = 32;

  // `capacity` in entries; 0: nothing is remembered. Addresses are taken at once, memory as it
  // fills.
  explicit RemovalHistory(size_t capacity);

  [[nodiscard]] bool enabled() const { return capacity_ > 0; }

  // One who can lose something, until Retire(). It is remembered as long as an entry is of it.
  [[nodiscard]] uint32_t AddSource(std::shared_ptr<const RankKey> rank, std::string publisher);
  void Retire(uint32_t source);

  // `source` is a live one. Does nothing without capacity.
  void AddBlock(uint32_t source, RemovalCause cause, Tier tier, PrefixHash block, uint64_t blocks,
                const Occasion& occasion) {
    if (capacity_ == 0) return;
    Add(source, cause, tier, true, static_cast<uint64_t>(block), blocks, occasion);
  }
  void AddAll(uint32_t source, RemovalCause cause, Tier tier, uint64_t blocks,
              const Occasion& occasion) {
    if (capacity_ == 0) return;
    Add(source, cause, tier, false, 0, blocks, occasion);
  }

  // The numbers of the entries that are there: from first() up to end().
  [[nodiscard]] uint64_t first() const { return end_ - ring_.size(); }
  [[nodiscard]] uint64_t end() const { return end_; }
  [[nodiscard]] size_t sources() const { return sources_.size() - free_.size(); }

  // Adds to `found` what left of the instance, newest first, of the entries from number `from` up
  // to `to` that are there: entries of any of `blocks`, which are in order, and of all that a rank
  // held.
  void Find(std::string_view instance_id, std::span<const PrefixHash> blocks, uint64_t from,
            uint64_t to, std::vector<Removal>& found) const;

 private:
  // The cause stands in the lowest 4 bits, the tier in 2 above, then whether it is of one block;
  // above these the time in milliseconds.
  struct Entry {
    uint64_t block;
    uint64_t sequence;
    uint64_t when;
    uint32_t source;
    uint32_t blocks;
  };
  static_assert(sizeof(Entry) == kBytesAnEntry);

  struct Source {
    std::shared_ptr<const RankKey> rank;
    std::string publisher;
    uint64_t entries = 0;
    bool live = false;
  };

  void Add(uint32_t source, RemovalCause cause, Tier tier, bool of_block, uint64_t block,
           uint64_t blocks, const Occasion& occasion);
  void Overwrite(const Entry& entry);
  void ForgetIfUnused(uint32_t source);
  [[nodiscard]] Removal Tell(uint64_t number, const Entry& entry) const;

  const size_t capacity_;
  std::vector<Entry> ring_;  // entry `n` at n % capacity_
  uint64_t end_ = 0;
  size_t next_ = 0;  // end_ % capacity_
  std::vector<Source> sources_;
  std::vector<uint32_t> free_;
};

}  // namespace conductor::index

#endif  // CONDUCTOR_LIB_INDEX_REMOVAL_HISTORY_H_
