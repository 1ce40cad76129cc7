#include "lib/client/watchdog.h"

#include <gtest/gtest.h>

#include <semaphore>

namespace conductor::client {
namespace {

using namespace std::chrono_literals;

TEST(Watchdog, CutsWhatTakesTooLong) {
  std::counting_semaphore<> cut(0);
  Watchdog watchdog([&] { cut.release(); });
  for (int i = 0; i < 3; ++i) {
    watchdog.Watch(MonoNow() + 1ms);
    cut.acquire();
    cut.acquire();  // and again, until the end
    EXPECT_TRUE(watchdog.End());
    while (cut.try_acquire()) continue;
  }
}

TEST(Watchdog, LeavesAloneWhatEndsInTime) {
  std::counting_semaphore<> cut(0);
  Watchdog watchdog([&] { cut.release(); });
  for (int i = 0; i < 1000; ++i) {
    watchdog.Watch(MonoNow() + 1h);
    EXPECT_FALSE(watchdog.End());
  }
  EXPECT_FALSE(cut.try_acquire());
}

TEST(Watchdog, HeedsAShorterTimeAfterALongerOne) {
  std::counting_semaphore<> cut(0);
  Watchdog watchdog([&] { cut.release(); });
  watchdog.Watch(MonoNow() + 1h);
  EXPECT_FALSE(watchdog.End());
  watchdog.Watch(MonoNow() + 1ms);
  cut.acquire();
  EXPECT_TRUE(watchdog.End());
}

}  // namespace
}  // namespace conductor::client
