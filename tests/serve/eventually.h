#ifndef CONDUCTOR_TESTS_SERVE_EVENTUALLY_H_
#define CONDUCTOR_TESTS_SERVE_EVENTUALLY_H_

#include <algorithm>
#include <chrono>
#include <thread>

#include "lib/base/clock.h"

namespace conductor::serve {

// Waits for a state that another thread brings about; false when it has not for half a minute. A
// freeze of the machine counts as a tenth of a second: the others have to run after it.
template <typename Condition>
bool Eventually(Condition condition) {
  Duration left = std::chrono::seconds(30);
  MonoTime before = MonoNow();
  while (!condition()) {
    const MonoTime now = MonoNow();
    left -= std::min<Duration>(now - before, std::chrono::milliseconds(100));
    before = now;
    if (left < Duration(0)) return false;
    std::this_thread::yield();
  }
  return true;
}

}  // namespace conductor::serve

#endif  // CONDUCTOR_TESTS_SERVE_EVENTUALLY_H_
