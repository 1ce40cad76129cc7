#ifndef CONDUCTOR_LIB_STREAM_DIGEST_WINDOW_H_
#define CONDUCTOR_LIB_STREAM_DIGEST_WINDOW_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace conductor::stream {

// The digests of the last applied batches of one life, by sequence. A sequence is not an identity:
// whether a frame with a number seen before is a duplicate or another life's is told by these.
//
// Sized for 4096 entries a publisher: 64 KiB when full, in a ring that grows as it fills, sought
// by bisection. A hash map by sequence would take three times that for lookups that hardly ever
// happen.
class DigestWindow {
 public:
  explicit DigestWindow(size_t capacity) : capacity_(std::max<size_t>(capacity, 1)) {}

  // Requires `sequence` above every sequence added before.
  void Add(uint64_t sequence, uint64_t digest) {
    if (entries_.size() < capacity_) {
      entries_.push_back({sequence, digest});
      return;
    }
    entries_[oldest_] = {sequence, digest};
    oldest_ = (oldest_ + 1) % capacity_;
  }

  // Of the newest sequences, as far back as they follow one another: the last is that of the one
  // added last.
  [[nodiscard]] std::vector<uint64_t> Newest() const {
    std::vector<uint64_t> newest;
    const size_t size = entries_.size();
    for (size_t i = 0; i < size; ++i) {
      const Entry& entry = entries_[(oldest_ + size - 1 - i) % size];
      const Entry& last = entries_[(oldest_ + size - 1) % size];
      if (entry.sequence + i != last.sequence) break;
      newest.push_back(entry.digest);
    }
    std::ranges::reverse(newest);
    return newest;
  }

  // Nothing when that sequence was never added, or so long ago that it was forgotten.
  [[nodiscard]] std::optional<uint64_t> Find(uint64_t sequence) const {
    size_t low = 0;
    size_t high = entries_.size();
    while (low < high) {
      const size_t middle = low + (high - low) / 2;
      const Entry& entry = entries_[(oldest_ + middle) % entries_.size()];
      if (entry.sequence == sequence) return entry.digest;
      if (entry.sequence < sequence) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return std::nullopt;
  }

 private:
  struct Entry {
    uint64_t sequence;
    uint64_t digest;
  };

  size_t capacity_;
  size_t oldest_ = 0;  // index of the oldest entry; 0 until the ring is full
  std::vector<Entry> entries_;
};

}  // namespace conductor::stream

#endif  // CONDUCTOR_LIB_STREAM_DIGEST_WINDOW_H_
