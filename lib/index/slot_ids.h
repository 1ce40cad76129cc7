#ifndef CONDUCTOR_LIB_INDEX_SLOT_IDS_H_
#define CONDUCTOR_LIB_INDEX_SLOT_IDS_H_

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <new>
#include <vector>

namespace conductor::index {

// Which elements of an array are in use, so that the lowest free one is taken first and memory that
// became free can be given back a page at a time: what grew once shrinks again. For arrays whose
// elements never move; a bit and a few more for each.
//
//   kPerPage   elements of one page of memory, a multiple of 64
template <uint32_t kPerPage>
class SlotIds {
 public:
  // At most `max` of them.
  explicit SlotIds(uint32_t max) : max_(max) {}

  // Throws std::bad_alloc when all are taken.
  [[nodiscard]] uint32_t Take() {
    const uint32_t page = PageWithRoom();
    Page& it = pages_[page];
    if (it.used == 0) {
      it.resident ? --idle_ : ++resident_;
      it.resident = true;
    }
    uint64_t* words = &taken_[page * kWords];
    uint32_t word = 0;
    while (~words[word] == 0) ++word;
    const auto bit = static_cast<uint32_t>(std::countr_one(words[word]));
    words[word] |= uint64_t{1} << bit;
    if (++it.used == kPerPage) SetRoom(page, false);
    ++count_;
    return page * kPerPage + word * 64 + bit;
  }

  void Free(uint32_t id) {
    const uint32_t page = id / kPerPage;
    Page& it = pages_[page];
    taken_[id / 64] &= ~(uint64_t{1} << (id % 64));
    if (it.used-- == kPerPage) SetRoom(page, true);
    if (it.used == 0) ++idle_;
    --count_;
  }

  [[nodiscard]] uint32_t count() const { return count_; }
  // Pages whose memory is in use, or was and is not given back.
  [[nodiscard]] uint32_t resident_pages() const { return resident_; }

  // Calls `take(id)` for each that is in use, in order.
  template <typename Visit>
  void ForEach(Visit visit) const {
    for (size_t word = 0; word < taken_.size(); ++word) {
      for (uint64_t rest = taken_[word]; rest != 0; rest &= rest - 1) {
        visit(static_cast<uint32_t>(word * 64 + static_cast<size_t>(std::countr_zero(rest))));
      }
    }
  }
  // All that were ever taken lie below.
  [[nodiscard]] uint32_t limit() const { return static_cast<uint32_t>(pages_.size()) * kPerPage; }

  // Whether pages that nothing is in have become too many to keep for what comes next.
  [[nodiscard]] bool ShouldGiveBack() const {
    constexpr uint32_t kMinIdle = 16;
    return idle_ > std::max(kMinIdle, (resident_ - idle_) / 16);
  }
  // Those pages; nothing is taken from them until they are Returned().
  [[nodiscard]] std::vector<uint32_t> TakeIdle() {
    std::vector<uint32_t> idle;
    for (uint32_t page = 0; page < pages_.size(); ++page) {
      Page& it = pages_[page];
      if (it.used > 0 || !it.resident || it.leaving) continue;
      it.leaving = true;
      SetRoom(page, false);
      idle.push_back(page);
    }
    idle_ = 0;
    return idle;
  }
  // Their memory was given back.
  void Returned(const std::vector<uint32_t>& pages) {
    for (const uint32_t page : pages) {
      pages_[page].leaving = pages_[page].resident = false;
      SetRoom(page, true);
    }
    resident_ -= static_cast<uint32_t>(pages.size());
  }

 private:
  static constexpr uint32_t kWords = kPerPage / 64;

  struct Page {
    uint16_t used = 0;
    bool resident = false;
    bool leaving = false;
  };

  // The lowest one.
  [[nodiscard]] uint32_t PageWithRoom() {
    while (lowest_ < room_.size() && room_[lowest_] == 0) ++lowest_;
    if (lowest_ < room_.size()) {
      return static_cast<uint32_t>(lowest_ * 64) +
             static_cast<uint32_t>(std::countr_zero(room_[lowest_]));
    }
    const auto page = static_cast<uint32_t>(pages_.size());
    if (uint64_t{page} * kPerPage >= max_) throw std::bad_alloc();
    pages_.emplace_back();
    taken_.resize(taken_.size() + kWords);
    if (page % 64 == 0) room_.push_back(0);
    SetRoom(page, true);
    return page;
  }

  void SetRoom(uint32_t page, bool room) {
    uint64_t& word = room_[page / 64];
    const uint64_t bit = uint64_t{1} << (page % 64);
    word = room ? word | bit : word & ~bit;
    if (room) lowest_ = std::min<size_t>(lowest_, page / 64);
  }

  const uint32_t max_;
  std::vector<Page> pages_;
  std::vector<uint64_t> taken_;  // a bit for each element
  std::vector<uint64_t> room_;   // a bit for each page that one can be taken from
  size_t lowest_ = 0;            // word of room_; those before it are 0
  uint32_t count_ = 0;
  uint32_t resident_ = 0;  // pages
  uint32_t idle_ = 0;      // of these, with nothing in them, and not leaving
};

}  // namespace conductor::index

#endif  // CONDUCTOR_LIB_INDEX_SLOT_IDS_H_
