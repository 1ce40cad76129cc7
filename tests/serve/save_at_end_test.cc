#include "daemon/serve/save_at_end.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <memory>
#include <semaphore>
#include <string>
#include <thread>
#include <utility>

#include "lib/store/snapshot_reader.h"

namespace conductor::serve {
namespace {

using namespace std::chrono_literals;

constexpr Duration kFarAway = 100s;

// A daemon that has had its signal: all but what answers requests.
class Stopping {
 public:
  using Write = decltype(Snapshots::Options::write);

  // `patience`: with everything but the snapshot.
  explicit Stopping(Duration patience, const Write& write = SaveRegistry) : signals(patience) {
    std::string name = testing::TempDir() + "conductor-end-XXXXXX";
    directory_ = ::mkdtemp(name.data());
    path_ = directory_ + "/state.db";
    const auto told = [write](const auto&... arguments) {
      auto report = write(arguments...);
      if (report) std::fputs("written\n", stderr);
      return report;
    };
    snapshots =
        *Snapshots::Open(registry_, {.file = path_, .interval = {}, .write = told}, {}, false);
    signals.Keep("the snapshot", kFarAway);
  }
  ~Stopping() { std::filesystem::remove_all(directory_); }

  void Signal() {
    ::kill(::getpid(), SIGTERM);
    (void)signals.Wait();
  }
  [[nodiscard]] bool IsSaved() const { return store::SnapshotReader::Open(path_).has_value(); }

  StopSignals signals;  // before there are threads
  std::unique_ptr<Snapshots> snapshots;

 private:
  Registry registry_{Registry::Options{}};
  std::string directory_;
  std::string path_;
};

[[noreturn]] void End(bool as_expected) { std::_Exit(as_expected ? 7 : 8); }

// Each of these ends a process of its own.
class SaveAtEndDeathTest : public testing::Test {
 protected:
  void SetUp() override { testing::FLAGS_gtest_death_test_style = "threadsafe"; }
};

TEST_F(SaveAtEndDeathTest, WhatRequestsBringIsWaitedFor) {
  EXPECT_EXIT(
      {
        Stopping daemon(kFarAway);
        daemon.Signal();
        bool saved_before = true;
        SaveAtEnd(
            daemon.signals, *daemon.snapshots, [&] { saved_before = daemon.IsSaved(); }, kFarAway);
        End(!saved_before && daemon.IsSaved());
      },
      testing::ExitedWithCode(7), "");
}

TEST_F(SaveAtEndDeathTest, ARequestThatWaitsForASaveDoesNotCostTheLastOne) {
  EXPECT_EXIT(
      {
        std::binary_semaphore begun(0);
        std::binary_semaphore go_on(0);
        int saves = 0;
        Stopping daemon(0s, [&](const auto&... arguments) {
          if (++saves == 1) {
            begun.release();
            go_on.acquire();
          }
          return SaveRegistry(arguments...);
        });
        std::jthread request([&] { (void)daemon.snapshots->Save(); });
        begun.acquire();
        std::jthread another([&] {
          // Until it is refused, since the last save is next: the patience is over by then.
          while (daemon.snapshots->Save()) continue;
          go_on.release();
        });
        daemon.Signal();
        SaveAtEnd(
            daemon.signals, *daemon.snapshots, [&] { request.join(); }, 0s);
        End(saves == 2 && daemon.IsSaved());
      },
      testing::ExitedWithCode(7), "saved all the same");
}

TEST_F(SaveAtEndDeathTest, ARequestThatHangsDoesNotCostIt) {
  EXPECT_EXIT(
      {
        Stopping daemon(0s);
        daemon.Signal();
        SaveAtEnd(
            daemon.signals, *daemon.snapshots, [] { ::pause(); }, 0s);
      },
      testing::ExitedWithCode(0), "written\n(.*\n)*.*still ending the requests");
}

TEST_F(SaveAtEndDeathTest, ASecondSignalSavesAtOnceAndEndsTheRest) {
  EXPECT_EXIT(
      {
        Stopping daemon(kFarAway);
        daemon.Signal();
        ::kill(::getpid(), SIGTERM);
        SaveAtEnd(
            daemon.signals, *daemon.snapshots, [] { ::pause(); }, kFarAway);
      },
      testing::ExitedWithCode(0), "written\n(.*\n)*.*as the second signal asked");
}

TEST_F(SaveAtEndDeathTest, AThirdSignalEndsIt) {
  EXPECT_EXIT(
      {
        Stopping daemon(kFarAway, [&](const auto&... arguments) {
          ::kill(::getpid(), SIGTERM);
          ::pause();
          return SaveRegistry(arguments...);
        });
        daemon.Signal();
        ::kill(::getpid(), SIGTERM);
        while (!daemon.signals.hurried()) std::this_thread::yield();
        SaveAtEnd(
            daemon.signals, *daemon.snapshots, [] {}, kFarAway);
      },
      testing::KilledBySignal(SIGTERM), "");
}

}  // namespace
}  // namespace conductor::serve
