#include "daemon/proxy/policy.h"

#include <gtest/gtest.h>

#include <map>
#include <vector>

namespace conductor::proxy {
namespace {

Candidate Holding(uint64_t gpu, double load = 0) {
  return {.load = load, .served = 0, .held = Held{gpu, gpu, gpu, {}}};
}

Choice Of(Policy policy, const std::vector<Candidate>& candidates, uint64_t turn = 0) {
  return Choose(policy, candidates, 1000, {}, turn);
}

TEST(PolicyTest, NamesAreReadBack) {
  for (const Policy policy :
       {Policy::kRoundRobin, Policy::kLeastLoaded, Policy::kLongestPrefix, Policy::kScore}) {
    EXPECT_EQ(ParsePolicy(PolicyName(policy)), policy);
  }
  EXPECT_FALSE(ParsePolicy("best"));
}

TEST(PolicyTest, RoundRobinGoesInTurns) {
  const std::vector<Candidate> three = {Holding(5), {}, {}};
  for (uint64_t turn = 0; turn < 6; ++turn) {
    EXPECT_EQ(Of(Policy::kRoundRobin, three, turn).candidate, turn % 3);
  }
}

TEST(PolicyTest, LeastLoadedTakesWhoServedLeastAndThenTurns) {
  EXPECT_EQ(Of(Policy::kLeastLoaded, {{.load = 2}, {.load = 1}, {.load = 3}}).candidate, 1u);
  EXPECT_EQ(
      Of(Policy::kLeastLoaded, {{.load = 1, .served = 4}, {.load = 1, .served = 3}}).candidate, 1u);
  std::map<size_t, int> counts;
  for (uint64_t turn = 0; turn < 9; ++turn) {
    ++counts[Of(Policy::kLeastLoaded, {{}, {}, {}}, turn).candidate];
  }
  EXPECT_EQ(counts, (std::map<size_t, int>{{0, 3}, {1, 3}, {2, 3}}));
}

TEST(PolicyTest, LongestPrefixTakesTheHolderWhateverItsLoad) {
  const Choice choice = Of(Policy::kLongestPrefix, {Holding(100), Holding(900, 50), Holding(0)});
  EXPECT_EQ(choice.candidate, 1u);
  EXPECT_EQ(choice.reason, Reason::kLongestPrefix);
  EXPECT_EQ(Of(Policy::kLongestPrefix, {Holding(900, 2), Holding(900, 1)}).candidate, 1u);
}

TEST(PolicyTest, ScoreLeavesABusyHolder) {
  EXPECT_EQ(Of(Policy::kScore, {Holding(0), Holding(900)}).candidate, 1u);
  EXPECT_EQ(Of(Policy::kScore, {Holding(0), Holding(900)}).reason, Reason::kScore);
  EXPECT_EQ(Of(Policy::kScore, {Holding(0), Holding(900, 20)}).candidate, 0u);
}

TEST(PolicyTest, WhereNobodyHoldsAnythingTheLeastLoadedIsChosen) {
  for (const Policy policy : {Policy::kLongestPrefix, Policy::kScore}) {
    const Choice choice = Of(policy, {Holding(0, 3), {.load = 1}, Holding(0, 2)});
    EXPECT_EQ(choice.candidate, 1u);
    EXPECT_EQ(choice.reason, Reason::kLeastLoaded);
  }
}

TEST(PolicyTest, TheOnlyOneIsChosenByAll) {
  EXPECT_EQ(Of(Policy::kScore, {Holding(5)}).reason, Reason::kOnly);
}

}  // namespace
}  // namespace conductor::proxy
