#ifndef CONDUCTOR_LIB_INDEX_RUN_LIST_H_
#define CONDUCTOR_LIB_INDEX_RUN_LIST_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace conductor::index {

// The runs in which somebody has something, four bytes each: tidied now and then, so a run that was
// left may stand in it still, and one that was left and entered again twice. Adding and leaving
// cost a constant time on average.
class RunList {
 public:
  void Add(uint32_t run) {
    // A vector's own doubling would leave a third of its room empty on average.
    if (runs_.size() == runs_.capacity()) runs_.reserve(runs_.size() + runs_.size() / 4 + 4);
    runs_.push_back(run);
  }

  // One was left. `has(run)` tells whether there is something in a run.
  template <typename Has>
  void Left(Has has) {
    if (++left_ * 2 < runs_.size() + 32) return;
    std::erase_if(runs_, [&](uint32_t run) { return !has(run); });
    std::ranges::sort(runs_);
    runs_.erase(std::unique(runs_.begin(), runs_.end()), runs_.end());
    if (runs_.capacity() > 4 * runs_.size() + 64) runs_.shrink_to_fit();
    left_ = 0;
  }

  // All of them, once each, and some that were left; the list is empty then.
  [[nodiscard]] std::vector<uint32_t> Take() {
    left_ = 0;
    std::vector<uint32_t> runs = std::exchange(runs_, {});
    std::ranges::sort(runs);
    runs.erase(std::unique(runs.begin(), runs.end()), runs.end());
    return runs;
  }
  [[nodiscard]] std::vector<uint32_t> Copy() const {
    RunList copy = *this;
    return copy.Take();
  }

  [[nodiscard]] size_t bytes() const { return runs_.capacity() * sizeof(uint32_t); }

 private:
  std::vector<uint32_t> runs_;
  size_t left_ = 0;
};

}  // namespace conductor::index

#endif  // CONDUCTOR_LIB_INDEX_RUN_LIST_H_
