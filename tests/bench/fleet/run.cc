#include "run.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

namespace conductor::bench {
namespace {

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point moment) {
  return std::chrono::duration<double>(Clock::now() - moment).count();
}

// Waits for the moment: sleeps as long as it is far, then looks at the clock.
void WaitUntil(Clock::time_point moment) {
  constexpr auto kSpin = std::chrono::microseconds(200);
  if (moment - Clock::now() > kSpin) std::this_thread::sleep_until(moment - kSpin);
  while (Clock::now() < moment) std::this_thread::yield();
}

class Replay {
 public:
  Replay(Target& target, const Schedule& schedule)
      : target_(target),
        schedule_(schedule),
        start_(Clock::now() + std::chrono::milliseconds(100)),  // when all threads run
        answered_(schedule.asks.size()) {}

  // A client's thread: asks whatever no other client has taken, until nothing is left.
  void Ask(uint32_t client, Results& results) {
    for (size_t step; (step = next_ask_.fetch_add(1)) < schedule_.asks.size() && !failed_;) {
      const auto intended = Moment(schedule_.asks[step]);
      WaitUntil(intended);
      const auto found = target_.Ask(client, step);
      const double latency = SecondsSince(intended);
      if (!found) return FailWith(found.error());
      answered_[step] = true;
      size_t of = kHolderClasses.size() - 1;
      while (found->holders < kHolderClasses[of].least) --of;
      results.latencies[of].push_back(latency);
      results.walked_blocks += found->walked;
      results.matched_blocks += found->longest;
    }
  }

  // The engines' thread.
  void Announce() {
    for (const Schedule::Announcement& each : schedule_.announcements) {
      WaitUntil(Moment(each.seconds));
      WaitForAnswer(each.step);
      if (failed_) return;
      if (const auto status = target_.Announce(each.step); !status) return FailWith(status.error());
    }
  }

  [[nodiscard]] Clock::time_point start() const { return start_; }
  // After all threads.
  [[nodiscard]] const std::optional<Error>& error() const { return error_; }

 private:
  [[nodiscard]] Clock::time_point Moment(double seconds) const {
    return start_ +
           std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  }
  // A late answer holds up the announcements: no engine has a prompt before its router has placed
  // it, and a lookup that saw what its own prompt stored would match all of it.
  void WaitForAnswer(size_t step) const {
    while (!answered_[step] && !failed_) {
      std::this_thread::sleep_for(std::chrono::microseconds(20));
    }
  }
  void FailWith(const Error& error) {
    const std::lock_guard lock(mutex_);
    if (!error_) error_ = error;
    failed_ = true;
  }

  Target& target_;
  const Schedule& schedule_;
  const Clock::time_point start_;
  std::atomic<size_t> next_ask_ = 0;
  std::vector<std::atomic<bool>> answered_;  // by step
  std::atomic<bool> failed_ = false;         // whoever sees it stops
  std::mutex mutex_;
  std::optional<Error> error_;  // guarded by mutex_; the first one
};

void Add(const Results& client, Results& all) {
  all.walked_blocks += client.walked_blocks;
  all.matched_blocks += client.matched_blocks;
  for (size_t i = 0; i < all.latencies.size(); ++i) {
    all.latencies[i].insert(all.latencies[i].end(), client.latencies[i].begin(),
                            client.latencies[i].end());
  }
}

}  // namespace

Result<Results> Run(Target& target, const Schedule& schedule, uint32_t clients) {
  Replay replay(target, schedule);
  std::vector<Results> of_clients(clients);
  std::vector<std::thread> threads;
  threads.emplace_back([&replay] { replay.Announce(); });
  for (uint32_t i = 0; i < clients; ++i) {
    threads.emplace_back([&, i] { replay.Ask(i, of_clients[i]); });
  }
  for (std::thread& thread : threads) thread.join();
  if (replay.error()) return tl::unexpected(*replay.error());
  if (const auto drained = target.Drain(); !drained) return tl::unexpected(drained.error());

  Results results;
  results.taken_seconds = SecondsSince(replay.start());
  results.drain_seconds = std::max(0.0, results.taken_seconds - schedule.seconds);
  results.resident_bytes = target.ResidentBytes();
  for (const Results& client : of_clients) Add(client, results);
  for (std::vector<double>& latencies : results.latencies) std::ranges::sort(latencies);
  return results;
}

}  // namespace conductor::bench
