#ifndef CONDUCTOR_TESTS_STORE_FAILING_VFS_H_
#define CONDUCTOR_TESTS_STORE_FAILING_VFS_H_

#include <cstdint>

namespace conductor::store {

// SQLite's own way to the disk, but for one thing: from the chosen operation on (a write, a
// truncation or a sync) each fails. A write that fails has written half of what it should.
class FailingVfs {
 public:
  static constexpr const char* kName = "failing";

  // Makes it known to SQLite; once in a process.
  static void Register();
  // Counts from now on; 0: none fails.
  static void FailFrom(uint64_t operation);
  // Since FailFrom().
  [[nodiscard]] static uint64_t operations();
};

}  // namespace conductor::store

#endif  // CONDUCTOR_TESTS_STORE_FAILING_VFS_H_
