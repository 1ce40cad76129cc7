#ifndef CONDUCTOR_DAEMON_TOOLKIT_IN_ORDER_H_
#define CONDUCTOR_DAEMON_TOOLKIT_IN_ORDER_H_

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace conductor::toolkit {

// Has jobs done on several threads at once, and takes what comes of them in the order in which they
// were given. Bounded: at most twice as many jobs as threads are under way or wait for an earlier
// one, and whoever gives more waits. Threads are started as there is work for them.
//
// Used by one thread, which calls Give() and then Finish().
template <typename Job, typename Result>
class InOrder {
 public:
  using Worker = std::function<Result(Job)>;

  // `make` is called on each thread for the worker of that thread. `take` is called for one result
  // at a time, on any of the threads; false ends all: what is under way is thrown away.
  InOrder(size_t threads, std::function<Worker()> make, std::function<bool(Result)> take)
      : most_(threads), make_(std::move(make)), take_(std::move(take)) {}
  ~InOrder() { Finish(); }
  InOrder(const InOrder&) = delete;
  InOrder& operator=(const InOrder&) = delete;

  // False when no more is wanted.
  bool Give(Job job) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return ended_ || given_ - taken_ < 2 * most_; });
    if (ended_) return false;
    jobs_.emplace_back(given_++, std::move(job));
    results_.emplace_back();
    if (idle_ < jobs_.size() && threads_.size() < most_) StartThread();
    changed_.notify_all();
    return true;
  }

  // Until all that was given is taken.
  void Finish() {
    {
      const std::lock_guard lock(mutex_);
      complete_ = true;
      changed_.notify_all();
    }
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }

 private:
  void StartThread() {
    try {
      threads_.emplace_back([this] { Run(); });
    } catch (const std::system_error&) {
      if (threads_.empty()) throw;  // the others do its work
    }
  }

  void Run() {
    const Worker work = make_();
    std::unique_lock lock(mutex_);
    for (;;) {
      ++idle_;
      changed_.wait(lock, [this] { return ended_ || complete_ || !jobs_.empty(); });
      --idle_;
      if (ended_ || jobs_.empty()) return;
      auto [number, job] = std::move(jobs_.front());
      jobs_.pop_front();
      lock.unlock();
      Result result = work(std::move(job));
      lock.lock();
      if (ended_) return;
      results_[number - taken_] = std::move(result);
      TakeWhatIsNext(lock);
    }
  }

  // One thread at a time takes; what becomes ready meanwhile it takes too.
  void TakeWhatIsNext(std::unique_lock<std::mutex>& lock) {
    if (taking_) return;
    taking_ = true;
    while (!ended_ && !results_.empty() && results_.front()) {
      Result result = *std::move(results_.front());
      results_.pop_front();
      ++taken_;
      lock.unlock();
      const bool more = take_(std::move(result));
      lock.lock();
      if (!more) ended_ = true;
      changed_.notify_all();
    }
    taking_ = false;
  }

  const size_t most_;
  const std::function<Worker()> make_;
  const std::function<bool(Result)> take_;
  std::vector<std::thread> threads_;  // of the thread that uses it

  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  std::deque<std::pair<uint64_t, Job>> jobs_;  // that nobody has begun
  std::deque<std::optional<Result>> results_;  // of the jobs from taken_ on
  uint64_t given_ = 0;
  uint64_t taken_ = 0;
  size_t idle_ = 0;  // threads that wait for a job
  bool taking_ = false;
  bool complete_ = false;  // no more jobs come
  bool ended_ = false;
};

}  // namespace conductor::toolkit

#endif  // CONDUCTOR_DAEMON_TOOLKIT_IN_ORDER_H_
