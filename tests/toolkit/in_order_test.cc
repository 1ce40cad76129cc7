#include "daemon/toolkit/in_order.h"

#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <numeric>
#include <vector>

namespace conductor::toolkit {
namespace {

using Numbers = std::vector<int>;

Numbers UpTo(int end) {
  Numbers numbers(static_cast<size_t>(end));
  std::iota(numbers.begin(), numbers.end(), 0);
  return numbers;
}

TEST(InOrder, ResultsAreTakenInTheOrderOfTheirJobs) {
  for (const size_t threads : {1, 2, 8}) {
    Numbers taken;  // one at a time, so without a lock
    InOrder<int, int> work(
        threads, [] { return [](int job) { return job; }; },
        [&taken](int result) {
          taken.push_back(result);
          return true;
        });
    for (const int job : UpTo(5000)) ASSERT_TRUE(work.Give(job));
    work.Finish();
    EXPECT_EQ(taken, UpTo(5000)) << threads << " threads";
  }
}

// Holds jobs up until it is opened.
class Gate {
 public:
  void Pass() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return open_; });
  }
  void Open() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
};

TEST(InOrder, AnEarlierJobHoldsBackResultsButNoWork) {
  Gate first;
  Gate third;
  Numbers taken;
  InOrder<int, int> work(
      2,
      [&] {
        return [&](int job) {
          if (job == 0) first.Pass();
          if (job == 2) third.Open();
          return job;
        };
      },
      [&taken](int result) {
        taken.push_back(result);
        return true;
      });
  for (const int job : UpTo(4)) ASSERT_TRUE(work.Give(job));
  third.Pass();  // while the first is under way
  first.Open();
  work.Finish();
  EXPECT_EQ(taken, UpTo(4));
}

TEST(InOrder, WhoGivesTooMuchWaits) {
  std::atomic<int> given = 0;
  std::atomic<int> most = 0;
  std::atomic<int> taken = 0;
  InOrder<int, int> work(
      2,
      [&] {
        return [&](int job) {
          most = std::max(most.load(), given.load() - taken.load());
          return job;
        };
      },
      [&taken](int) {
        ++taken;
        return true;
      });
  for (const int job : UpTo(1000)) {
    ASSERT_TRUE(work.Give(job));
    ++given;
  }
  work.Finish();
  EXPECT_LE(most, 5) << "twice as many as threads, and the one that was just let in";
}

TEST(InOrder, EndsWhenNothingMoreIsWanted) {
  Numbers taken;
  InOrder<int, int> work(
      4, [] { return [](int job) { return job; }; },
      [&taken](int result) {
        taken.push_back(result);
        return result < 9;
      });
  int job = 0;
  while (work.Give(job)) ++job;
  work.Finish();
  EXPECT_EQ(taken, UpTo(10));
}

TEST(InOrder, EachThreadHasAWorkerOfItsOwn) {
  std::atomic<int> workers = 0;
  {
    InOrder<int, int> work(
        3,
        [&workers] {
          ++workers;
          return [](int job) { return job; };
        },
        [](int) { return true; });
    work.Give(1);
  }  // finishes
  EXPECT_EQ(workers, 1) << "threads are started as there is work";
}

}  // namespace
}  // namespace conductor::toolkit
