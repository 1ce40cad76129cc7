#ifndef CONDUCTOR_LIB_BASE_FAIR_MUTEX_H_
#define CONDUCTOR_LIB_BASE_FAIR_MUTEX_H_

#include <mutex>
#include <shared_mutex>

namespace conductor {

// A reader-writer lock under which readers cannot keep a writer out: whoever comes after a waiting
// writer waits behind it. (glibc's own prefers readers, and a busy router would hold up ingest for
// seconds.) Meets the standard's SharedMutex requirements as far as std::unique_lock and
// std::shared_lock need.
class FairSharedMutex {
 public:
  void lock() {
    const std::lock_guard turn(gate_);
    mutex_.lock();
  }
  void unlock() { mutex_.unlock(); }
  void lock_shared() {
    const std::lock_guard turn(gate_);
    mutex_.lock_shared();
  }
  void unlock_shared() { mutex_.unlock_shared(); }

 private:
  std::mutex gate_;  // held while waiting for a turn, never while having one
  std::shared_mutex mutex_;
};

}  // namespace conductor

#endif  // CONDUCTOR_LIB_BASE_FAIR_MUTEX_H_
