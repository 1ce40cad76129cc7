#ifndef CONDUCTOR_LIB_INDEX_ID_TABLE_H_
#define CONDUCTOR_LIB_INDEX_ID_TABLE_H_

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <utility>
#include <vector>

#include "lib/index/pages.h"
#include "lib/index/reader_gate.h"

namespace conductor::index {

// A hash table that keeps 32-bit ids and reads the keys through them: 4.9 bytes a place, of which
// between 0.8 and 0.9 are taken. Several ids may have one key.
//
// Designed for ten million ids and up whose keys lie elsewhere anyway, under two constraints: no
// moment at which everything is moved, and lookups (of the one table that needs them) that take no
// lock.
//
//   directory ──▶ segments of at most 2,048 buckets, chosen by the hash's first bits
//   bucket        one cache line: 13 ids, a tag of 6 bits for each, and a count of those that found
//                 the bucket full and went on to the next; a lookup ends where that count is 0
//
// A segment that is full to 90 % is rebuilt larger, by 4 to 12 %, so that they do not all grow
// at once; one that has grown to its limit is split in two and the directory doubled where needed.
// One that is full to 40 % only is rebuilt smaller. After many erasures one is rebuilt as it is
// (see IsScattered). Segments never join: an empty one is 320 bytes.
// Nothing is ever moved within a segment, so that a reader who is in one finds what was there when
// it came. Linear hashing, which grows by a bucket at a time, was tried on paper: its buckets
// differ in load by up to two, and at a fixed bucket size that costs more than the rebuilds.
//
//   Keys: uint64_t HashOf(uint32_t id) const        of an id in the table
//         void PrefetchFirst(uint32_t id) const     the two steps to what HashOf reads
//         void PrefetchSecond(uint32_t id) const
template <typename Keys>
class IdTable {
 public:
  static constexpr uint32_t kNone = ~0u;

  // `keys` outlives it. With a gate, Find may be called by any thread that has passed it.
  explicit IdTable(const Keys& keys, ReaderGate* gate = nullptr)
      : keys_(keys), gate_(gate), directory_(new Directory(0)) {
    directory_.load()->segments[0].store(NewSegment(kFirstBuckets, 0));
  }
  ~IdTable() {
    Directory* directory = directory_.load();
    const Segment* last = nullptr;
    for (auto& entry : directory->segments) {
      Segment* segment = entry.load();
      if (segment != last) FreeSegment(segment);
      last = segment;
    }
    delete directory;
  }
  IdTable(const IdTable&) = delete;
  IdTable& operator=(const IdTable&) = delete;

  // Room for so many ids, where there are none yet: none of them makes a segment be rebuilt, as
  // long as their hashes are spread. Nearly all of the time that it takes to fill a table goes into
  // that.
  void Reserve(uint64_t count) {
    if (size_ > 0) return;
    unsigned depth = 0;
    while (BucketsFor(count >> depth) > kMaxBuckets) ++depth;
    Directory* old = directory_.load();
    auto* larger = new Directory(depth);
    for (auto& entry : larger->segments) {
      entry.store(NewSegment(std::min(BucketsFor(count >> depth), kMaxBuckets), depth));
    }
    directory_.store(larger);
    Segment* last = nullptr;
    for (auto& entry : old->segments) {
      Segment* segment = entry.load();
      if (segment != last) Retire([this, segment] { FreeSegment(segment); });
      last = segment;
    }
    Retire([old] { delete old; });
  }

  void Insert(uint64_t hash, uint32_t id) {
    Segment* segment = SegmentOf(hash);
    while ((segment->used + 1) * uint64_t{100} > segment->buckets * kPlaces * kFullPercent ||
           IsScattered(segment)) {
      Rebuild(hash, segment);
      segment = SegmentOf(hash);
    }
    Put(segment, hash, id);
    ++size_;
  }

  // Requires that it is there.
  void Erase(uint64_t hash, uint32_t id) {
    Segment* segment = SegmentOf(hash);
    const uint64_t tag = TagOf(hash);
    const uint32_t home = HomeOf(hash, segment);
    for (uint32_t b = home;; b = Next(b, segment)) {
      Bucket& bucket = segment->bucket(b);
      const bool found = bucket.ForEach(tag, [&](unsigned place, uint32_t candidate) {
        if (candidate != id) return false;
        bucket.SetTag(place, 0);
        return true;
      });
      if (!found) continue;
      for (uint32_t passed = home; passed != b; passed = Next(passed, segment)) {
        segment->bucket(passed).Passed(-1);
        --segment->displaced;
      }
      --segment->used;
      ++segment->erased;
      --size_;
      if (segment->buckets > kFirstBuckets && IsSparse(segment)) Rebuild(hash, segment);
      return;
    }
  }

  // The first id under `hash` for which `is` holds, or kNone. `is` is also asked about ids with
  // other hashes.
  template <typename Is>
  [[nodiscard]] uint32_t Find(uint64_t hash, Is is) const {
    const Segment* segment = SegmentOf(hash);
    const uint64_t tag = TagOf(hash);
    uint32_t b = HomeOf(hash, segment);
    uint32_t found = kNone;
    for (uint32_t looked = 0; looked < segment->buckets; ++looked, b = Next(b, segment)) {
      const Bucket& bucket = segment->bucket(b);
      const bool done = bucket.ForEach(tag, [&](unsigned, uint32_t id) {
        if (!is(id)) return false;
        found = id;
        return true;
      });
      if (done || !bucket.passed()) break;
    }
    return found;
  }

  // The bucket on its way into the cache.
  void Prefetch(uint64_t hash) const {
    const Segment* segment = SegmentOf(hash);
    __builtin_prefetch(&segment->bucket(HomeOf(hash, segment)));
  }
  // Calls `take(id)` for what Find would look at first.
  template <typename Take>
  void Candidates(uint64_t hash, Take take) const {
    const Segment* segment = SegmentOf(hash);
    (void)segment->bucket(HomeOf(hash, segment)).ForEach(TagOf(hash), [&](unsigned, uint32_t id) {
      take(id);
      return false;
    });
  }

  [[nodiscard]] uint64_t size() const { return size_; }
  [[nodiscard]] uint64_t bytes() const { return bytes_; }

 private:
  static constexpr unsigned kPlaces = 13;
  static constexpr unsigned kTagBits = 6;
  static constexpr unsigned kLowPlaces = 9;  // with their tags in the first word
  static constexpr uint64_t kFullPercent = 90;
  static constexpr uint32_t kFirstBuckets = 4;
  static constexpr uint32_t kMaxBuckets = 2048;
  static constexpr size_t kMallocLimit = 32 << 10;  // bytes

  // Readers may look at it while the writer changes it: an id is there before its tag is.
  struct alignas(64) Bucket {
    static constexpr uint64_t kEach = 0x0041041041041041;  // the lowest bit of each tag of a word
    static constexpr uint64_t kTag = (1u << kTagBits) - 1;
    static constexpr uint64_t kLow = (uint64_t{1} << (kTagBits * kLowPlaces)) - 1;
    static constexpr uint64_t kHigh = (uint64_t{1} << (kTagBits * (kPlaces - kLowPlaces))) - 1;
    static constexpr uint64_t kOnePassed = kLow + 1;
    static constexpr uint64_t kManyPassed = 1023;  // or more: it stays

    std::atomic<uint64_t> low;   // tags of places 0 to 8, 0: free; the count of those that passed
    std::atomic<uint32_t> high;  // tags of places 9 to 12
    std::atomic<uint32_t> ids[kPlaces];

    [[nodiscard]] bool passed() const { return low.load(std::memory_order_acquire) > kLow; }
    void Passed(int more) {
      const uint64_t word = low.load(std::memory_order_relaxed);
      if (word / kOnePassed == kManyPassed) return;
      low.store(more > 0 ? word + kOnePassed : word - kOnePassed, std::memory_order_release);
    }
    [[nodiscard]] uint64_t tag(unsigned place) const {
      const uint64_t word = place < kLowPlaces ? low.load(std::memory_order_relaxed)
                                               : high.load(std::memory_order_relaxed);
      return word >> (kTagBits * (place % kLowPlaces)) & kTag;
    }
    void SetTag(unsigned place, uint64_t tag) {
      const unsigned shift = kTagBits * (place % kLowPlaces);
      if (place < kLowPlaces) {
        const uint64_t word = low.load(std::memory_order_relaxed);
        low.store((word & ~(kTag << shift)) | tag << shift, std::memory_order_release);
      } else {
        const uint32_t word = high.load(std::memory_order_relaxed);
        high.store(
            (word & ~static_cast<uint32_t>(kTag << shift)) | static_cast<uint32_t>(tag << shift),
            std::memory_order_release);
      }
    }
    // Calls `take(place, id)` for the places with this tag until it returns true; whether it did.
    template <typename Take>
    bool ForEach(uint64_t tag, Take take) const {
      return ForEachIn(low.load(std::memory_order_acquire) & kLow, kLow, 0, tag, take) ||
             ForEachIn(high.load(std::memory_order_acquire) & kHigh, kHigh, kLowPlaces, tag, take);
    }
    template <typename Take>
    bool ForEachIn(uint64_t word, uint64_t used, unsigned first, uint64_t tag, Take take) const {
      const uint64_t each = kEach & used;
      const uint64_t differ = word ^ (tag * each);
      uint64_t alike = (differ - each) & ~differ & (each << (kTagBits - 1));
      for (; alike != 0; alike &= alike - 1) {
        const unsigned i = static_cast<unsigned>(std::countr_zero(alike)) / kTagBits;
        // A place can look alike because of the one before it.
        if ((word >> (kTagBits * i) & kTag) != tag) continue;
        if (take(first + i, ids[first + i].load(std::memory_order_acquire))) return true;
      }
      return false;
    }
  };
  static_assert(sizeof(Bucket) == 64);

  struct alignas(64) Segment {
    uint32_t buckets;
    uint32_t used;       // ids
    uint32_t displaced;  // buckets that they stand behind their own, all together
    uint32_t erased;     // since it was built
    unsigned depth;      // leading bits of the hash that all in it share

    [[nodiscard]] Bucket& bucket(uint32_t i) { return reinterpret_cast<Bucket*>(this + 1)[i]; }
    [[nodiscard]] const Bucket& bucket(uint32_t i) const {
      return reinterpret_cast<const Bucket*>(this + 1)[i];
    }
  };

  struct Directory {
    explicit Directory(unsigned bits) : depth(bits), segments(size_t{1} << bits) {}
    unsigned depth;
    std::vector<std::atomic<Segment*>> segments;
  };

  [[nodiscard]] static uint64_t TagOf(uint64_t hash) { return ((hash & 0xffff) * 63 >> 16) + 1; }
  [[nodiscard]] static uint32_t HomeOf(uint64_t hash, const Segment* segment) {
    const uint64_t rest = (hash << segment->depth) >> 32;
    return static_cast<uint32_t>(rest * segment->buckets >> 32);
  }
  [[nodiscard]] static uint32_t Next(uint32_t bucket, const Segment* segment) {
    return bucket + 1 == segment->buckets ? 0 : bucket + 1;
  }
  [[nodiscard]] static size_t SlotOf(uint64_t hash, const Directory* directory) {
    return directory->depth == 0 ? 0 : hash >> (64 - directory->depth);
  }
  [[nodiscard]] Segment* SegmentOf(uint64_t hash) const {
    // Sequentially consistent, as ReaderGate needs it; on x86 that is a plain load.
    const Directory* directory = directory_.load();
    return directory->segments[SlotOf(hash, directory)].load();
  }

  [[nodiscard]] static size_t BytesOf(uint32_t buckets) { return size_t{buckets + 1} * 64; }

  [[nodiscard]] Segment* NewSegment(uint32_t buckets, unsigned depth) {
    const size_t bytes = BytesOf(buckets);
    void* memory = nullptr;
    if (bytes >= kMallocLimit) {
      memory = AllocatePages(bytes);
    } else {
      memory = ::operator new (bytes, std::align_val_t{64});
      std::fill_n(static_cast<unsigned char*>(memory), bytes, static_cast<unsigned char>(0));
    }
    bytes_ += bytes;
    return new (memory) Segment{buckets, 0, 0, 0, depth};
  }
  void FreeSegment(Segment* segment) {
    const size_t bytes = BytesOf(segment->buckets);
    bytes_ -= bytes;
    if (bytes >= kMallocLimit) {
      FreePages(segment, bytes);
    } else {
      ::operator delete (segment, std::align_val_t{64});
    }
  }

  void Put(Segment* segment, uint64_t hash, uint32_t id) {
    for (uint32_t b = HomeOf(hash, segment);; b = Next(b, segment)) {
      Bucket& bucket = segment->bucket(b);
      const bool placed = bucket.ForEach(0, [&](unsigned place, uint32_t) {
        bucket.ids[place].store(id, std::memory_order_release);
        bucket.SetTag(place, TagOf(hash));
        return true;
      });
      if (placed) break;
      bucket.Passed(1);
      ++segment->displaced;
    }
    ++segment->used;
  }

  [[nodiscard]] static std::vector<uint32_t> IdsOf(const Segment* segment) {
    std::vector<uint32_t> ids;
    ids.reserve(segment->used);
    for (uint32_t b = 0; b < segment->buckets; ++b) {
      const Bucket& bucket = segment->bucket(b);
      for (unsigned place = 0; place < kPlaces; ++place) {
        if (bucket.tag(place) != 0) {
          ids.push_back(bucket.ids[place].load(std::memory_order_relaxed));
        }
      }
    }
    return ids;
  }

  // A segment for `used` ids with some room, other for each.
  [[nodiscard]] uint32_t BucketsFor(uint64_t used) {
    random_ = random_ * 6364136223846793005u + 1442695040888963407u;
    const uint64_t percent = 104 + (random_ >> 33) % 9;
    const uint64_t places = used * percent / kFullPercent;
    return static_cast<uint32_t>(std::max<uint64_t>(places / kPlaces + 1, kFirstBuckets));
  }

  // Ids come and go, and those that found their bucket full stay behind it when it is not any more:
  // lookups pass ever more buckets. So a segment is rebuilt when it has been exchanged once.
  [[nodiscard]] static bool IsScattered(const Segment* segment) {
    return segment->erased > segment->used && segment->displaced > segment->used / 4;
  }

  [[nodiscard]] static bool IsSparse(const Segment* segment) {
    constexpr uint64_t kSparsePercent = 40;
    return segment->used * uint64_t{100} < segment->buckets * kPlaces * kSparsePercent;
  }

  void Rebuild(uint64_t hash, Segment* old) {
    const std::vector<uint32_t> ids = IdsOf(old);
    std::vector<uint64_t> hashes(ids.size());
    constexpr size_t kAhead = 12;
    for (size_t i = 0; i < ids.size() + 2 * kAhead; ++i) {
      if (i < ids.size()) keys_.PrefetchFirst(ids[i]);
      if (i >= kAhead && i - kAhead < ids.size()) keys_.PrefetchSecond(ids[i - kAhead]);
      if (i >= 2 * kAhead) hashes[i - 2 * kAhead] = keys_.HashOf(ids[i - 2 * kAhead]);
    }
    const auto upper = [bit = 63 - old->depth](uint64_t of) { return (of >> bit & 1) != 0; };
    const auto high = static_cast<uint64_t>(std::ranges::count_if(hashes, upper));
    // Ids of one key cannot be told apart by any bit.
    const bool splits = !IsScattered(old) && !IsSparse(old) && old->buckets >= kMaxBuckets &&
                        high > 0 && high < ids.size();
    const unsigned depth = splits ? old->depth + 1 : old->depth;
    Segment* made[2] = {nullptr, nullptr};
    if (splits) {
      made[0] = NewSegment(BucketsFor(ids.size() - high), depth);
      made[1] = NewSegment(BucketsFor(high), depth);
    } else {
      const uint32_t buckets = BucketsFor(ids.size() + 1);
      const bool smaller = IsSparse(old) && buckets < old->buckets;
      made[0] = made[1] =
          NewSegment(smaller ? buckets : std::max(buckets, old->buckets + 1), depth);
    }
    for (size_t i = 0; i < ids.size(); ++i) {
      Put(splits && upper(hashes[i]) ? made[1] : made[0], hashes[i], ids[i]);
    }
    Publish(hash, old, made[0], made[1]);
  }

  void Publish(uint64_t hash, Segment* old, Segment* low, Segment* high) {
    Directory* directory = directory_.load();
    if (low->depth > directory->depth) {
      auto* larger = new Directory(directory->depth + 1);
      for (size_t i = 0; i < larger->segments.size(); ++i) {
        larger->segments[i].store(directory->segments[i / 2].load());
      }
      directory_.store(larger);
      Retire([directory] { delete directory; });
      directory = larger;
    }
    const size_t shared = size_t{1} << (directory->depth - old->depth);
    const size_t first = SlotOf(hash, directory) / shared * shared;
    for (size_t i = 0; i < shared; ++i) {
      directory->segments[first + i].store(i < shared / 2 || shared == 1 ? low : high);
    }
    Retire([this, old] { FreeSegment(old); });
  }

  template <typename Free>
  void Retire(Free free) {
    if (gate_ == nullptr) {
      free();
    } else {
      gate_->Retire(std::move(free));
    }
  }

  const Keys& keys_;
  ReaderGate* gate_;
  std::atomic<Directory*> directory_;
  uint64_t size_ = 0;
  uint64_t bytes_ = 0;
  uint64_t random_ = 1;
};

}  // namespace conductor::index

#endif  // CONDUCTOR_LIB_INDEX_ID_TABLE_H_
