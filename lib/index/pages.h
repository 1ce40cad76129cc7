#ifndef CONDUCTOR_LIB_INDEX_PAGES_H_
#define CONDUCTOR_LIB_INDEX_PAGES_H_

#include <cstddef>

namespace conductor::index {

// Zeroed memory straight from the system, which has it back at once when it is freed; so that what
// the index uses is what it holds. Aligned to 4,096 bytes. Throws std::bad_alloc.
[[nodiscard]] void* AllocatePages(size_t bytes);
void FreePages(void* memory, size_t bytes) noexcept;

// Gives back the physical memory of a part of such an allocation, whose content is zero or what it
// was from then on. The addresses stay good. Both are multiples of 4,096.
void ForgetPages(void* memory, size_t bytes) noexcept;

}  // namespace conductor::index

#endif  // CONDUCTOR_LIB_INDEX_PAGES_H_
