#include "lib/index/word_arena.h"

#include <algorithm>
#include <bit>
#include <iterator>
#include <new>

#include "lib/index/pages.h"

namespace conductor::index {
namespace {

constexpr uint32_t kMinFreePages = 16;  // that are kept for the next ones

}  // namespace

WordArena::WordArena() {
  with_room_.fill(kNoPage);
  pages_.resize(1);  // never used, so that no reference is kNone
}

uint32_t WordArena::Rounded(uint32_t words) {
  if (words <= 32) return words;
  if (words > kMaxSlotWords) return (words + kPageWords - 1) >> kPageBits << kPageBits;
  const auto shift = static_cast<unsigned>(std::bit_width(words - 1)) - 5;
  return ((words + (1u << shift) - 1) >> shift) << shift;
}

size_t WordArena::ClassOf(uint32_t rounded) {
  if (rounded <= 32) return rounded - 1;
  const auto shift = static_cast<unsigned>(std::bit_width(rounded - 1)) - 5;
  return 32 + (shift - 1) * 16 + (rounded >> shift) - 17;
}

void WordArena::Link(size_t size_class, uint32_t page) {
  Page& it = pages_[page];
  it.previous = kNoPage;
  it.next = with_room_[size_class];
  if (it.next != kNoPage) pages_[it.next].previous = page;
  with_room_[size_class] = page;
}

void WordArena::Unlink(size_t size_class, uint32_t page) {
  const Page& it = pages_[page];
  (it.previous == kNoPage ? with_room_[size_class] : pages_[it.previous].next) = it.next;
  if (it.next != kNoPage) pages_[it.next].previous = it.previous;
}

uint32_t WordArena::TakePages(uint32_t count) {
  const auto found =
      std::ranges::find_if(free_, [count](const auto& stretch) { return stretch.second >= count; });
  uint32_t first = 0;
  if (found != free_.end()) {
    first = found->first;
    const uint32_t left = found->second - count;
    free_.erase(found);
    if (left > 0) free_.emplace(first + count, left);
  } else {
    first = static_cast<uint32_t>(pages_.size());
    const uint32_t room = kRegionPages - first % kRegionPages;
    if (count > kRegionPages) throw std::bad_alloc();
    if (count > room) {
      pages_.resize(pages_.size() + room);
      free_.emplace(first, room);
      first += room;
    }
    if (uint64_t{first} + count > uint64_t{1} << (32 - kPageBits)) throw std::bad_alloc();
    words_.MakeRoom(size_t{first} << kPageBits);
    pages_.resize(pages_.size() + count);
  }
  words_.MakeRoom(size_t{first} << kPageBits);
  used_pages_ += count;
  for (uint32_t page = first; page < first + count; ++page) {
    if (!pages_[page].resident) ++resident_pages_;
    pages_[page] = Page{.resident = true};
  }
  return first;
}

void WordArena::GiveBack(uint32_t page, uint32_t count) {
  used_pages_ -= count;
  for (uint32_t i = page; i < page + count; ++i) pages_[i].slot_words = 0;
  auto at = free_.emplace(page, count).first;
  const auto joins = [](const auto& left, const auto& right) {
    return left->first + left->second == right->first && right->first % kRegionPages != 0;
  };
  if (const auto next = std::next(at); next != free_.end() && joins(at, next)) {
    at->second += next->second;
    free_.erase(next);
  }
  if (at != free_.begin()) {
    const auto before = std::prev(at);
    if (joins(before, at)) {
      before->second += at->second;
      free_.erase(at);
    }
  }
  if (resident_pages_ - used_pages_ > std::max(kMinFreePages, used_pages_ / 16)) ForgetFree();
}

void WordArena::ForgetFree() {
  for (const auto& [first, count] : free_) {
    uint32_t page = first;
    while (page < first + count) {
      uint32_t end = page;
      while (end < first + count && pages_[end].resident) pages_[end++].resident = false;
      if (end == page) {
        ++page;
        continue;
      }
      ForgetPages(At(page << kPageBits), size_t{end - page} * kPageWords * sizeof(Word));
      resident_pages_ -= end - page;
      page = end;
    }
  }
}

WordArena::Ref WordArena::Allocate(uint32_t words) {
  const uint32_t size = Rounded(words);
  slot_words_ += size;
  if (size > kMaxSlotWords) return TakePages(size >> kPageBits) << kPageBits;
  const size_t size_class = ClassOf(size);
  uint32_t page = with_room_[size_class];
  if (page == kNoPage) {
    page = TakePages(1);
    pages_[page].slot_words = static_cast<uint16_t>(size);
    Link(size_class, page);
  }
  Page& it = pages_[page];
  ++it.used;
  Ref ref = it.free;
  if (ref != kNone) {
    it.free = static_cast<Ref>(At(ref)->load(std::memory_order_relaxed));
  } else {
    ref = (page << kPageBits) + uint32_t{it.begun++} * size;
  }
  if (it.free == kNone && (it.begun + 1u) * size > kPageWords) Unlink(size_class, page);
  return ref;
}

void WordArena::Free(Ref ref, uint32_t words) {
  const uint32_t size = Rounded(words);
  slot_words_ -= size;
  const uint32_t page = ref >> kPageBits;
  if (size > kMaxSlotWords) {
    GiveBack(page, size >> kPageBits);
    return;
  }
  const size_t size_class = ClassOf(size);
  Page& it = pages_[page];
  const bool had_room = it.free != kNone || (it.begun + 1u) * size <= kPageWords;
  At(ref)->store(it.free, std::memory_order_release);
  it.free = ref;
  --it.used;
  if (!had_room) Link(size_class, page);
  if (it.used == 0) {
    Unlink(size_class, page);
    GiveBack(page, 1);
  }
}

}  // namespace conductor::index
