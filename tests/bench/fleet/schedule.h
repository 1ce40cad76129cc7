#ifndef CONDUCTOR_TESTS_BENCH_FLEET_SCHEDULE_H_
#define CONDUCTOR_TESTS_BENCH_FLEET_SCHEDULE_H_

#include <cstddef>
#include <vector>

#include "load.h"

namespace conductor::bench {

struct Pace {
  // Block operations a second, offered evenly: a step is asked for at (operations of the steps
  // before it) / rate. 0: at its own time in the trace, `speedup` times as fast.
  double rate = 0;
  double speedup = 1;
  // What an engine announces for a prompt it does after it has computed what was not cached: so
  // many tokens later. In the run's time, whatever `speedup` is.
  double prefill_tokens_per_second = 50'000;
};

// When things are to happen, whatever the answers take. In seconds from the start of the run.
struct Schedule {
  struct Announcement {
    double seconds = 0;
    size_t step = 0;
  };

  std::vector<double> asks;                 // by step, rising
  std::vector<Announcement> announcements;  // of the steps with events, in the order of time
  double seconds = 0;                       // of what comes last
};

// Engines work on several prompts at once, so an announcement waits for no other prompt's
// computation; but an engine announces in the order in which it was asked, because its cache was
// planned in that order and an event may name a block of an earlier one as its parent. A step's
// announcement always comes after its question.
[[nodiscard]] Schedule MakeSchedule(const std::vector<Step>& steps, const Pace& pace);

}  // namespace conductor::bench

#endif  // CONDUCTOR_TESTS_BENCH_FLEET_SCHEDULE_H_
