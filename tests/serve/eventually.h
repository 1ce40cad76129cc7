#ifndef CONDUCTOR_TESTS_SERVE_EVENTUALLY_H_
#define CONDUCTOR_TESTS_SERVE_EVENTUALLY_H_

#include <chrono>
#include <thread>

#include "lib/base/clock.h"

namespace conductor::serve {

// Waits for a state that another thread brings about; false when it has not for half a minute.
template <typename Condition>
bool Eventually(Condition condition) {
  const MonoTime until = MonoNow() + std::chrono::seconds(30);
  while (!condition()) {
    if (MonoNow() > until) return false;
    std::this_thread::yield();
  }
  return true;
}

}  // namespace conductor::serve

#endif  // CONDUCTOR_TESTS_SERVE_EVENTUALLY_H_
