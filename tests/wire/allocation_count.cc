#include "allocation_count.h"

#include <cstdlib>
#include <new>

namespace conductor::wire {

size_t allocated_bytes = 0;

}  // namespace conductor::wire

void* operator new(size_t size) {
  conductor::wire::allocated_bytes += size;
  if (void* memory = std::malloc(size == 0 ? 1 : size)) return memory;
  std::abort();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
