#ifndef CONDUCTOR_LIB_INDEX_WORD_ARENA_H_
#define CONDUCTOR_LIB_INDEX_WORD_ARENA_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include "lib/index/stable_array.h"

namespace conductor::index {

// A 64-bit word that a reader may look at while the writer changes it.
using Word = std::atomic<uint64_t>;

// Arrays of words, named by 32-bit references. One writer allocates and frees; any thread may read
// through any reference that was ever given out: the addresses stay good for the arena's life, so
// that a reader who comes too late reads garbage and not nothing, and finds out by other means
// (Run::version).
//
// Pages of 32 KiB, each cut into slots of one size; larger arrays are whole pages. Sizes go in
// steps of a sixteenth of a power of two, so that at most so much is lost. A page without used
// slots is anybody's again, and its memory is given back to the system when more than a sixteenth
// of the pages are so. 2^32 words, 32 GiB, is the limit.
class WordArena {
 public:
  using Ref = uint32_t;
  static constexpr Ref kNone = 0;

  WordArena();
  WordArena(const WordArena&) = delete;
  WordArena& operator=(const WordArena&) = delete;

  // At least `words` words of unknown content; words > 0. Throws std::bad_alloc at the limit.
  [[nodiscard]] Ref Allocate(uint32_t words);
  // What Allocate gave for so many.
  void Free(Ref ref, uint32_t words);
  // How many words an allocation of `words` really has.
  [[nodiscard]] static uint32_t Rounded(uint32_t words);

  [[nodiscard]] Word* At(Ref ref) { return &words_[ref]; }
  [[nodiscard]] const Word* At(Ref ref) const { return &words_[ref]; }

  // Of pages with used slots or with memory that was not given back.
  [[nodiscard]] uint64_t bytes() const { return uint64_t{resident_pages_} * kPageWords * 8; }
  // Of pages with used slots.
  [[nodiscard]] uint64_t used_bytes() const { return uint64_t{used_pages_} * kPageWords * 8; }
  // Of what was allocated and not freed.
  [[nodiscard]] uint64_t slot_bytes() const { return slot_words_ * 8; }
  static constexpr uint64_t kMaxBytes = uint64_t{1} << 35;

 private:
  static constexpr unsigned kPageBits = 12;
  static constexpr uint32_t kPageWords = 1u << kPageBits;
  static constexpr unsigned kRegionBits = 23;  // 64 MiB
  static constexpr uint32_t kRegionPages = 1u << (kRegionBits - kPageBits);
  static constexpr uint32_t kMaxSlotWords = 1024;
  static constexpr size_t kClasses = 32 + 16 * 5;  // up to 32 words; then sixteen a doubling
  static constexpr uint32_t kNoPage = ~0u;

  struct Page {
    uint16_t slot_words = 0;  // 0: free, or part of a large array
    uint16_t used = 0;        // slots
    uint16_t begun = 0;       // slots that were ever used since the page was cut
    bool resident = false;
    Ref free = kNone;             // first free slot, whose first word names the next
    uint32_t previous = kNoPage;  // among the pages of this size with room
    uint32_t next = kNoPage;
  };

  [[nodiscard]] static size_t ClassOf(uint32_t rounded);
  // Pages that follow one another in one region.
  [[nodiscard]] uint32_t TakePages(uint32_t count);
  void GiveBack(uint32_t page, uint32_t count);
  void ForgetFree();
  void Link(size_t size_class, uint32_t page);
  void Unlink(size_t size_class, uint32_t page);

  StableArray<Word, kRegionBits, 512> words_;
  std::vector<Page> pages_;
  std::array<uint32_t, kClasses> with_room_{};
  std::map<uint32_t, uint32_t> free_;  // first page of a free stretch, and its length
  uint64_t slot_words_ = 0;
  uint32_t used_pages_ = 0;
  uint32_t resident_pages_ = 0;
};

}  // namespace conductor::index

#endif  // CONDUCTOR_LIB_INDEX_WORD_ARENA_H_
