#include "lib/trace/workload.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

namespace conductor::trace {
namespace {

TEST(Workload, GivesTheSamePromptsForTheSameSeed) {
  Workload first({.seed = 5});
  Workload second({.seed = 5});
  Workload other({.seed = 6});
  bool differs = false;
  for (int i = 0; i < 200; ++i) {
    const Workload::Request a = first.Next();
    const Workload::Request b = second.Next();
    ASSERT_EQ(a.conversation, b.conversation);
    ASSERT_EQ(a.turn, b.turn);
    ASSERT_EQ(a.tokens, b.tokens);
    differs |= a.tokens != other.Next().tokens;
  }
  EXPECT_TRUE(differs);
}

// The numbers themselves: mt19937_64 is the same everywhere, and nothing else may come in.
TEST(Workload, GivesTheSamePromptsOnEveryMachine) {
  Workload workload({.seed = 1,
                     .system_prompts = 1,
                     .system_prompt_tokens = 2,
                     .conversations = 1,
                     .turns = 2,
                     .turn_tokens = 2,
                     .vocabulary = 1000});
  std::mt19937_64 random(1);
  const auto draw = [&](uint64_t bound) { return static_cast<TokenId>(random() % bound); };
  std::vector<TokenId> expected = {draw(1000), draw(1000)};
  (void)draw(1);  // the system prompt of the first conversation
  (void)draw(1);  // the conversation of the first request
  for (uint32_t left = 1 + draw(3); left > 0; --left) expected.push_back(draw(1000));
  EXPECT_EQ(workload.Next().tokens, expected);
}

TEST(Workload, ConversationsGrowTurnByTurnAndEnd) {
  const Workload::Options options{.seed = 3, .conversations = 4, .turns = 5};
  Workload workload(options);
  std::map<uint64_t, std::vector<TokenId>> last;
  std::map<uint64_t, uint32_t> turns;
  for (int i = 0; i < 400; ++i) {
    const Workload::Request request = workload.Next();
    EXPECT_EQ(request.turn, turns[request.conversation]++);
    EXPECT_LT(request.turn, options.turns);
    const std::vector<TokenId>& before = last[request.conversation];
    ASSERT_GT(request.tokens.size(), before.size());
    EXPECT_TRUE(std::ranges::equal(before, std::span(request.tokens).first(before.size())));
    last[request.conversation] = request.tokens;
  }
  EXPECT_GT(last.size(), 50u);
}

TEST(Workload, ConversationsShareTheSystemPrompts) {
  const Workload::Options options{.seed = 3, .system_prompts = 2, .system_prompt_tokens = 64};
  Workload workload(options);
  std::set<std::vector<TokenId>> heads;
  for (int i = 0; i < 300; ++i) {
    const std::vector<TokenId> tokens = workload.Next().tokens;
    ASSERT_GE(tokens.size(), 64u);
    heads.emplace(tokens.begin(), tokens.begin() + 64);
  }
  EXPECT_EQ(heads.size(), 2u);
}

TEST(Workload, WorksWithTheSmallestOptions) {
  Workload workload({.seed = 1,
                     .system_prompts = 0,
                     .system_prompt_tokens = 0,
                     .conversations = 0,
                     .turns = 0,
                     .turn_tokens = 0,
                     .vocabulary = 0});
  EXPECT_EQ(workload.Next().conversation, 0u);
  EXPECT_EQ(workload.Next().conversation, 1u);
}

}  // namespace
}  // namespace conductor::trace
