#ifndef CONDUCTOR_LIB_INDEX_RUN_STORE_H_
#define CONDUCTOR_LIB_INDEX_RUN_STORE_H_

#include <absl/container/flat_hash_map.h>

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "lib/hash/block_hash.h"
#include "lib/index/id_table.h"
#include "lib/index/reader_gate.h"
#include "lib/index/slot_ids.h"
#include "lib/index/stable_array.h"
#include "lib/index/word_arena.h"

// The blocks themselves: chains cut into runs, their hashes and names, and for each run who holds
// which of its blocks and who calls them what. What it means that a block is held, released or
// forgotten is for PrefixIndex. prefix_index.h has the picture.
namespace conductor::index {

// One block: 2^25 runs of up to 64. Stays the same as long as the block is known.
struct BlockRef {
  static constexpr uint32_t kNone = ~0u;

  uint32_t value = kNone;

  BlockRef() = default;
  explicit BlockRef(uint32_t from) : value(from) {}
  BlockRef(uint32_t run, uint32_t offset) : value(run << 6 | offset) {}

  [[nodiscard]] bool is_block() const { return value != kNone; }
  [[nodiscard]] uint32_t run() const { return value >> 6; }
  [[nodiscard]] uint32_t offset() const { return value & 63; }

  friend bool operator==(const BlockRef&, const BlockRef&) = default;
  template <typename H>
  friend H AbslHashValue(H state, const BlockRef& block) {
    return H::combine(std::move(state), block.value);
  }
};

// Written by one writer, read by anybody. All accesses are ordered as Run::version needs it; on
// x86 they are plain moves.
template <typename T>
class Shared {
 public:
  operator T() const { return value_.load(std::memory_order_acquire); }  // NOLINT: as the value
  T operator=(T value) {                                                 // NOLINT: as the value
    value_.store(value, std::memory_order_release);
    return value;
  }

 private:
  std::atomic<T> value_;
};

// A set of (key, mask of a run's blocks), sorted by key: in place as long as it is one entry with
// the usual lower half of the key, else an array in the arena. Before the entries of an array with
// room for more than two stands what would have to be gathered from them all: of holders the sum of
// FullSum, of names the blocks with a name in the first column.
struct Entries {
  Shared<uint32_t> first;   // upper half of the key; or the array
  Shared<uint32_t> second;  // lower half of the mask; or how many entries
  Shared<uint32_t> third;   // upper half of the mask; or for how many there is room
};

// Blocks that follow one another in one chain, one cache line for each run. A run has one parent
// block, any number of child runs at any of its blocks, and is never split or moved: a hole in what
// somebody holds is a bit in a mask. Its blocks are forgotten from its end only.
//
// Designed for runs of 20 to 64 blocks: 64 bytes are one byte a block then. Runs of any length,
// split where holders differ, were the alternative: they save that byte, and pay with splits (every
// name of the moved half is found another way) for each eviction from the middle.
//
// What is Shared may be read without a lock: read `version` (even), then the rest, then `version`
// again; if it is the same, what was read was the run's state at one moment.
struct alignas(64) Run {
  enum Flag : uint8_t {
    kUsed = 1,
    kHolderArray = 2,
    kNameArray = 4,
    kManyChildren = 8,  // they are counted: RunStore::ChildCounts
  };

  // A copy of what `holders` and `flags` say of who holds it.
  struct Holders {
    uint32_t first;
    uint32_t second;
    uint32_t third;
  };
  [[nodiscard]] Holders ReadHolders() const {
    return {holders.first, holders.second, holders.third};
  }

  Shared<uint32_t> version;     // odd while it is being changed
  Shared<uint32_t> parent;      // BlockRef::value; kNone: begins a prompt
  Shared<uint32_t> name_space;  // number
  Shared<uint8_t> length;       // blocks, 1 to 64
  Shared<uint8_t> capacity;     // blocks there is room for
  Shared<uint8_t> retained;     // leading blocks that are held or have held descendants
  Shared<uint8_t> flags;
  Shared<uint32_t> data;         // prefix hash of each block, then its name in the first column
  Shared<uint32_t> first_child;  // run; those with retained blocks stand first
  Shared<uint32_t> next_sibling;
  uint32_t previous_sibling;
  uint32_t stamp;     // when one of its blocks was last announced
  uint32_t released;  // newest piece in the list of released blocks
  Entries holders;    // key: holder << 2 | tier, then the span
  Entries names;      // key: space, then the column
};
static_assert(sizeof(Run) == 64);

class RunStore {
 public:
  static constexpr uint32_t kNoRun = ~0u;
  static constexpr uint32_t kMaxRuns = 1u << 25;
  static constexpr uint32_t kMaxLength = 64;

  enum class Set : uint8_t { kHolders, kNames };

  explicit RunStore(uint64_t secret);
  RunStore(const RunStore&) = delete;
  RunStore& operator=(const RunStore&) = delete;

  [[nodiscard]] static uint64_t Key(uint32_t upper, uint32_t lower) {
    return uint64_t{upper} << 32 | lower;
  }
  [[nodiscard]] static uint32_t Upper(uint64_t key) { return static_cast<uint32_t>(key >> 32); }
  [[nodiscard]] static uint32_t Lower(uint64_t key) { return static_cast<uint32_t>(key); }
  [[nodiscard]] static uint64_t Bit(uint32_t offset) { return uint64_t{1} << offset; }
  // The first `blocks` of a run, 0 to 64.
  [[nodiscard]] static uint64_t Leading(uint32_t blocks) {
    return blocks >= 64 ? ~uint64_t{0} : (uint64_t{1} << blocks) - 1;
  }

  // While one lives readers do not believe what they read of the run.
  class Change {
   public:
    explicit Change(Run& run) : run_(run), version_(run.version) {
      if (version_ % 2 == 0) run_.version = version_ + 1;
    }
    ~Change() {
      if (version_ % 2 == 0) run_.version = version_ + 2;
    }
    Change(const Change&) = delete;
    Change& operator=(const Change&) = delete;

   private:
    Run& run_;
    const uint32_t version_;  // odd: another Change is around this one
  };

  [[nodiscard]] Run& run(uint32_t id) { return runs_[id]; }
  [[nodiscard]] const Run& run(uint32_t id) const { return runs_[id]; }
  [[nodiscard]] uint32_t run_count() const { return run_ids_.count(); }
  // Ids that were ever used lie below.
  [[nodiscard]] uint32_t run_limit() const { return run_ids_.limit(); }
  // Calls visit(id) for each run, in the order of their ids.
  template <typename Visit>
  void ForEachRun(Visit visit) const {
    run_ids_.ForEach(visit);
  }

  [[nodiscard]] PrefixHash prefix(BlockRef block) const {
    return PrefixHash{prefixes(run(block.run()))[block.offset()].load(std::memory_order_acquire)};
  }
  [[nodiscard]] const Word* prefixes(const Run& run) const { return arena_.At(run.data); }
  [[nodiscard]] bool Exists(BlockRef block) const {
    const Run& it = run(block.run());
    return (it.flags & Run::kUsed) != 0 && block.offset() < it.length;
  }
  // The block before it in its chain; none at the root.
  [[nodiscard]] BlockRef parent(BlockRef block) const {
    return block.offset() > 0 ? BlockRef(block.value - 1) : BlockRef(run(block.run()).parent);
  }

  // --- Chains.

  // The child of `parent` (none: the first block of a prompt in the namespace) with this hash.
  [[nodiscard]] BlockRef FindChild(uint32_t name_space, BlockRef parent, PrefixHash prefix) const;
  // Adds one, which must not be there. `more`: so many more are about to follow it.
  BlockRef AddChild(uint32_t name_space, BlockRef parent, PrefixHash prefix, size_t more);
  // Takes the last block of a run away, which must have no names, no holders and no child runs;
  // with the last one the run.
  void DropLast(uint32_t run);
  // Whether a run begins after the block.
  [[nodiscard]] bool HasChildRun(BlockRef block) const;
  // Whether a run with retained blocks does.
  [[nodiscard]] bool HasRetainedChildRun(BlockRef block);
  // Counts the children of the run where they are very many, so that both of the above take the
  // same time however many there are.
  void CountIfMany(uint32_t run);
  // Where it stands among its siblings, after `retained` became 0 or more than that.
  void PlaceAmongSiblings(uint32_t run);

  // For readers, past gate(): a run that may begin with `prefix` after `parent`. To be checked.
  [[nodiscard]] uint32_t FindRun(uint32_t name_space, BlockRef parent, PrefixHash prefix) const;

  // --- Who holds what, and who calls it what.

  [[nodiscard]] uint64_t Get(const Run& run, Set set, uint64_t key) const;
  // 0 takes the entry away.
  void Put(Run& run, Set set, uint64_t key, uint64_t mask);
  // Calls `take(key, mask)` for each entry from `from` on, in order; `take` returns whether to go
  // on. Nothing may be changed meanwhile.
  template <typename Take>
  void ForEach(const Run& run, Set set, Take take, uint64_t from = 0) const;
  [[nodiscard]] size_t Count(const Run& run, Set set) const;

  // Of holders: changes with each entry that covers the whole run and with nothing else. Two runs
  // of which it is the same are held whole by the same ones (but for one chance in 2^64; the secret
  // keeps it from being made).
  [[nodiscard]] uint64_t FullSum(const Run& run) const {
    return FullSum(run.ReadHolders(), run.flags, run.length);
  }

  // For readers: the same from copies of a run's fields that were true at one moment.
  [[nodiscard]] uint64_t FullSum(const Run::Holders& holders, uint8_t flags, uint32_t length) const;
  template <typename Take>
  void ForEach(const Run::Holders& holders, uint8_t flags, Take take) const;

  // --- Names.

  // Where a name was found.
  struct NamePlace {
    BlockRef block;       // none: nowhere
    uint32_t column = 0;  // lower half of the key of names
  };
  // The block that the space calls so. `*heard`: whether anybody calls any block so.
  [[nodiscard]] NamePlace FindName(uint32_t space, EngineHash name, bool* heard = nullptr) const;
  // Whether the space calls the block so, by a name of that column. Any place may be asked about.
  [[nodiscard]] bool IsName(uint32_t space, EngineHash name, const NamePlace& place) const;
  // Everybody who calls a block so, as take(space, block).
  template <typename Take>
  void ForEachOf(EngineHash name, Take take) const;
  // Looks many up at once: what FindName needs of them is in the cache then.
  void PrefetchNames(const EngineHash* names, size_t count) const;
  // Requires that the space does not know the name. True when it had no name in that run before.
  // `heard`: false when nobody calls any block so. `more`: so many of the space's names for blocks
  // behind this one are about to follow.
  bool AddName(uint32_t space, EngineHash name, BlockRef block, bool heard, size_t more);
  // Names of a run's blocks, one for each bit, as AddName would add them one by one: those that it
  // can add without looking further than the run's own names. That is all of them where nobody has
  // other names there, nor these anywhere else. The others are left, and so are known ones.
  struct AddedNames {
    uint64_t blocks = 0;
    bool first = false;  // the space had no name in that run before
  };
  [[nodiscard]] AddedNames AddNamesOfRun(uint32_t space, uint32_t run, uint64_t blocks,
                                         const EngineHash* names);
  // So many names are about to be added, where there are none yet.
  void ReserveNames(uint64_t count) { names_.Reserve(count); }
  // Requires that it calls the block so. True when it has no name in that run any more.
  bool DropName(uint32_t space, EngineHash name, BlockRef block);
  // Everybody's names of the block, each told as take(space, name, none left in that run).
  template <typename Take>
  void DropNames(BlockRef block, Take take);
  // All names of the space in the run.
  void DropNamesOf(uint32_t space, uint32_t run);
  [[nodiscard]] bool HasNames(BlockRef block) const;
  // How many names the space has for the block.
  [[nodiscard]] size_t CountNamesOf(uint32_t space, BlockRef block) const;
  // The run on its way into the cache.
  void PrefetchRun(uint32_t id) const { __builtin_prefetch(&runs_[id]); }
  // What DropNames needs of the block with nothing but its run's own names.
  void PrefetchName(BlockRef block) const {
    const Run& it = run(block.run());
    names_.Prefetch(HashOfName(NameAt(it, 0, block.offset())));
  }
  // All names of the block, as take(space, name).
  template <typename Take>
  void ForEachName(BlockRef block, Take take) const;
  // All names of the space in the run, as take(offset, name).
  template <typename Take>
  void ForEachNameOf(uint32_t space, uint32_t run, Take take) const;
  [[nodiscard]] bool HasNamesOf(uint32_t space, uint32_t run) const;

  [[nodiscard]] ReaderGate& gate() const { return gate_; }
  // Memory that has become free goes back to the system, and what readers cannot see any more. To
  // be called now and then.
  void Collect();
  [[nodiscard]] const WordArena& arena() const { return arena_; }

  [[nodiscard]] uint64_t bytes() const;
  // Of these, what blocks are in. Falls with each block that is dropped, where bytes() has to wait
  // for a page to become free.
  [[nodiscard]] uint64_t used_bytes() const;
  // How much of what is limited is used, of 1.
  [[nodiscard]] double fullness() const;

  // For Validate: finds what is wrong with the tables and links of one run, or nothing.
  [[nodiscard]] const char* Check(uint32_t run) const;

 private:
  friend struct NameKeys;
  friend struct RunKeys;

  // Names beyond one for each block: a column of its own for each publisher that calls the run's
  // blocks differently.
  struct Column {
    uint32_t run : 25 = 0;
    uint32_t capacity : 7 = 0;  // blocks
    uint32_t cells = 0;         // in the arena
    uint64_t occupied = 0;      // blocks that somebody calls so
  };
  static_assert(sizeof(Column) == 16);

  // What an id of the table of names says: a block's name in the first column of its run, or in a
  // column of its own.
  static constexpr uint32_t kColumnBit = 1u << 31;

  [[nodiscard]] static uint8_t FlagOf(Set set) {
    return set == Set::kHolders ? Run::kHolderArray : Run::kNameArray;
  }
  [[nodiscard]] static const Entries& EntriesOf(const Run& run, Set set) {
    return set == Set::kHolders ? run.holders : run.names;
  }
  [[nodiscard]] static Entries& EntriesOf(Run& run, Set set) {
    return set == Set::kHolders ? run.holders : run.names;
  }
  // The lower half of a key that an entry in place has.
  [[nodiscard]] static uint32_t UsualLower(Set set) { return set == Set::kHolders ? 1 : 0; }
  [[nodiscard]] static uint64_t MaskInPlace(const Entries& entries) {
    return uint64_t{entries.third} << 32 | entries.second;
  }
  [[nodiscard]] static uint32_t HeadWords(uint32_t room) { return room > 2 ? 1 : 0; }
  [[nodiscard]] static uint32_t ArrayWords(uint32_t room) { return HeadWords(room) + 2 * room; }
  [[nodiscard]] Word* ArrayOf(const Entries& entries) {
    return arena_.At(entries.first) + HeadWords(entries.third);
  }
  [[nodiscard]] const Word* ArrayOf(const Entries& entries) const {
    return arena_.At(entries.first) + HeadWords(entries.third);
  }
  // What stands, or would stand, before the entries.
  [[nodiscard]] uint64_t HeadOf(const Run& run, Set set) const;
  // To an array with that room.
  void MoveArray(Run& run, Set set, uint32_t room);
  // Position of the first entry of an array that is not below `key`.
  [[nodiscard]] uint32_t Position(const Entries& entries, uint64_t key) const;
  void ToArray(Run& run, Set set);
  void PutInArray(Run& run, Set set, uint64_t key, uint64_t mask);
  // To the form that what is left of an array needs.
  void Shrink(Run& run, Set set);
  void Resize(Run& run, uint32_t capacity);
  void SetLength(Run& run, uint32_t length);
  [[nodiscard]] uint64_t SumOf(uint64_t key) const;

  [[nodiscard]] uint32_t NewRun();
  void FreeRun(uint32_t run);
  void LinkSibling(uint32_t run, bool first);
  void UnlinkSibling(uint32_t run);

  // How many runs begin after each block of a run that has very many of them: a search among them
  // for those of one block would take as long as there are others.
  struct ChildCounts {
    std::array<uint32_t, kMaxLength> all{};
    std::array<uint32_t, kMaxLength> retained{};
  };
  static constexpr uint32_t kManyChildren = 32;
  // Of a run with Run::kManyChildren.
  [[nodiscard]] const ChildCounts& CountsOf(uint32_t run) const { return *many_children_.at(run); }
  // The run's parent has so many more children, and so many more retained ones.
  void CountChild(uint32_t run, int more, int more_retained);

  [[nodiscard]] uint64_t HashOfName(EngineHash name) const;
  // The name that an id of the table of names says.
  [[nodiscard]] EngineHash NameOf(uint32_t id) const;
  [[nodiscard]] uint64_t HashOfRun(uint32_t name_space, uint64_t prefix) const;
  // Where column `lower` (of a key of names) has its cells.
  [[nodiscard]] const Word* Cells(const Run& run, uint32_t lower) const {
    return lower == 0 ? arena_.At(run.data) + run.capacity : arena_.At(columns_[lower - 1].cells);
  }
  [[nodiscard]] uint64_t Occupied(const Run& run, uint32_t lower) const;
  void SetOccupied(Run& run, uint32_t lower, uint64_t mask);
  [[nodiscard]] EngineHash NameAt(const Run& run, uint32_t lower, uint32_t offset) const {
    return EngineHash{Cells(run, lower)[offset].load(std::memory_order_relaxed)};
  }
  // The column for a name at the block that the space can have there; a new one if need be.
  [[nodiscard]] uint32_t ColumnFor(uint32_t space, BlockRef block);
  // The one that has the name for the block already.
  [[nodiscard]] std::optional<uint32_t> SharedColumn(uint64_t hash, EngineHash name,
                                                     BlockRef block) const;
  void SetCell(Run& run, uint32_t lower, uint32_t offset, EngineHash name, size_t more);
  [[nodiscard]] uint32_t NewColumn(uint32_t run);
  // The cell of the block in the column is nobody's any more.
  void FreeCell(Run& run, uint32_t lower, BlockRef block);
  // What other entries than that of `key` have of its column.
  [[nodiscard]] uint64_t OthersOf(const Run& run, uint64_t key) const;
  [[nodiscard]] static uint32_t IdOf(uint32_t lower, BlockRef block) {
    return lower == 0 ? block.value : kColumnBit | (lower - 1) << 6 | block.offset();
  }

  struct NameKeys {
    const RunStore& store;
    [[nodiscard]] uint64_t HashOf(uint32_t id) const;
    void PrefetchFirst(uint32_t id) const;
    void PrefetchSecond(uint32_t id) const;
  };
  struct RunKeys {
    const RunStore& store;
    [[nodiscard]] uint64_t HashOf(uint32_t id) const;
    void PrefetchFirst(uint32_t id) const;
    void PrefetchSecond(uint32_t id) const;
  };

  const uint64_t secret_;
  WordArena arena_;
  using RunIds = SlotIds<4096 / sizeof(Run)>;
  using ColumnIds = SlotIds<4096 / sizeof(Column)>;

  StableArray<Run, 20, 32> runs_;
  RunIds run_ids_{kMaxRuns};
  StableArray<Column, 20, 32> columns_;
  ColumnIds column_ids_{kMaxRuns};
  absl::flat_hash_map<uint32_t, std::unique_ptr<ChildCounts>> many_children_;  // by run
  NameKeys name_keys_{*this};
  RunKeys run_keys_{*this};
  IdTable<NameKeys> names_{name_keys_};
  IdTable<RunKeys> first_blocks_{run_keys_, &gate_};
  mutable ReaderGate gate_;  // ends before the table whose memory it frees
};

template <typename Take>
void RunStore::ForEach(const Run& run, Set set, Take take, uint64_t from) const {
  const Entries& entries = EntriesOf(run, set);
  if ((run.flags & FlagOf(set)) == 0) {
    const uint64_t mask = MaskInPlace(entries);
    const uint64_t key = Key(entries.first, UsualLower(set));
    if (mask != 0 && key >= from) take(key, mask);
    return;
  }
  const Word* words = ArrayOf(entries);
  const uint32_t count = entries.second;
  for (uint32_t i = from == 0 ? 0 : Position(entries, from); i < count; ++i) {
    if (!take(words[2 * i].load(std::memory_order_acquire),
              words[2 * i + 1].load(std::memory_order_acquire))) {
      return;
    }
  }
}

template <typename Take>
void RunStore::ForEach(const Run::Holders& holders, uint8_t flags, Take take) const {
  if ((flags & Run::kHolderArray) == 0) {
    const uint64_t mask = uint64_t{holders.third} << 32 | holders.second;
    if (mask != 0) take(Key(holders.first, 1), mask);
    return;
  }
  const Word* words = arena_.At(holders.first) + HeadWords(holders.third);
  for (uint32_t i = 0; i < holders.second; ++i) {
    take(words[2 * i].load(std::memory_order_acquire),
         words[2 * i + 1].load(std::memory_order_acquire));
  }
}

template <typename Take>
void RunStore::ForEachName(BlockRef block, Take take) const {
  const Run& it = run(block.run());
  ForEach(it, Set::kNames, [&](uint64_t key, uint64_t mask) {
    if ((mask & Bit(block.offset())) != 0) {
      take(Upper(key), NameAt(it, Lower(key), block.offset()));
    }
    return true;
  });
}

template <typename Take>
void RunStore::ForEachOf(EngineHash name, Take take) const {
  (void)names_.Find(HashOfName(name), [&](uint32_t id) {
    const uint32_t at = (id & ~kColumnBit) >> 6;
    const bool column = (id & kColumnBit) != 0;
    const BlockRef block(column ? columns_[at].run : at, id & 63);
    const uint32_t lower = column ? at + 1 : 0;
    const Run& it = run(block.run());
    if (NameAt(it, lower, block.offset()) != name) return false;
    ForEach(it, Set::kNames, [&](uint64_t key, uint64_t mask) {
      if (Lower(key) == lower && (mask & Bit(block.offset())) != 0) take(Upper(key), block);
      return true;
    });
    return false;
  });
}

template <typename Take>
void RunStore::DropNames(BlockRef block, Take take) {
  Run& it = run(block.run());
  const uint64_t bit = Bit(block.offset());
  if ((it.flags & Run::kNameArray) == 0) {
    const uint64_t mask = MaskInPlace(it.names);
    if ((mask & bit) == 0) return;
    const EngineHash name = NameAt(it, 0, block.offset());
    names_.Erase(HashOfName(name), block.value);
    it.names.second = static_cast<uint32_t>(mask & ~bit);
    it.names.third = static_cast<uint32_t>((mask & ~bit) >> 32);
    take(it.names.first, name, mask == bit);
    return;
  }
  struct Dropped {
    uint64_t key;
    uint64_t left;  // of its mask
    EngineHash name;
  };
  std::vector<Dropped> dropped;
  ForEach(it, Set::kNames, [&](uint64_t key, uint64_t mask) {
    if ((mask & bit) == 0) return true;
    dropped.push_back({key, mask & ~bit, NameAt(it, Lower(key), block.offset())});
    return true;
  });
  const Change change(it);
  bool first_freed = false;
  for (const Dropped& drop : dropped) {
    const uint32_t lower = Lower(drop.key);
    const bool last =
        lower == 0 ? !std::exchange(first_freed, true) : (columns_[lower - 1].occupied & bit) != 0;
    if (last) FreeCell(it, lower, block);
    Put(it, Set::kNames, drop.key, drop.left);
  }
  for (const Dropped& drop : dropped) {
    take(Upper(drop.key), drop.name, !HasNamesOf(Upper(drop.key), block.run()));
  }
}

template <typename Take>
void RunStore::ForEachNameOf(uint32_t space, uint32_t id, Take take) const {
  const Run& it = run(id);
  ForEach(
      it, Set::kNames,
      [&](uint64_t key, uint64_t mask) {
        if (Upper(key) != space) return false;
        for (; mask != 0; mask &= mask - 1) {
          const auto offset = static_cast<uint32_t>(std::countr_zero(mask));
          take(offset, NameAt(it, Lower(key), offset));
        }
        return true;
      },
      Key(space, 0));
}

}  // namespace conductor::index

#endif  // CONDUCTOR_LIB_INDEX_RUN_STORE_H_
