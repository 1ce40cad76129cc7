#include "lib/index/pages.h"

#include <sys/mman.h>

#include <new>

namespace conductor::index {

void* AllocatePages(size_t bytes) {
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  return memory;
}

void FreePages(void* memory, size_t bytes) noexcept { ::munmap(memory, bytes); }

void ForgetPages(void* memory, size_t bytes) noexcept { ::madvise(memory, bytes, MADV_DONTNEED); }

}  // namespace conductor::index
