#ifndef CONDUCTOR_LIB_INDEX_READER_GATE_H_
#define CONDUCTOR_LIB_INDEX_READER_GATE_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <thread>
#include <utility>
#include <vector>

namespace conductor::index {

// Lets one writer at a time take memory out of use that readers, who take no lock, may still be
// looking at: a reader passes the gate for the length of its walk, and what was retired is freed
// once everybody who was inside has left.
//
// A pass costs one exchange on a cache line that is the reader's own as long as there are no more
// than kSlots readers at once; beyond that a reader waits for one to leave.
class ReaderGate {
 public:
  static constexpr size_t kSlots = 128;

  class Pass {
   public:
    explicit Pass(std::atomic<uint64_t>* slot) : slot_(slot) {}
    ~Pass() { slot_->store(kFree, std::memory_order_release); }
    Pass(const Pass&) = delete;
    Pass& operator=(const Pass&) = delete;

   private:
    std::atomic<uint64_t>* slot_;
  };

  ReaderGate() = default;
  ~ReaderGate() {
    for (Retired& retired : retired_) retired.free();
  }
  ReaderGate(const ReaderGate&) = delete;
  ReaderGate& operator=(const ReaderGate&) = delete;

  // Any thread.
  [[nodiscard]] Pass Enter() {
    size_t at = std::hash<std::thread::id>()(std::this_thread::get_id());
    for (;; ++at) {
      std::atomic<uint64_t>& slot = slots_[at % kSlots].epoch;
      uint64_t free = kFree;
      // Sequentially consistent, as is the writer's look at the slots: either the writer sees this
      // reader, or this reader sees what the writer had done before it looked.
      if (slot.compare_exchange_strong(free, epoch_.load())) return Pass(&slot);
      if (at % kSlots == 0) std::this_thread::yield();
    }
  }

  // The writer: what must not be found by new readers any more is freed when the old ones are gone.
  void Retire(std::function<void()> free) {
    retired_.push_back({epoch_.fetch_add(1), std::move(free)});
    Collect();
  }

  // The writer: frees what can be.
  void Collect() {
    if (retired_.empty()) return;
    uint64_t oldest = ~uint64_t{0};
    for (const Slot& slot : slots_) {
      const uint64_t epoch = slot.epoch.load();
      if (epoch != kFree && epoch < oldest) oldest = epoch;
    }
    size_t done = 0;
    while (done < retired_.size() && retired_[done].epoch < oldest) retired_[done++].free();
    retired_.erase(retired_.begin(), retired_.begin() + static_cast<std::ptrdiff_t>(done));
  }

 private:
  static constexpr uint64_t kFree = 0;

  struct alignas(64) Slot {
    std::atomic<uint64_t> epoch{kFree};  // in which its reader came in
  };
  struct Retired {
    uint64_t epoch;
    std::function<void()> free;
  };

  std::array<Slot, kSlots> slots_;
  std::atomic<uint64_t> epoch_{1};
  std::vector<Retired> retired_;  // the writer's, oldest first
};

}  // namespace conductor::index

#endif  // CONDUCTOR_LIB_INDEX_READER_GATE_H_
