#include "schedule.h"

#include <algorithm>
#include <cstdint>
#include <unordered_map>

namespace conductor::bench {
namespace {

std::vector<double> Asks(const std::vector<Step>& steps, const Pace& pace) {
  std::vector<double> asks;
  asks.reserve(steps.size());
  uint64_t operations = 0;
  for (const Step& step : steps) {
    asks.push_back(pace.rate > 0 ? static_cast<double>(operations) / pace.rate
                                 : (step.seconds - steps.front().seconds) / pace.speedup);
    operations += step.event_blocks + step.WalkBlocks();
  }
  return asks;
}

// Of a step with events, so of a prompt that has blocks.
double PrefillSeconds(const Step& step, const Pace& pace) {
  const uint64_t blocks = step.prompt_blocks - step.cached_blocks;
  const uint64_t tokens = step.prompt.size() / step.prompt_blocks * blocks;
  return static_cast<double>(tokens) / pace.prefill_tokens_per_second;
}

std::vector<Schedule::Announcement> Announcements(const std::vector<Step>& steps,
                                                  const std::vector<double>& asks,
                                                  const Pace& pace) {
  std::vector<Schedule::Announcement> announcements;
  std::unordered_map<uint32_t, double> last;  // of each engine
  for (size_t i = 0; i < steps.size(); ++i) {
    if (steps[i].events.empty()) continue;
    double& seconds = last[steps[i].engine];
    seconds = std::max(seconds, asks[i] + PrefillSeconds(steps[i], pace));
    announcements.push_back({seconds, i});
  }
  std::ranges::stable_sort(announcements, {}, &Schedule::Announcement::seconds);
  return announcements;
}

}  // namespace

Schedule MakeSchedule(const std::vector<Step>& steps, const Pace& pace) {
  Schedule schedule;
  schedule.asks = Asks(steps, pace);
  schedule.announcements = Announcements(steps, schedule.asks, pace);
  if (!schedule.asks.empty()) schedule.seconds = schedule.asks.back();
  if (!schedule.announcements.empty()) {
    schedule.seconds = std::max(schedule.seconds, schedule.announcements.back().seconds);
  }
  return schedule;
}

}  // namespace conductor::bench
