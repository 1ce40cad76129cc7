#include "failing_memory.h"

#include <cstdlib>
#include <new>

namespace conductor::serve {

thread_local bool no_memory = false;
thread_local uint64_t large_ones_until_one_fails = 0;

}  // namespace conductor::serve

void* operator new(size_t size) {
  using conductor::serve::kLarge;
  using conductor::serve::large_ones_until_one_fails;
  if (conductor::serve::no_memory) throw std::bad_alloc();
  if (size >= kLarge && large_ones_until_one_fails > 0 && --large_ones_until_one_fails == 0) {
    throw std::bad_alloc();
  }
  if (void* memory = std::malloc(size == 0 ? 1 : size)) return memory;
  throw std::bad_alloc();
}
// All that operator delete below gives back must come from here.
void* operator new(size_t size, const std::nothrow_t&) noexcept {
  if (conductor::serve::no_memory) return nullptr;
  return std::malloc(size == 0 ? 1 : size);
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
