#include "schedule.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

namespace conductor::bench {
namespace {

std::vector<Step> Steps() {
  return Plan(MakeTrace(400, 2), {.engines = 4, .capacity_blocks = 1000});
}

// A step of a prompt of so many blocks of 10 tokens, none of them held.
Step Miss(double seconds, uint32_t engine, uint32_t blocks) {
  Step step;
  step.seconds = seconds;
  step.engine = engine;
  step.prompt.resize(size_t{10} * blocks);
  step.prompt_blocks = blocks;
  step.events.emplace_back(wire::BlockStored{});
  step.event_blocks = blocks;
  return step;
}

TEST(Schedule, OffersAnEvenRateWhateverTheTracesTime) {
  const std::vector<Step> steps = Steps();
  const Schedule schedule = MakeSchedule(steps, {.rate = 5000});
  ASSERT_EQ(schedule.asks.size(), steps.size());
  uint64_t before = 0;
  for (size_t i = 0; i < steps.size(); ++i) {
    EXPECT_DOUBLE_EQ(schedule.asks[i], static_cast<double>(before) / 5000);
    before += steps[i].event_blocks + steps[i].WalkBlocks();
  }
  const Totals totals = Sum(steps);
  EXPECT_EQ(before, totals.events + totals.walks);
}

TEST(Schedule, OrScalesTheTracesTime) {
  std::vector<Step> steps = {Miss(5, 0, 1), Miss(7, 0, 1), Miss(15, 0, 1)};
  const Schedule schedule = MakeSchedule(steps, {.speedup = 4});
  EXPECT_EQ(schedule.asks, (std::vector<double>{0, 0.5, 2.5}));
}

TEST(Schedule, AnnouncesAfterWhatWasNotCachedIsComputed) {
  std::vector<Step> steps = {Miss(0, 0, 20), Miss(1, 1, 10)};
  steps[1].cached_blocks = 4;
  const Schedule schedule = MakeSchedule(steps, {.prefill_tokens_per_second = 100});
  ASSERT_EQ(schedule.announcements.size(), 2u);
  EXPECT_EQ(schedule.announcements[0].step, 1u);
  EXPECT_DOUBLE_EQ(schedule.announcements[0].seconds, 1.6);
  EXPECT_EQ(schedule.announcements[1].step, 0u);
  EXPECT_DOUBLE_EQ(schedule.announcements[1].seconds, 2);
  EXPECT_DOUBLE_EQ(schedule.seconds, 2);
}

TEST(Schedule, AnEngineAnnouncesInTheOrderOfItsPrompts) {
  const std::vector<Step> steps = {Miss(0, 0, 20), Miss(1, 0, 1)};
  const Schedule schedule = MakeSchedule(steps, {.prefill_tokens_per_second = 100});
  ASSERT_EQ(schedule.announcements.size(), 2u);
  EXPECT_EQ(schedule.announcements[0].step, 0u);
  EXPECT_EQ(schedule.announcements[1].step, 1u);
  EXPECT_DOUBLE_EQ(schedule.announcements[1].seconds, 2);
}

TEST(Schedule, EveryAnnouncementComesOnceAndAfterItsQuestion) {
  const std::vector<Step> steps = Steps();
  for (const Pace& pace : {Pace{}, Pace{.rate = 1e6}, Pace{.speedup = 100}}) {
    const Schedule schedule = MakeSchedule(steps, pace);
    std::set<size_t> seen;
    std::map<uint32_t, size_t> last;  // step of each engine
    double before = 0;
    for (const Schedule::Announcement& each : schedule.announcements) {
      EXPECT_TRUE(seen.insert(each.step).second);
      EXPECT_FALSE(steps[each.step].events.empty());
      EXPECT_GT(each.seconds, schedule.asks[each.step]);
      EXPECT_GE(each.seconds, before);
      before = each.seconds;
      const auto [engine, first] = last.emplace(steps[each.step].engine, each.step);
      EXPECT_TRUE(first || engine->second < each.step);
      engine->second = each.step;
    }
    size_t with_events = 0;
    for (const Step& step : steps) with_events += step.events.empty() ? 0 : 1;
    EXPECT_EQ(seen.size(), with_events);
  }
}

TEST(Schedule, NothingTakesNoTime) {
  const Schedule schedule = MakeSchedule({}, {.rate = 10});
  EXPECT_TRUE(schedule.asks.empty());
  EXPECT_TRUE(schedule.announcements.empty());
  EXPECT_EQ(schedule.seconds, 0);
}

}  // namespace
}  // namespace conductor::bench
