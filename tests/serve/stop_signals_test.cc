#include "daemon/serve/stop_signals.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <semaphore>
#include <string>
#include <thread>

namespace conductor::serve {
namespace {

using namespace std::chrono_literals;

// Each of these ends a process of its own.
class StopSignalsDeathTest : public testing::Test {
 protected:
  void SetUp() override { testing::FLAGS_gtest_death_test_style = "threadsafe"; }

  [[noreturn]] static void HangForEver() {
    for (;;) ::pause();
  }
};

TEST_F(StopSignalsDeathTest, AnEndInTimeIsLeftAlone) {
  EXPECT_EXIT(
      {
        const MonoTime begin = MonoNow();
        {
          StopSignals signals(10s);
          ::kill(::getpid(), SIGTERM);
          (void)signals.Wait();
        }
        std::_Exit(MonoNow() - begin < 5s ? 7 : 8);
      },
      testing::ExitedWithCode(7), "");
}

TEST_F(StopSignalsDeathTest, TellsWhichSignalItWas) {
  EXPECT_EXIT(
      {
        StopSignals signals(10s);
        ::kill(::getpid(), SIGINT);
        std::_Exit(signals.Wait() == "SIGINT" ? 7 : 8);
      },
      testing::ExitedWithCode(7), "");
}

TEST_F(StopSignalsDeathTest, AHangupStopsItUnlessSomethingIsToBeReadAgain) {
  EXPECT_EXIT(
      {
        StopSignals signals(10s);
        ::kill(::getpid(), SIGHUP);
        std::_Exit(signals.Wait() == "SIGHUP" ? 7 : 8);
      },
      testing::ExitedWithCode(7), "");
  EXPECT_EXIT(
      {
        StopSignals signals(10s);
        std::binary_semaphore reloaded(0);
        signals.OnHangup([&] { reloaded.release(); });
        for (int i = 0; i < 3; ++i) {
          ::kill(::getpid(), SIGHUP);
          reloaded.acquire();
        }
        ::kill(::getpid(), SIGTERM);
        std::_Exit(signals.Wait() == "SIGTERM" ? 7 : 8);
      },
      testing::ExitedWithCode(7), "");
}

TEST_F(StopSignalsDeathTest, AHangupThatWasToBeIgnoredIs) {
  EXPECT_EXIT(
      {
        std::signal(SIGHUP, SIG_IGN);  // as nohup does
        StopSignals signals(10s);
        ::kill(::getpid(), SIGHUP);
        ::kill(::getpid(), SIGTERM);
        std::_Exit(signals.Wait() == "SIGTERM" ? 7 : 8);
      },
      testing::ExitedWithCode(7), "");
}

TEST_F(StopSignalsDeathTest, WhatHangsIsAbandonedAndTold) {
  EXPECT_EXIT(
      {
        StopSignals signals(20ms);
        // Before the signal: after it, a busy machine may not come to it in time.
        signals.Ending("the tea");
        ::kill(::getpid(), SIGTERM);
        (void)signals.Wait();
        HangForEver();
      },
      testing::ExitedWithCode(0), "still ending the tea 20ms after the signal: abandoned");
}

TEST_F(StopSignalsDeathTest, ASignalDuringTheStartEndsItToo) {
  EXPECT_EXIT(
      {
        StopSignals signals(20ms);
        ::kill(::getpid(), SIGTERM);
        HangForEver();
      },
      testing::ExitedWithCode(0), "still ending the start");
}

TEST_F(StopSignalsDeathTest, ASecondSignalEndsTheProcessAtOnce) {
  EXPECT_EXIT(
      {
        StopSignals signals(10s);
        ::kill(::getpid(), SIGTERM);
        (void)signals.Wait();
        ::kill(::getpid(), SIGTERM);
        HangForEver();
      },
      testing::KilledBySignal(SIGTERM), "");
}

TEST_F(StopSignalsDeathTest, WhatMustBeKeptOutlivesASecondSignalAndCutsTheRestShort) {
  EXPECT_EXIT(
      {
        StopSignals signals(20ms);
        signals.Keep("the tea", 10s);
        ::kill(::getpid(), SIGTERM);
        (void)signals.Wait();
        ::kill(::getpid(), SIGTERM);
        while (!signals.hurried()) std::this_thread::yield();
        std::fputs("the tea is made\n", stderr);
        signals.Kept();
        HangForEver();
      },
      testing::ExitedWithCode(0), "the tea is made\n.*as the second signal asked");
}

TEST_F(StopSignalsDeathTest, AThirdSignalEndsTheProcessAtOnce) {
  EXPECT_EXIT(
      {
        StopSignals signals(20ms);
        signals.Keep("the tea", 10s);
        ::kill(::getpid(), SIGTERM);
        (void)signals.Wait();
        ::kill(::getpid(), SIGTERM);
        while (!signals.hurried()) std::this_thread::yield();
        ::kill(::getpid(), SIGTERM);
        HangForEver();
      },
      testing::KilledBySignal(SIGTERM), "");
}

TEST_F(StopSignalsDeathTest, OnceItIsKeptASecondSignalEndsTheProcessAtOnce) {
  EXPECT_EXIT(
      {
        StopSignals signals(10s);
        signals.Keep("the tea", 10s);
        ::kill(::getpid(), SIGTERM);
        (void)signals.Wait();
        signals.Kept();
        ::kill(::getpid(), SIGTERM);
        HangForEver();
      },
      testing::KilledBySignal(SIGTERM), "");
}

TEST_F(StopSignalsDeathTest, WhatIsKeptIsAbandonedAfterItsOwnTime) {
  EXPECT_EXIT(
      {
        StopSignals signals(0s);
        signals.Keep("the tea", 50ms);
        ::kill(::getpid(), SIGTERM);
        HangForEver();
      },
      testing::ExitedWithCode(0), "still ending the tea 50ms after the signal");
}

TEST_F(StopSignalsDeathTest, AHangupIsNoSecondSignal) {
  EXPECT_EXIT(
      {
        StopSignals signals(10s);
        signals.OnHangup([] {});
        signals.Keep("the tea", 100ms);
        ::kill(::getpid(), SIGTERM);
        (void)signals.Wait();
        ::kill(::getpid(), SIGHUP);
        HangForEver();
      },
      testing::ExitedWithCode(0), "still ending the tea");
}

TEST_F(StopSignalsDeathTest, ALogThatNobodyReadsHoldsNothingUp) {
  EXPECT_EXIT(
      {
        int ends[2];
        if (::pipe(ends) != 0) std::_Exit(1);
        const std::string filling(1 << 20, 'x');
        ::alarm(10);  // or the test would hang where the promise is broken
        StopSignals signals(20ms);
        ::dup2(ends[1], STDERR_FILENO);
        std::thread([&] {
          (void)!::write(STDERR_FILENO, filling.data(), filling.size());
        }).detach();
        ::kill(::getpid(), SIGTERM);
        HangForEver();
      },
      testing::ExitedWithCode(0), "");
}

TEST(StopSignals, EndsWithoutASignal) {
  for (int i = 0; i < 10; ++i) StopSignals signals;
}

}  // namespace
}  // namespace conductor::serve
