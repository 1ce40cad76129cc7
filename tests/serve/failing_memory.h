#ifndef CONDUCTOR_TESTS_SERVE_FAILING_MEMORY_H_
#define CONDUCTOR_TESTS_SERVE_FAILING_MEMORY_H_

namespace conductor::serve {

// Every operator new of this thread throws as long as it is set, in a test binary that has
// failing_memory.cc.
extern thread_local bool no_memory;

}  // namespace conductor::serve

#endif  // CONDUCTOR_TESTS_SERVE_FAILING_MEMORY_H_
