#ifndef CONDUCTOR_TESTS_SERVE_FAILING_MEMORY_H_
#define CONDUCTOR_TESTS_SERVE_FAILING_MEMORY_H_

#include <cstddef>
#include <cstdint>

namespace conductor::serve {

// Every operator new of this thread throws as long as it is set, in a test binary that has
// failing_memory.cc.
extern thread_local bool no_memory;
// The operator new of so many bytes or more that this counts down to throws, and those after it do
// not. Zero: none does.
extern thread_local uint64_t large_ones_until_one_fails;
inline constexpr size_t kLarge = 1024;

}  // namespace conductor::serve

#endif  // CONDUCTOR_TESTS_SERVE_FAILING_MEMORY_H_
