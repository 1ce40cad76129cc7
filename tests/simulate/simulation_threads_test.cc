#include <gtest/gtest.h>

#include <future>
#include <vector>

#include "lib/simulate/simulation.h"
#include "made_trace.h"

namespace conductor::simulate {
namespace {

TEST(SimulationThreads, PoliciesThatRunAtOnceDoNotDisturbOneAnother) {
  FleetModel fleet;
  fleet.engines = 4;
  fleet.blocks = {300, 300, 0};
  const auto trace = Prepare(trace::MakeTrace({.requests = 100, .id_block = 16}), fleet, 1);
  ASSERT_TRUE(trace);
  std::vector<std::future<Result<Outcome>>> runs;
  for (const Policy policy : kPolicies) {
    runs.push_back(std::async(std::launch::async,
                              [&, policy] { return Simulate(*trace, fleet, {.policy = policy}); }));
  }
  for (const Policy policy : kPolicies) {
    const auto at_once = runs[static_cast<size_t>(policy)].get();
    const auto alone = Simulate(*trace, fleet, {.policy = policy});
    ASSERT_TRUE(at_once && alone);
    EXPECT_EQ(at_once->wall, alone->wall);
    EXPECT_EQ(Summarize(fleet, *at_once).hit_tokens, Summarize(fleet, *alone).hit_tokens);
  }
}

}  // namespace
}  // namespace conductor::simulate
