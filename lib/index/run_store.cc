#include "lib/index/run_store.h"

#include <algorithm>
#include <cstring>
#include <new>

namespace conductor::index {
namespace {

__extension__ using Wide = unsigned __int128;

// Two inputs to one well mixed output.
uint64_t Mix(uint64_t a, uint64_t b) {
  const Wide product = Wide{a ^ 0x9e3779b97f4a7c15u} * (b ^ 0xd6e8feb86659fd93u);
  const uint64_t folded = static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
  return (folded ^ (folded >> 32)) * 0x9fb21c651e98df25u;
}

}  // namespace

RunStore::RunStore(uint64_t secret) : secret_(secret) {}

// --- Runs.

uint32_t RunStore::NewRun() {
  const uint32_t id = run_ids_.Take();
  runs_.MakeRoom(id);
  return id;
}

void RunStore::FreeRun(uint32_t id) {
  Run& it = runs_[id];
  if ((it.flags & Run::kManyChildren) != 0) many_children_.erase(id);
  const Change change(it);
  arena_.Free(it.data, 2u * it.capacity);
  it.data = WordArena::kNone;
  it.flags = 0;
  it.length = 0;
  run_ids_.Free(id);
}

void RunStore::LinkSibling(uint32_t id, bool first) {
  Run& it = runs_[id];
  Run& parent = runs_[BlockRef(it.parent).run()];
  const uint32_t head = parent.first_child;
  if (head == kNoRun) {
    it.next_sibling = kNoRun;
    it.previous_sibling = id;
    parent.first_child = id;
    return;
  }
  const uint32_t last = runs_[head].previous_sibling;  // of the first one: the last
  if (first) {
    it.next_sibling = head;
    it.previous_sibling = last;
    runs_[head].previous_sibling = id;
    parent.first_child = id;
  } else {
    it.next_sibling = kNoRun;
    it.previous_sibling = last;
    runs_[last].next_sibling = id;
    runs_[head].previous_sibling = id;
  }
}

void RunStore::UnlinkSibling(uint32_t id) {
  Run& it = runs_[id];
  Run& parent = runs_[BlockRef(it.parent).run()];
  const uint32_t next = it.next_sibling;
  const uint32_t previous = it.previous_sibling;
  const uint32_t head = parent.first_child;
  if (head == id) {
    parent.first_child = next;
    if (next != kNoRun) runs_[next].previous_sibling = previous;
    return;
  }
  runs_[previous].next_sibling = next;
  runs_[next != kNoRun ? next : head].previous_sibling = previous;
}

void RunStore::PlaceAmongSiblings(uint32_t id) {
  const Run& it = runs_[id];
  if (!BlockRef(it.parent).is_block()) return;
  UnlinkSibling(id);
  LinkSibling(id, it.retained > 0);
  CountChild(id, 0, it.retained > 0 ? 1 : -1);
}

void RunStore::CountChild(uint32_t id, int more, int more_retained) {
  const BlockRef parent(runs_[id].parent);
  if ((runs_[parent.run()].flags & Run::kManyChildren) == 0) return;
  ChildCounts& counts = *many_children_.at(parent.run());
  counts.all[parent.offset()] += static_cast<uint32_t>(more);
  counts.retained[parent.offset()] += static_cast<uint32_t>(more_retained);
}

void RunStore::CountIfMany(uint32_t id) {
  Run& it = runs_[id];
  if ((it.flags & (Run::kUsed | Run::kManyChildren)) != Run::kUsed) return;
  uint32_t child = it.first_child;
  for (uint32_t i = 0; i < kManyChildren; ++i) {
    if (child == kNoRun) return;
    child = runs_[child].next_sibling;
  }
  auto counts = std::make_unique<ChildCounts>();
  for (child = it.first_child; child != kNoRun; child = runs_[child].next_sibling) {
    const uint32_t offset = BlockRef(runs_[child].parent).offset();
    ++counts->all[offset];
    if (runs_[child].retained > 0) ++counts->retained[offset];
  }
  many_children_.insert_or_assign(id, std::move(counts));
  it.flags = static_cast<uint8_t>(it.flags | Run::kManyChildren);
}

bool RunStore::HasChildRun(BlockRef block) const {
  const Run& it = run(block.run());
  if ((it.flags & Run::kManyChildren) != 0) return CountsOf(block.run()).all[block.offset()] > 0;
  for (uint32_t child = it.first_child; child != kNoRun; child = run(child).next_sibling) {
    if (run(child).parent == block.value) return true;
  }
  return false;
}

bool RunStore::HasRetainedChildRun(BlockRef block) {
  const Run& it = run(block.run());
  if ((it.flags & Run::kManyChildren) != 0) {
    return CountsOf(block.run()).retained[block.offset()] > 0;
  }
  uint32_t looked = 0;
  for (uint32_t child = it.first_child; child != kNoRun; child = run(child).next_sibling) {
    if (run(child).retained == 0) return false;
    if (run(child).parent == block.value) return true;
    if (++looked == kManyChildren) CountIfMany(block.run());
  }
  return false;
}

// --- Chains.

uint64_t RunStore::HashOfRun(uint32_t name_space, uint64_t prefix) const {
  return Mix(prefix, secret_ + name_space);
}

uint32_t RunStore::FindRun(uint32_t name_space, BlockRef parent, PrefixHash prefix) const {
  const auto wanted = static_cast<uint64_t>(prefix);
  const uint32_t found = first_blocks_.Find(HashOfRun(name_space, wanted), [&](uint32_t candidate) {
    const Run& it = runs_[candidate];
    return it.parent == parent.value && it.name_space == name_space &&
           arena_.At(it.data)->load(std::memory_order_acquire) == wanted;
  });
  return found;
}

BlockRef RunStore::FindChild(uint32_t name_space, BlockRef parent, PrefixHash prefix) const {
  if (parent.is_block()) {
    const Run& it = run(parent.run());
    const uint32_t next = parent.offset() + 1;
    if (next < it.length &&
        prefixes(it)[next].load(std::memory_order_relaxed) == static_cast<uint64_t>(prefix)) {
      return BlockRef(parent.value + 1);
    }
  }
  const uint32_t found = FindRun(name_space, parent, prefix);
  return found == kNoRun ? BlockRef() : BlockRef(found, 0);
}

void RunStore::Resize(Run& it, uint32_t capacity) {
  capacity = WordArena::Rounded(2 * capacity) / 2;
  if (capacity == it.capacity) return;
  const uint32_t data = arena_.Allocate(2 * capacity);
  const Word* from = arena_.At(it.data);
  Word* to = arena_.At(data);
  const uint32_t length = std::min<uint32_t>(it.length, capacity);
  for (uint32_t i = 0; i < length; ++i) {
    to[i].store(from[i].load(std::memory_order_relaxed), std::memory_order_release);
    to[capacity + i].store(from[it.capacity + i].load(std::memory_order_relaxed),
                           std::memory_order_release);
  }
  const uint32_t old = it.data;
  const uint32_t old_capacity = it.capacity;
  it.data = data;
  it.capacity = static_cast<uint8_t>(capacity);
  arena_.Free(old, 2 * old_capacity);
}

void RunStore::SetLength(Run& it, uint32_t length) {
  it.length = static_cast<uint8_t>(length);
  if ((it.flags & Run::kHolderArray) == 0 || HeadWords(it.holders.third) == 0) return;
  uint64_t sum = 0;
  ForEach(it, Set::kHolders, [&](uint64_t key, uint64_t mask) {
    if (mask == Leading(length)) sum ^= SumOf(key);
    return true;
  });
  arena_.At(it.holders.first)->store(sum, std::memory_order_release);
}

BlockRef RunStore::AddChild(uint32_t name_space, BlockRef parent, PrefixHash prefix, size_t more) {
  if (parent.is_block()) {
    Run& it = run(parent.run());
    const uint32_t length = it.length;
    if (parent.offset() + 1 == length && length < kMaxLength) {
      const Change change(it);
      if (length == it.capacity) {
        // One block after the other: room for half as many again. Many at once: for just these.
        const size_t wanted = more > 0 ? length + 1 + more : length + 1 + length / 2;
        Resize(it, static_cast<uint32_t>(std::min<size_t>(wanted, kMaxLength)));
      }
      arena_.At(it.data)[length].store(static_cast<uint64_t>(prefix), std::memory_order_release);
      SetLength(it, length + 1);
      return BlockRef(parent.value + 1);
    }
  }
  const uint32_t capacity =
      WordArena::Rounded(2 * static_cast<uint32_t>(std::min<size_t>(1 + more, kMaxLength))) / 2;
  const uint32_t data = arena_.Allocate(2 * capacity);
  const uint32_t id = NewRun();
  Run& it = runs_[id];
  {
    const Change change(it);
    arena_.At(data)->store(static_cast<uint64_t>(prefix), std::memory_order_release);
    it.parent = parent.value;
    it.name_space = name_space;
    it.data = data;
    it.capacity = static_cast<uint8_t>(capacity);
    it.length = 1;
    it.retained = 0;
    it.flags = Run::kUsed;
    it.first_child = kNoRun;
    it.next_sibling = kNoRun;
    it.stamp = 0;
    it.released = kNoRun;
    it.holders.first = it.holders.second = it.holders.third = 0;
    it.names.first = it.names.second = it.names.third = 0;
  }
  if (parent.is_block()) {
    LinkSibling(id, /*first=*/false);
    CountChild(id, 1, 0);
  }
  first_blocks_.Insert(HashOfRun(name_space, static_cast<uint64_t>(prefix)), id);
  return BlockRef(id, 0);
}

void RunStore::DropLast(uint32_t id) {
  Run& it = run(id);
  const uint32_t length = it.length;
  if (length > 1) {
    const Change change(it);
    SetLength(it, length - 1);
    if (WordArena::Rounded(2 * (length - 1)) / 2 * 2 <= it.capacity) Resize(it, length - 1);
    return;
  }
  first_blocks_.Erase(HashOfRun(it.name_space, arena_.At(it.data)->load(std::memory_order_relaxed)),
                      id);
  if (BlockRef(it.parent).is_block()) {
    UnlinkSibling(id);
    CountChild(id, -1, 0);
  }
  FreeRun(id);
}

// --- Entries.

uint64_t RunStore::SumOf(uint64_t key) const { return Mix(key, secret_) | 1; }

uint64_t RunStore::FullSum(const Run::Holders& holders, uint8_t flags, uint32_t length) const {
  if ((flags & Run::kHolderArray) != 0 && HeadWords(holders.third) > 0) {
    return arena_.At(holders.first)->load(std::memory_order_acquire);
  }
  uint64_t sum = 0;
  ForEach(holders, flags, [&](uint64_t key, uint64_t mask) {
    if (mask == Leading(length)) sum ^= SumOf(key);
  });
  return sum;
}

uint64_t RunStore::HeadOf(const Run& it, Set set) const {
  const Entries& entries = EntriesOf(it, set);
  if (HeadWords(entries.third) > 0) {
    return arena_.At(entries.first)->load(std::memory_order_relaxed);
  }
  uint64_t head = 0;
  ForEach(it, set, [&](uint64_t key, uint64_t mask) {
    if (set == Set::kHolders && mask == Leading(it.length)) head ^= SumOf(key);
    if (set == Set::kNames && Lower(key) == 0) head |= mask;
    return true;
  });
  return head;
}

void RunStore::MoveArray(Run& it, Set set, uint32_t room) {
  Entries& entries = EntriesOf(it, set);
  const uint32_t array = arena_.Allocate(ArrayWords(room));
  Word* to = arena_.At(array);
  if (HeadWords(room) > 0) (to++)->store(HeadOf(it, set), std::memory_order_release);
  const Word* from = ArrayOf(entries);
  for (uint32_t i = 0; i < 2 * entries.second; ++i) {
    to[i].store(from[i].load(std::memory_order_relaxed), std::memory_order_release);
  }
  const uint32_t old = entries.first;
  const uint32_t old_room = entries.third;
  entries.first = array;
  entries.third = room;
  arena_.Free(old, ArrayWords(old_room));
}

uint32_t RunStore::Position(const Entries& entries, uint64_t key) const {
  const Word* words = ArrayOf(entries);
  uint32_t low = 0;
  uint32_t high = entries.second;
  while (low < high) {
    const uint32_t middle = (low + high) / 2;
    if (words[2 * middle].load(std::memory_order_relaxed) < key) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

size_t RunStore::Count(const Run& it, Set set) const {
  const Entries& entries = EntriesOf(it, set);
  if ((it.flags & FlagOf(set)) != 0) return entries.second;
  return MaskInPlace(entries) != 0 ? 1 : 0;
}

uint64_t RunStore::Get(const Run& it, Set set, uint64_t key) const {
  const Entries& entries = EntriesOf(it, set);
  if ((it.flags & FlagOf(set)) == 0) {
    return key == Key(entries.first, UsualLower(set)) ? MaskInPlace(entries) : 0;
  }
  const uint32_t at = Position(entries, key);
  if (at == entries.second) return 0;
  const Word* words = ArrayOf(entries);
  return words[2 * at].load(std::memory_order_relaxed) == key
             ? words[2 * at + 1].load(std::memory_order_relaxed)
             : 0;
}

void RunStore::Put(Run& it, Set set, uint64_t key, uint64_t mask) {
  const Change change(it);
  if ((it.flags & FlagOf(set)) == 0) {
    Entries& entries = EntriesOf(it, set);
    const uint64_t before = MaskInPlace(entries);
    const bool usual = Lower(key) == UsualLower(set);
    if (usual && (before == 0 || entries.first == Upper(key))) {
      entries.first = Upper(key);
      entries.second = static_cast<uint32_t>(mask);
      entries.third = static_cast<uint32_t>(mask >> 32);
      return;
    }
    if (mask == 0) return;
    ToArray(it, set);
  }
  PutInArray(it, set, key, mask);
}

void RunStore::ToArray(Run& it, Set set) {
  Entries& entries = EntriesOf(it, set);
  const uint64_t mask = MaskInPlace(entries);
  const uint64_t key = Key(entries.first, UsualLower(set));
  const uint32_t room = 2;
  const uint32_t array = arena_.Allocate(ArrayWords(room));
  Word* words = arena_.At(array);
  words[0].store(key, std::memory_order_release);
  words[1].store(mask, std::memory_order_release);
  entries.first = array;
  entries.second = mask != 0 ? 1 : 0;
  entries.third = room;
  it.flags = static_cast<uint8_t>(it.flags | FlagOf(set));
}

void RunStore::PutInArray(Run& it, Set set, uint64_t key, uint64_t mask) {
  Entries& entries = EntriesOf(it, set);
  const uint32_t at = Position(entries, key);
  const uint32_t count = entries.second;
  Word* words = ArrayOf(entries);
  const auto word = [&](uint32_t i) { return words[i].load(std::memory_order_relaxed); };
  const auto set_word = [&](uint32_t i, uint64_t value) {
    words[i].store(value, std::memory_order_release);
  };
  const bool known = at < count && word(2 * at) == key;
  const uint64_t before = known ? word(2 * at + 1) : 0;
  if (!known && mask == 0) return;
  if (set == Set::kHolders && HeadWords(entries.third) > 0) {
    const uint64_t full = Leading(it.length);
    const uint64_t sum = (before == full ? SumOf(key) : 0) ^ (mask == full ? SumOf(key) : 0);
    Word& head = words[-1];
    head.store(head.load(std::memory_order_relaxed) ^ sum, std::memory_order_release);
  }
  if (known && mask != 0) {
    set_word(2 * at + 1, mask);
    return;
  }
  if (known) {
    for (uint32_t i = 2 * at; i + 2 < 2 * count; ++i) set_word(i, word(i + 2));
    entries.second = count - 1;
    Shrink(it, set);
    return;
  }
  if (count == entries.third) {
    // Room for a quarter more, and what the arena would give anyhow.
    const uint32_t room = (WordArena::Rounded(ArrayWords(count + count / 4 + 1)) - 1) / 2;
    MoveArray(it, set, room);
    words = ArrayOf(entries);
    if (set == Set::kHolders && count <= 2 && mask == Leading(it.length)) {
      // The sum was gathered without the new one.
      Word& head = words[-1];
      head.store(head.load(std::memory_order_relaxed) ^ SumOf(key), std::memory_order_release);
    }
  }
  for (uint32_t i = 2 * count + 1; i > 2 * at + 1; --i) set_word(i, word(i - 2));
  set_word(2 * at, key);
  set_word(2 * at + 1, mask);
  entries.second = count + 1;
}

void RunStore::Shrink(Run& it, Set set) {
  Entries& entries = EntriesOf(it, set);
  const uint32_t count = entries.second;
  const uint32_t array = entries.first;
  const uint32_t room = entries.third;
  const Word* words = ArrayOf(entries);
  const uint64_t key = count == 1 ? words[0].load(std::memory_order_relaxed) : 0;
  if (count == 0 || (count == 1 && Lower(key) == UsualLower(set))) {
    const uint64_t mask = count == 0 ? 0 : words[1].load(std::memory_order_relaxed);
    it.flags = static_cast<uint8_t>(it.flags & ~FlagOf(set));
    entries.first = Upper(key);
    entries.second = static_cast<uint32_t>(mask);
    entries.third = static_cast<uint32_t>(mask >> 32);
    arena_.Free(array, ArrayWords(room));
  } else if (room > 4 && count <= room / 4) {
    MoveArray(it, set, room / 2);
  }
}

// --- Names.

uint64_t RunStore::HashOfName(EngineHash name) const {
  return Mix(static_cast<uint64_t>(name), secret_);
}

uint64_t RunStore::Occupied(const Run& it, uint32_t lower) const {
  if (lower > 0) return columns_[lower - 1].occupied;
  if ((it.flags & Run::kNameArray) == 0) return MaskInPlace(it.names);
  return HeadOf(it, Set::kNames);
}

void RunStore::SetOccupied(Run& it, uint32_t lower, uint64_t mask) {
  if (lower > 0) {
    columns_[lower - 1].occupied = mask;
  } else if ((it.flags & Run::kNameArray) != 0 && HeadWords(it.names.third) > 0) {
    arena_.At(it.names.first)->store(mask, std::memory_order_release);
  }
}

uint32_t RunStore::NewColumn(uint32_t run) {
  const uint32_t id = column_ids_.Take();
  columns_.MakeRoom(id);
  columns_[id] = Column{.run = run & (kMaxRuns - 1)};
  return id;
}

uint32_t RunStore::ColumnFor(uint32_t space, BlockRef block) {
  const Run& it = run(block.run());
  const uint64_t bit = Bit(block.offset());
  std::optional<uint32_t> own;
  ForEach(
      it, Set::kNames,
      [&](uint64_t key, uint64_t) {
        if (Upper(key) != space) return false;
        if ((Occupied(it, Lower(key)) & bit) == 0) own = Lower(key);
        return !own;
      },
      Key(space, 0));
  if (own) return *own;
  if ((Occupied(it, 0) & bit) == 0) return 0;
  return 1 + NewColumn(block.run());
}

std::optional<uint32_t> RunStore::SharedColumn(uint64_t hash, EngineHash name,
                                               BlockRef block) const {
  const Run& it = run(block.run());
  uint32_t lower = 0;
  const uint32_t shared = names_.Find(hash, [&](uint32_t id) {
    if ((id & 63) != block.offset()) return false;
    const uint32_t at = (id & ~kColumnBit) >> 6;
    const bool column = (id & kColumnBit) != 0;
    lower = column ? at + 1 : 0;
    return (column ? columns_[at].run : at) == block.run() &&
           NameAt(it, lower, block.offset()) == name;
  });
  if (shared == names_.kNone) return std::nullopt;
  return lower;
}

void RunStore::SetCell(Run& it, uint32_t lower, uint32_t offset, EngineHash name, size_t more) {
  if (lower == 0) {
    (arena_.At(it.data) + it.capacity)[offset].store(static_cast<uint64_t>(name),
                                                     std::memory_order_release);
    return;
  }
  Column& column = columns_[lower - 1];
  if (offset >= column.capacity) {
    const size_t wanted = std::max<size_t>(offset + 1 + more, offset + 1 + offset / 2);
    const uint32_t capacity = WordArena::Rounded(
        static_cast<uint32_t>(std::clamp<size_t>(wanted, offset + 1, it.length)));
    const uint32_t cells = arena_.Allocate(capacity);
    for (uint32_t i = 0; i < column.capacity; ++i) {
      arena_.At(cells)[i].store(arena_.At(column.cells)[i].load(std::memory_order_relaxed),
                                std::memory_order_release);
    }
    if (column.capacity > 0) arena_.Free(column.cells, column.capacity);
    column.cells = cells;
    column.capacity = capacity & 127;
  }
  arena_.At(column.cells)[offset].store(static_cast<uint64_t>(name), std::memory_order_release);
}

bool RunStore::AddName(uint32_t space, EngineHash name, BlockRef block, bool heard, size_t more) {
  Run& it = run(block.run());
  const uint64_t hash = HashOfName(name);
  const uint64_t bit = Bit(block.offset());
  if (!heard && (it.flags & Run::kNameArray) == 0) {
    // Nearly always: the first to name it, in a run that has no other names than its own.
    const uint64_t mask = MaskInPlace(it.names);
    if ((mask == 0 || it.names.first == space) && (mask & bit) == 0) {
      SetCell(it, 0, block.offset(), name, more);
      names_.Insert(hash, block.value);
      it.names.first = space;
      it.names.second = static_cast<uint32_t>(mask | bit);
      it.names.third = static_cast<uint32_t>((mask | bit) >> 32);
      return mask == 0;
    }
  }
  const Change change(it);
  const bool first = !HasNamesOf(space, block.run());
  std::optional<uint32_t> lower;
  if (heard) lower = SharedColumn(hash, name, block);
  if (!lower) {
    lower = ColumnFor(space, block);
    SetCell(it, *lower, block.offset(), name, more);
    names_.Insert(hash, IdOf(*lower, block));
  }
  const uint64_t key = Key(space, *lower);
  const uint64_t occupied = Occupied(it, *lower);
  Put(it, Set::kNames, key, Get(it, Set::kNames, key) | bit);
  SetOccupied(it, *lower, occupied | bit);
  return first;
}

RunStore::AddedNames RunStore::AddNamesOfRun(uint32_t space, uint32_t id, uint64_t blocks,
                                             const EngineHash* names) {
  Run& it = run(id);
  const uint64_t key = Key(space, 0);
  const uint64_t occupied = Occupied(it, 0);
  const uint64_t known = Get(it, Set::kNames, key);
  AddedNames added;
  for (; blocks != 0; blocks &= blocks - 1, ++names) {
    const auto offset = static_cast<uint32_t>(std::countr_zero(blocks));
    const uint64_t bit = Bit(offset);
    const bool named = (occupied & bit) != 0;
    if ((known & bit) != 0 || (named && NameAt(it, 0, offset) != *names)) continue;
    const uint32_t here = BlockRef(id, offset).value;
    const uint64_t hash = HashOfName(*names);
    const uint32_t elsewhere = names_.Find(
        hash, [&](uint32_t candidate) { return candidate != here && NameOf(candidate) == *names; });
    if (elsewhere != names_.kNone) continue;
    if (!named) {
      SetCell(it, 0, offset, *names, 0);
      names_.Insert(hash, here);
    }
    added.blocks |= bit;
  }
  if (added.blocks == 0) return added;
  const Change change(it);
  added.first = !HasNamesOf(space, id);
  Put(it, Set::kNames, key, known | added.blocks);
  SetOccupied(it, 0, occupied | added.blocks);
  return added;
}

void RunStore::FreeCell(Run& it, uint32_t lower, BlockRef block) {
  names_.Erase(HashOfName(NameAt(it, lower, block.offset())), IdOf(lower, block));
  const uint64_t left = Occupied(it, lower) & ~Bit(block.offset());
  SetOccupied(it, lower, left);
  if (lower == 0 || left != 0) return;
  Column& column = columns_[lower - 1];
  arena_.Free(column.cells, column.capacity);
  column = Column{};
  column_ids_.Free(lower - 1);
}

uint64_t RunStore::OthersOf(const Run& it, uint64_t key) const {
  uint64_t others = 0;
  ForEach(it, Set::kNames, [&](uint64_t other, uint64_t mask) {
    if (other != key && Lower(other) == Lower(key)) others |= mask;
    return true;
  });
  return others;
}

bool RunStore::DropName(uint32_t space, EngineHash name, BlockRef block) {
  Run& it = run(block.run());
  const Change change(it);
  const uint64_t bit = Bit(block.offset());
  uint64_t key = 0;
  uint64_t mask = 0;
  ForEach(
      it, Set::kNames,
      [&](uint64_t candidate, uint64_t of) {
        if ((of & bit) == 0 || NameAt(it, Lower(candidate), block.offset()) != name) return true;
        key = candidate;
        mask = of;
        return false;
      },
      Key(space, 0));
  if ((OthersOf(it, key) & bit) == 0) FreeCell(it, Lower(key), block);
  Put(it, Set::kNames, key, mask & ~bit);
  return !HasNamesOf(space, block.run());
}

void RunStore::DropNamesOf(uint32_t space, uint32_t id) {
  Run& it = run(id);
  const Change change(it);
  for (;;) {
    uint64_t key = 0;
    uint64_t mask = 0;
    ForEach(
        it, Set::kNames,
        [&](uint64_t candidate, uint64_t of) {
          if (Upper(candidate) == space) {
            key = candidate;
            mask = of;
          }
          return false;
        },
        Key(space, 0));
    if (mask == 0) return;
    const uint64_t all = mask & ~OthersOf(it, key);
    for (uint64_t freed = all; freed != 0; freed &= freed - 1) {
      const auto offset = static_cast<uint32_t>(std::countr_zero(freed));
      names_.Prefetch(HashOfName(NameAt(it, Lower(key), offset)));
    }
    for (uint64_t freed = all; freed != 0; freed &= freed - 1) {
      FreeCell(it, Lower(key), BlockRef(id, static_cast<uint32_t>(std::countr_zero(freed))));
    }
    Put(it, Set::kNames, key, 0);
  }
}

bool RunStore::HasNames(BlockRef block) const {
  bool has = false;
  ForEach(run(block.run()), Set::kNames, [&](uint64_t, uint64_t mask) {
    has = (mask & Bit(block.offset())) != 0;
    return !has;
  });
  return has;
}

size_t RunStore::CountNamesOf(uint32_t space, BlockRef block) const {
  size_t count = 0;
  ForEach(
      run(block.run()), Set::kNames,
      [&](uint64_t key, uint64_t mask) {
        if (Upper(key) != space) return false;
        if ((mask & Bit(block.offset())) != 0) ++count;
        return true;
      },
      Key(space, 0));
  return count;
}

bool RunStore::HasNamesOf(uint32_t space, uint32_t id) const {
  bool has = false;
  ForEach(
      run(id), Set::kNames,
      [&](uint64_t key, uint64_t) {
        has = Upper(key) == space;
        return false;
      },
      Key(space, 0));
  return has;
}

bool RunStore::IsName(uint32_t space, EngineHash name, const NamePlace& place) const {
  const Run& it = runs_[place.block.run()];
  if ((Get(it, Set::kNames, Key(space, place.column)) & Bit(place.block.offset())) == 0) {
    return false;
  }
  return NameAt(it, place.column, place.block.offset()) == name;
}

RunStore::NamePlace RunStore::FindName(uint32_t space, EngineHash name, bool* heard) const {
  NamePlace place;
  const auto is = [&](uint32_t id) {
    const uint32_t at = (id & ~kColumnBit) >> 6;
    const uint32_t offset = id & 63;
    const bool column = (id & kColumnBit) != 0;
    const uint32_t run_id = column ? columns_[at].run : at;
    const uint32_t lower = column ? at + 1 : 0;
    const Run& it = runs_[run_id];
    if (NameAt(it, lower, offset) != name) return false;
    if (heard != nullptr) *heard = true;
    if ((Get(it, Set::kNames, Key(space, lower)) & Bit(offset)) == 0) return false;
    place = {BlockRef(run_id, offset), lower};
    return true;
  };
  (void)names_.Find(HashOfName(name), is);
  return place;
}

void RunStore::PrefetchNames(const EngineHash* names, size_t count) const {
  // Each step for a good many before the next, so that they are waited for together.
  constexpr size_t kAtOnce = 64;
  uint32_t candidates[kAtOnce];
  size_t found = 0;
  for (size_t i = 0; i < count; ++i) names_.Prefetch(HashOfName(names[i]));
  for (size_t i = 0; i < count; ++i) {
    names_.Candidates(HashOfName(names[i]), [&](uint32_t id) {
      if (found == kAtOnce) return;
      candidates[found++] = id;
      name_keys_.PrefetchFirst(id);
    });
  }
  for (size_t i = 0; i < found; ++i) name_keys_.PrefetchSecond(candidates[i]);
}

EngineHash RunStore::NameOf(uint32_t id) const {
  const uint32_t at = (id & ~kColumnBit) >> 6;
  const bool column = (id & kColumnBit) != 0;
  return NameAt(runs_[column ? columns_[at].run : at], column ? at + 1 : 0, id & 63);
}

uint64_t RunStore::NameKeys::HashOf(uint32_t id) const {
  return store.HashOfName(store.NameOf(id));
}

void RunStore::NameKeys::PrefetchFirst(uint32_t id) const {
  const uint32_t at = (id & ~kColumnBit) >> 6;
  if ((id & kColumnBit) != 0) {
    __builtin_prefetch(&store.columns_[at]);
  } else {
    __builtin_prefetch(&store.runs_[at]);
  }
}

void RunStore::NameKeys::PrefetchSecond(uint32_t id) const {
  const uint32_t at = (id & ~kColumnBit) >> 6;
  if ((id & kColumnBit) != 0) {
    __builtin_prefetch(store.arena_.At(store.columns_[at].cells) + (id & 63));
  } else {
    __builtin_prefetch(store.Cells(store.runs_[at], 0) + (id & 63));
  }
}

uint64_t RunStore::RunKeys::HashOf(uint32_t id) const {
  const Run& run = store.runs_[id];
  return store.HashOfRun(run.name_space,
                         store.arena_.At(run.data)->load(std::memory_order_relaxed));
}

void RunStore::RunKeys::PrefetchFirst(uint32_t id) const { __builtin_prefetch(&store.runs_[id]); }

void RunStore::RunKeys::PrefetchSecond(uint32_t id) const {
  __builtin_prefetch(store.arena_.At(store.runs_[id].data));
}

// --- Sizes and checks.

void RunStore::Collect() {
  // A page is nobody's once its readers have left: then its versions may begin again.
  const auto give_back = [this](auto& ids, auto& elements) {
    if (!ids.ShouldGiveBack()) return;
    gate_.Retire([&ids, &elements, pages = ids.TakeIdle()] {
      for (const uint32_t page : pages) elements.GiveBackPage(page);
      ids.Returned(pages);
    });
  };
  give_back(run_ids_, runs_);
  give_back(column_ids_, columns_);
  gate_.Collect();
}

uint64_t RunStore::bytes() const {
  const uint64_t pages = uint64_t{run_ids_.resident_pages()} + column_ids_.resident_pages();
  return arena_.bytes() + pages * 4096 + names_.bytes() + first_blocks_.bytes() +
         many_children_.capacity() * sizeof(std::pair<uint32_t, void*>) +
         many_children_.size() * sizeof(ChildCounts);
}

uint64_t RunStore::used_bytes() const {
  constexpr uint64_t kNameBytes = 5;
  return arena_.slot_bytes() + uint64_t{run_ids_.count()} * sizeof(Run) +
         uint64_t{column_ids_.count()} * sizeof(Column) +
         (names_.size() + run_ids_.count()) * kNameBytes;
}

double RunStore::fullness() const {
  const double arena =
      static_cast<double>(arena_.used_bytes()) / static_cast<double>(WordArena::kMaxBytes);
  const double runs =
      static_cast<double>(std::max(run_ids_.count(), column_ids_.count())) / kMaxRuns;
  return std::max(arena, runs);
}

const char* RunStore::Check(uint32_t id) const {
  const Run& it = runs_[id];
  if (it.version % 2 != 0) return "is being changed";
  const uint32_t length = it.length;
  if (length == 0 || length > it.capacity || it.capacity > kMaxLength) return "has a wrong length";
  if (it.retained > length) return "retains more than there is";
  const BlockRef parent{it.parent};
  const PrefixHash first = prefix(BlockRef(id, 0));
  if (FindRun(it.name_space, parent, first) != id) return "is not found by its first block";
  if (parent.is_block()) {
    const Run& above = runs_[parent.run()];
    if ((above.flags & Run::kUsed) == 0 || parent.offset() >= above.length) {
      return "hangs on a block that is none";
    }
    bool linked = false;
    for (uint32_t child = above.first_child; child != kNoRun; child = runs_[child].next_sibling) {
      linked |= child == id;
    }
    if (!linked) return "is missing among its siblings";
  }
  bool ended = false;
  for (uint32_t child = it.first_child; child != kNoRun; child = runs_[child].next_sibling) {
    if (BlockRef(runs_[child].parent).run() != id) return "has somebody else's child";
    if (runs_[child].retained > 0 && ended) return "has its children in a wrong order";
    ended |= runs_[child].retained == 0;
  }
  if ((it.flags & Run::kManyChildren) != 0) {
    ChildCounts counted;
    for (uint32_t child = it.first_child; child != kNoRun; child = runs_[child].next_sibling) {
      const uint32_t offset = BlockRef(runs_[child].parent).offset();
      ++counted.all[offset];
      if (runs_[child].retained > 0) ++counted.retained[offset];
    }
    const ChildCounts& counts = CountsOf(id);
    if (counts.all != counted.all || counts.retained != counted.retained) {
      return "counts its children wrongly";
    }
  }
  const char* wrong = nullptr;
  uint64_t sum = 0;
  for (const Set set : {Set::kHolders, Set::kNames}) {
    std::optional<uint64_t> last;
    ForEach(it, set, [&](uint64_t key, uint64_t mask) {
      if (last && key <= *last) wrong = "has its entries in a wrong order";
      if (mask == 0 || (mask & ~Leading(length)) != 0) wrong = "has an entry for blocks it has not";
      last = key;
      if (set == Set::kHolders && mask == Leading(length)) sum ^= SumOf(key);
      return true;
    });
  }
  if (wrong != nullptr) return wrong;
  if (sum != FullSum(it)) return "has a wrong sum of whole holders";
  uint64_t in_first = 0;
  ForEach(it, Set::kNames, [&](uint64_t key, uint64_t mask) {
    const uint32_t lower = Lower(key);
    if (lower == 0) in_first |= mask;
    if (lower > 0 && columns_[lower - 1].run != id) wrong = "uses somebody else's column";
    if ((mask & ~Occupied(it, lower)) != 0) wrong = "has a name in a free cell";
    for (uint64_t rest = mask; rest != 0; rest &= rest - 1) {
      const auto offset = static_cast<uint32_t>(std::countr_zero(rest));
      if (FindName(Upper(key), NameAt(it, lower, offset)).block != BlockRef(id, offset)) {
        wrong = "has a name that is not found";
      }
    }
    if (lower > 0 && OthersOf(it, 0) != 0 && (OthersOf(it, key) | mask) != Occupied(it, lower)) {
      wrong = "has a cell that nobody uses";
    }
    return wrong == nullptr;
  });
  if (wrong == nullptr && in_first != Occupied(it, 0)) wrong = "has a cell that nobody uses";
  return wrong;
}

}  // namespace conductor::index
