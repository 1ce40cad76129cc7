#include "lib/trace/simulated_engine.h"

#include <gtest/gtest.h>

#include <map>
#include <numeric>
#include <variant>

#include "lib/trace/workload.h"

namespace conductor::trace {
namespace {

std::vector<TokenId> Tokens(size_t count, TokenId first = 0) {
  std::vector<TokenId> tokens(count);
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

const wire::BlockStored& Stored(const wire::KvEvent& event) {
  return std::get<wire::BlockStored>(event);
}
const wire::BlockRemoved& Removed(const wire::KvEvent& event) {
  return std::get<wire::BlockRemoved>(event);
}

TEST(SimulatedEngine, StoresTheWholeBlocksOfAPrompt) {
  SimulatedEngine engine({.seed = 1, .block_size = 4, .capacity_blocks = 8});
  const auto events = engine.Run(Tokens(11));
  ASSERT_EQ(events.size(), 1u);
  const wire::BlockStored& stored = Stored(events[0]);
  EXPECT_EQ(stored.hashes.size(), 2u);
  EXPECT_EQ(stored.parent, std::nullopt);
  EXPECT_EQ(stored.tokens, Tokens(8));
  EXPECT_EQ(stored.block_size, 4u);
  EXPECT_EQ(stored.medium, "GPU");
  EXPECT_EQ(engine.size_blocks(), 2u);
  EXPECT_EQ(engine.CachedBlocks(Tokens(11)), 2u);
}

TEST(SimulatedEngine, StoresOnlyWhatIsNewAfterItsParent) {
  SimulatedEngine engine({.seed = 1, .block_size = 4, .capacity_blocks = 8});
  const auto first = engine.Run(Tokens(8));
  EXPECT_TRUE(engine.Run(Tokens(8)).empty());
  const auto events = engine.Run(Tokens(16));
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(Stored(events[0]).parent, Stored(first[0]).hashes[1]);
  EXPECT_EQ(Stored(events[0]).tokens, Tokens(8, 8));
}

TEST(SimulatedEngine, EvictsTheTailOfTheLeastRecentlyUsedPromptFirst) {
  SimulatedEngine engine({.seed = 1, .block_size = 1, .capacity_blocks = 4});
  const auto older = engine.Run(Tokens(2, 10));
  (void)engine.Run(Tokens(2, 20));
  const auto events = engine.Run(Tokens(1, 30));
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(Removed(events[0]).hashes, std::vector<EngineHash>{Stored(older[0]).hashes[1]});
  EXPECT_EQ(Removed(events[0]).medium, "GPU");
  EXPECT_EQ(engine.CachedBlocks(Tokens(2, 10)), 1u);
  EXPECT_EQ(engine.CachedBlocks(Tokens(2, 20)), 2u);
}

TEST(SimulatedEngine, DoesNotEvictWhatThePromptItselfUses) {
  SimulatedEngine engine({.seed = 1, .block_size = 1, .capacity_blocks = 4});
  (void)engine.Run(Tokens(3));
  (void)engine.Run(Tokens(1, 50));
  const auto events = engine.Run(Tokens(4));
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(Stored(events[1]).tokens, Tokens(1, 3));
  EXPECT_EQ(engine.CachedBlocks(Tokens(4)), 4u);
  EXPECT_EQ(engine.CachedBlocks(Tokens(1, 50)), 0u);
}

TEST(SimulatedEngine, KeepsTheHeadOfAPromptThatIsLongerThanTheCache) {
  SimulatedEngine engine({.seed = 1, .block_size = 1, .capacity_blocks = 3});
  EXPECT_EQ(Stored(engine.Run(Tokens(9)).back()).hashes.size(), 3u);
  EXPECT_EQ(engine.CachedBlocks(Tokens(9)), 3u);
  SimulatedEngine nothing({.seed = 1, .block_size = 1, .capacity_blocks = 0});
  EXPECT_TRUE(nothing.Run(Tokens(9)).empty());
}

TEST(SimulatedEngine, ResetClearsEverything) {
  SimulatedEngine engine({.seed = 1, .block_size = 1});
  (void)engine.Run(Tokens(9));
  EXPECT_EQ(engine.Reset(), std::vector<wire::KvEvent>{wire::AllBlocksCleared{}});
  EXPECT_EQ(engine.size_blocks(), 0u);
  EXPECT_EQ(engine.CachedBlocks(Tokens(9)), 0u);
}

TEST(SimulatedEngine, NamesBlocksByItsOwnSeed) {
  SimulatedEngine a({.seed = 1, .block_size = 1});
  SimulatedEngine same({.seed = 1, .block_size = 1});
  SimulatedEngine b({.seed = 2, .block_size = 1});
  const auto name = Stored(a.Run(Tokens(1))[0]).hashes[0];
  EXPECT_EQ(Stored(same.Run(Tokens(1))[0]).hashes[0], name);
  EXPECT_NE(Stored(b.Run(Tokens(1))[0]).hashes[0], name);
  // Not even the seed that would give Conductor's own hashes does.
  const std::vector<TokenId> tokens = Tokens(1);
  const auto own = hash::HashBlock(tokens, {}, hash::kDefaultSeed);
  SimulatedEngine trap({.seed = ~hash::kDefaultSeed, .block_size = 1});
  EXPECT_NE(static_cast<uint64_t>(Stored(trap.Run(tokens)[0]).hashes[0]),
            static_cast<uint64_t>(own));
}

// A cache as only the events tell of it: the text of a prompt up to a block, by the block's name.
class EventReplay {
 public:
  void Apply(const wire::KvEvent& event) {
    if (const auto* stored = std::get_if<wire::BlockStored>(&event)) {
      std::vector<TokenId> text;
      if (stored->parent) {
        const auto parent = texts_.find(*stored->parent);
        ASSERT_NE(parent, texts_.end()) << "stored after a block that is not there";
        text = parent->second;
      }
      ASSERT_EQ(stored->tokens.size(), stored->hashes.size() * stored->block_size);
      auto token = stored->tokens.begin();
      for (const EngineHash name : stored->hashes) {
        text.insert(text.end(), token, token + stored->block_size);
        token += stored->block_size;
        ASSERT_TRUE(texts_.emplace(name, text).second) << "stored twice";
        ASSERT_TRUE(names_.emplace(text, name).second) << "two names for one text";
      }
    } else if (const auto* removed = std::get_if<wire::BlockRemoved>(&event)) {
      for (const EngineHash name : removed->hashes) {
        const auto found = texts_.find(name);
        ASSERT_NE(found, texts_.end()) << "removed what is not there";
        names_.erase(found->second);
        texts_.erase(found);
      }
    } else {
      texts_.clear();
      names_.clear();
    }
  }

  [[nodiscard]] uint32_t CachedBlocks(std::span<const TokenId> prompt, size_t block_size) const {
    uint32_t blocks = 0;
    std::vector<TokenId> text;
    for (; prompt.size() >= block_size; prompt = prompt.subspan(block_size), ++blocks) {
      text.insert(text.end(), prompt.begin(), prompt.begin() + static_cast<ptrdiff_t>(block_size));
      if (!names_.contains(text)) break;
    }
    return blocks;
  }

  [[nodiscard]] size_t size() const { return texts_.size(); }

 private:
  std::map<EngineHash, std::vector<TokenId>> texts_;
  std::map<std::vector<TokenId>, EngineHash> names_;
};

TEST(SimulatedEngine, ItsEventsTellExactlyWhatItCaches) {
  constexpr uint32_t kBlockSize = 8;
  Workload workload({.seed = 11,
                     .system_prompts = 2,
                     .system_prompt_tokens = 24,
                     .conversations = 8,
                     .turns = 4,
                     .turn_tokens = 20});
  SimulatedEngine engine({.seed = 4, .block_size = kBlockSize, .capacity_blocks = 50});
  EventReplay replay;
  std::vector<std::vector<TokenId>> recent;
  size_t removed = 0;
  for (int i = 0; i < 4000; ++i) {
    const std::vector<TokenId> prompt = workload.Next().tokens;
    const auto events = i % 997 == 996 ? engine.Reset() : engine.Run(prompt);
    for (const wire::KvEvent& event : events) {
      replay.Apply(event);
      if (HasFatalFailure()) return;
      if (std::holds_alternative<wire::BlockRemoved>(event)) ++removed;
    }
    ASSERT_EQ(replay.size(), engine.size_blocks());
    ASSERT_LE(engine.size_blocks(), 50u);
    recent.push_back(prompt);
    if (recent.size() > 16) recent.erase(recent.begin());
    for (const std::vector<TokenId>& asked : recent) {
      ASSERT_EQ(engine.CachedBlocks(asked), replay.CachedBlocks(asked, kBlockSize)) << i;
    }
  }
  EXPECT_GT(removed, 1000u);
}

}  // namespace
}  // namespace conductor::trace
