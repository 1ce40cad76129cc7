#ifndef CONDUCTOR_LIB_INDEX_STABLE_ARRAY_H_
#define CONDUCTOR_LIB_INDEX_STABLE_ARRAY_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "lib/index/pages.h"

namespace conductor::index {

// An array that grows without moving, in regions whose memory is touched only where it is used. Any
// thread may look at an element that was ever made room for, as long as the array lives.
//
//   T             starts as zero bytes
//   kRegionBits   a region has 2^kRegionBits elements
//   kRegions      at most so many
template <typename T, unsigned kRegionBits, size_t kRegions>
class StableArray {
 public:
  static constexpr size_t kRegionSize = size_t{1} << kRegionBits;
  static constexpr size_t kMaxSize = kRegionSize * kRegions;

  StableArray() = default;
  ~StableArray() {
    for (auto& region : regions_) {
      if (T* memory = region.load()) FreePages(memory, kRegionSize * sizeof(T));
    }
  }
  StableArray(const StableArray&) = delete;
  StableArray& operator=(const StableArray&) = delete;

  // Requires that there was made room for it.
  [[nodiscard]] T& operator[](size_t i) {
    return regions_[i >> kRegionBits].load(std::memory_order_acquire)[i & (kRegionSize - 1)];
  }
  [[nodiscard]] const T& operator[](size_t i) const {
    return regions_[i >> kRegionBits].load(std::memory_order_acquire)[i & (kRegionSize - 1)];
  }

  // The elements of one page of 4,096 bytes become zero, and their memory the system's. Nobody may
  // look at them meanwhile. Requires that there was made room for them.
  void GiveBackPage(size_t page) {
    constexpr size_t kPerPage = 4096 / sizeof(T);
    ForgetPages(&(*this)[page * kPerPage], 4096);
  }

  // Room for element `i` < kMaxSize.
  void MakeRoom(size_t i) {
    auto& region = regions_[i >> kRegionBits];
    if (region.load(std::memory_order_relaxed) != nullptr) return;
    region.store(static_cast<T*>(AllocatePages(kRegionSize * sizeof(T))),
                 std::memory_order_release);
  }

 private:
  std::array<std::atomic<T*>, kRegions> regions_{};
};

}  // namespace conductor::index

#endif  // CONDUCTOR_LIB_INDEX_STABLE_ARRAY_H_
