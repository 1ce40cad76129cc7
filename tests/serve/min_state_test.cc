#include "daemon/serve/min_state.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "daemon/serve/answers.h"

namespace conductor::serve {
namespace {

using stream::Trust;
using stream::TrustState;

const std::vector<Trust> kFromBestToWorst = {
    {TrustState::kLive, "", ""},
    {TrustState::kReplaying, "", ""},
    {TrustState::kDegraded, "incomplete", ""},
    {TrustState::kDegraded, "doubtful", ""},
    {TrustState::kStale, "no_answer", ""},
    {TrustState::kConnecting, "unreachable", ""},
};
constexpr const char* kNames[] = {"live", "replaying", "incomplete", "doubtful", "stale", "any"};

TEST(MinState, TakesEachStateWithTheBetterOnes) {
  for (size_t least = 0; least < kFromBestToWorst.size(); ++least) {
    const auto state = ParseMinState(kNames[least]);
    ASSERT_TRUE(state) << kNames[least];
    EXPECT_EQ(MinStateName(*state), kNames[least]);
    for (size_t trust = 0; trust < kFromBestToWorst.size(); ++trust) {
      EXPECT_EQ(Suffices(kFromBestToWorst[trust], *state), trust <= least)
          << kNames[trust] << " for " << kNames[least];
    }
  }
}

TEST(MinState, ConnectingIsAny) { EXPECT_EQ(ParseMinState("connecting"), MinState::kAny); }

TEST(MinState, OtherWordsAreErrorsThatListThem) {
  const auto state = ParseMinState("degraded");
  ASSERT_FALSE(state);
  EXPECT_EQ(state.error().Message(),
            "'degraded' is not a state (expected live, replaying, incomplete, doubtful, stale or "
            "any)");
}

TEST(MinState, ADegradedStreamOfAnyOtherReasonMayBeTooHigh) {
  const Trust shared{TrustState::kDegraded, "shared_endpoint", ""};
  EXPECT_FALSE(Suffices(shared, MinState::kIncomplete));
  EXPECT_TRUE(Suffices(shared, MinState::kDoubtful));
}

InstanceAnswer Instance(const char* instance_id, const Trust& trust, uint64_t tokens) {
  InstanceAnswer instance;
  instance.instance_id = instance_id;
  instance.trust = &trust;
  instance.best = {tokens, tokens, tokens};
  instance.ranks.emplace_back(0, instance.best);
  return instance;
}

TEST(MinState, LeavesTheFiguresOfWhatIsBelowOutAndItsInstanceIn) {
  Answer answer;
  answer.instances = {
      Instance("a", kFromBestToWorst[4], 64), Instance("b", kFromBestToWorst[0], 32),
      Instance("c", kFromBestToWorst[3], 16), Instance("d", kFromBestToWorst[0], 0)};
  ApplyMinState(MinState::kIncomplete, answer);
  std::vector<std::string> names;
  std::vector<uint64_t> matched;
  for (const InstanceAnswer& instance : answer.instances) {
    names.emplace_back(instance.instance_id);
    matched.push_back(instance.longest_matched());
    EXPECT_EQ(instance.ranks.at(0).second.gpu, instance.longest_matched());
    EXPECT_EQ(instance.best.gpu, instance.longest_matched());
  }
  EXPECT_EQ(names, (std::vector<std::string>{"b", "a", "c", "d"}));
  EXPECT_EQ(matched, (std::vector<uint64_t>{32, 0, 0, 0}));
}

TEST(MinState, OfAnyChangesNothing) {
  Answer answer;
  answer.instances = {Instance("a", kFromBestToWorst[5], 64),
                      Instance("b", kFromBestToWorst[0], 0)};
  ApplyMinState(MinState::kAny, answer);
  EXPECT_EQ(answer.instances[0].longest_matched(), 64u);
}

}  // namespace
}  // namespace conductor::serve
