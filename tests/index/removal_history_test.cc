#include "lib/index/removal_history.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "lib/index/prefix_index.h"

namespace conductor::index {
namespace {

using Numbers = std::vector<uint64_t>;

std::shared_ptr<const RankKey> Rank(const std::string& instance_id) {
  return std::make_shared<const RankKey>(RankKey{{"t", "m", "", 16, ""}, instance_id, 0});
}

std::vector<Removal> FindAll(const RemovalHistory& history, const std::string& instance_id,
                             const Numbers& blocks) {
  std::vector<PrefixHash> wanted;
  for (const uint64_t block : blocks) wanted.push_back(PrefixHash{block});
  std::vector<Removal> found;
  history.Find(instance_id, wanted, 0, ~uint64_t{0}, found);
  return found;
}

TEST(RemovalHistory, TellsWhatWasSaidOfABlock) {
  RemovalHistory history(4);
  const uint32_t source = history.AddSource(Rank("a"), "a|t|0");
  history.AddBlock(source, RemovalCause::kExpired, Tier::kDisk, PrefixHash{7}, 1,
                   {9, 1700000000.5});
  history.AddBlock(source, RemovalCause::kTrimmed, Tier::kGpu, PrefixHash{8}, 40, {});
  const auto found = FindAll(history, "a", {7});
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].cause, RemovalCause::kExpired);
  EXPECT_EQ(found[0].tier, Tier::kDisk);
  EXPECT_EQ(found[0].block, PrefixHash{7});
  EXPECT_EQ(found[0].occasion.sequence, 9U);
  EXPECT_DOUBLE_EQ(found[0].occasion.unix_time, 1700000000.5);
  EXPECT_EQ(found[0].publisher, "a|t|0");
  EXPECT_EQ(found[0].rank->instance_id, "a");
  const auto other = FindAll(history, "a", {8});
  ASSERT_EQ(other.size(), 1U);
  EXPECT_EQ(other[0].blocks, 40U);
  EXPECT_EQ(other[0].occasion.sequence, std::nullopt);
  EXPECT_EQ(other[0].occasion.unix_time, 0);
  EXPECT_TRUE(FindAll(history, "b", {7, 8}).empty());
}

TEST(RemovalHistory, KeepsTheLastOnesNewestFirst) {
  RemovalHistory history(3);
  const uint32_t source = history.AddSource(Rank("a"), "a");
  for (uint64_t block = 0; block < 8; ++block) {
    history.AddBlock(source, RemovalCause::kRemoved, Tier::kGpu, PrefixHash{block}, 1, {block, 1});
  }
  Numbers blocks;
  for (const Removal& removal : FindAll(history, "a", {0, 1, 2, 3, 4, 5, 6, 7})) {
    EXPECT_EQ(removal.number, static_cast<uint64_t>(*removal.block));
    blocks.push_back(removal.number);
  }
  EXPECT_EQ(blocks, (Numbers{7, 6, 5}));
  EXPECT_EQ(history.first(), 5U);
  EXPECT_EQ(history.end(), 8U);
}

TEST(RemovalHistory, WhatWentAtOnceIsFoundWhateverIsAskedFor) {
  RemovalHistory history(4);
  const uint32_t source = history.AddSource(Rank("a"), "a");
  history.AddAll(source, RemovalCause::kCleared, Tier::kCpu, 1000, {3, 2});
  const auto found = FindAll(history, "a", {});
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].block, std::nullopt);
  EXPECT_EQ(found[0].blocks, 1000U);
}

TEST(RemovalHistory, ForgetsWhoLeftWithTheirLastEntry) {
  RemovalHistory history(2);
  const uint32_t gone = history.AddSource(Rank("gone"), "gone");
  history.AddAll(gone, RemovalCause::kUnregistered, Tier::kGpu, 1, {});
  history.Retire(gone);
  const uint32_t stays = history.AddSource(Rank("stays"), "stays");
  history.AddBlock(stays, RemovalCause::kRemoved, Tier::kGpu, PrefixHash{1}, 1, {});
  EXPECT_EQ(history.sources(), 2U);
  EXPECT_EQ(FindAll(history, "gone", {}).size(), 1U);
  history.AddBlock(stays, RemovalCause::kRemoved, Tier::kGpu, PrefixHash{2}, 1, {});
  EXPECT_EQ(history.sources(), 1U);
  EXPECT_TRUE(FindAll(history, "gone", {}).empty());
  // One that never lost anything leaves nothing.
  history.Retire(history.AddSource(Rank("idle"), "idle"));
  EXPECT_EQ(history.sources(), 1U);
}

TEST(RemovalHistory, TimesThatNoClockShowsAreNotKnown) {
  RemovalHistory history(4);
  const uint32_t source = history.AddSource(Rank("a"), "a");
  for (const double time : {-1.0, 1e300, 0.0}) {
    history.AddBlock(source, RemovalCause::kRemoved, Tier::kGpu, PrefixHash{1}, 1, {0, time});
  }
  for (const Removal& removal : FindAll(history, "a", {1})) {
    EXPECT_EQ(removal.occasion.unix_time, 0);
    EXPECT_EQ(removal.occasion.sequence, 0U);
  }
}

TEST(RemovalHistory, WithoutRoomNothingIsRemembered) {
  RemovalHistory history(0);
  const uint32_t source = history.AddSource(Rank("a"), "a");
  history.AddBlock(source, RemovalCause::kRemoved, Tier::kGpu, PrefixHash{1}, 1, {});
  history.AddAll(source, RemovalCause::kCleared, Tier::kGpu, 1, {});
  EXPECT_TRUE(FindAll(history, "a", {1}).empty());
  EXPECT_EQ(history.sources(), 0U);
}

// --- What the index remembers.

// One publisher's rank; block i of a chain has the local hash and the name i.
class IndexHistoryTest : public testing::Test {
 protected:
  explicit IndexHistoryTest(const PrefixIndex::Options& options = {}) : index_(options) {
    auto writer = index_.Write();
    holder_ = writer.AddHolder({key_, "i", 0}, 1, true, "i|default|0");
    space_ = writer.AddSpace(1);
  }

  void Store(Tier tier, uint64_t blocks) {
    std::vector<EngineHash> names;
    std::vector<LocalHash> locals;
    for (uint64_t i = 0; i < blocks; ++i) {
      names.push_back(EngineHash{i});
      locals.push_back(LocalHash{i});
    }
    StoreRequest request{.holder = holder_, .space = space_, .tier = tier};
    request.hashes = names;
    request.locals = locals;
    ASSERT_EQ(index_.Write().Store(request), StoreOutcome::kStored);
  }
  RemoveOutcome Remove(Tier tier, uint64_t name, const Occasion& occasion = {}) {
    return index_.Write(occasion).Remove(holder_, space_, tier, EngineHash{name});
  }

  [[nodiscard]] std::vector<PrefixHash> Chain(uint64_t blocks) const {
    std::vector<PrefixHash> chain;
    for (uint64_t i = 0; i < blocks; ++i) {
      chain.push_back(
          chain.empty() ? hash::FirstPrefix(LocalHash{i})
                        : hash::NextPrefix(chain.back(), LocalHash{i}, index_.options().hash_seed));
    }
    return chain;
  }
  // What is remembered of block `block`, and of all of the rank.
  [[nodiscard]] std::vector<Removal> Of(uint64_t block) const {
    const std::vector<PrefixHash> wanted{Chain(block + 1).back()};
    return index_.Removals(key_, "i", wanted);
  }

  const NamespaceKey key_{"default", "m", "", 16, ""};
  PrefixIndex index_;
  HolderId holder_{};
  AliasSpace space_{};
};

TEST_F(IndexHistoryTest, ABlockThatWasRemovedIsRememberedWithItsOccasion) {
  Store(Tier::kGpu, 3);
  EXPECT_EQ(Remove(Tier::kGpu, 2, {41, 5.25}), RemoveOutcome::kRemoved);
  const auto of_last = Of(2);
  ASSERT_EQ(of_last.size(), 1U);
  EXPECT_EQ(of_last[0].cause, RemovalCause::kRemoved);
  EXPECT_EQ(of_last[0].occasion.sequence, 41U);
  EXPECT_EQ(of_last[0].occasion.unix_time, 5.25);
  EXPECT_EQ(of_last[0].publisher, "i|default|0");
  EXPECT_TRUE(Of(1).empty());
  EXPECT_TRUE(index_.Removals({"default", "other", "", 16, ""}, "i", Chain(3)).empty());
}

TEST_F(IndexHistoryTest, TheLastCopyCounts) {
  Store(Tier::kGpu, 1);
  Store(Tier::kGpu, 1);
  EXPECT_EQ(Remove(Tier::kGpu, 0), RemoveOutcome::kRemoved);
  EXPECT_TRUE(Of(0).empty());
  EXPECT_EQ(Remove(Tier::kGpu, 0), RemoveOutcome::kRemoved);
  EXPECT_EQ(Of(0).size(), 1U);
  EXPECT_EQ(Remove(Tier::kGpu, 0), RemoveOutcome::kNotHeld);
  EXPECT_EQ(Of(0).size(), 1U);
}

TEST_F(IndexHistoryTest, AClearIsOneEntryForItsTier) {
  Store(Tier::kGpu, 100);
  Store(Tier::kCpu, 2);
  EXPECT_EQ(index_.Write({7, 3}).Clear(holder_, Tier::kGpu), 100U);
  EXPECT_EQ(index_.Write({8, 4}).Clear(holder_, Tier::kGpu), 0U);
  const auto found = Of(5);
  ASSERT_EQ(found.size(), 1U) << "nothing was left to clear again";
  EXPECT_EQ(found[0].cause, RemovalCause::kCleared);
  EXPECT_EQ(found[0].tier, Tier::kGpu);
  EXPECT_EQ(found[0].blocks, 100U);
  EXPECT_EQ(found[0].occasion.sequence, 7U);
}

TEST_F(IndexHistoryTest, OfAllThatWasHeldTheNewestEntryIsTold) {
  for (uint64_t i = 0; i < 5; ++i) {
    Store(Tier::kGpu, 1);
    index_.Write({i, 1}).Clear(holder_, Tier::kGpu);
  }
  const auto found = Of(0);
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].occasion.sequence, 4U);
}

TEST_F(IndexHistoryTest, WhoLeavesIsRememberedByTheReason) {
  Store(Tier::kGpu, 4);
  index_.Write({std::nullopt, 9}).DropHolder(holder_, RemovalCause::kNewLife);
  const auto left = index_.LastLeft("i");
  ASSERT_TRUE(left);
  EXPECT_EQ(left->cause, RemovalCause::kNewLife);
  EXPECT_EQ(left->blocks, 4U);
  EXPECT_FALSE(index_.LastLeft("j"));
}

TEST_F(IndexHistoryTest, WhatNobodySawLeavesNoTrace) {
  index_.Write().SetVisible(holder_, false);
  Store(Tier::kGpu, 4);
  index_.Write().DropHolder(holder_);
  EXPECT_FALSE(index_.LastLeft("i"));
}

TEST_F(IndexHistoryTest, ANameForOtherTokensTakesTheBlockAway) {
  Store(Tier::kGpu, 2);
  const std::vector<EngineHash> names{EngineHash{1}};
  const std::vector<LocalHash> locals{LocalHash{77}};
  StoreRequest request{.holder = holder_, .space = space_, .tier = Tier::kGpu};
  request.hashes = names;
  request.locals = locals;
  ASSERT_EQ(index_.Write().Store(request), StoreOutcome::kStored);
  const auto found = Of(1);
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].cause, RemovalCause::kRenamed);
}

TEST_F(IndexHistoryTest, LookTellsWhoHoldsABlock) {
  Store(Tier::kGpu, 3);
  Store(Tier::kCpu, 1);
  const BlockView first = index_.Look(key_, Chain(1));
  EXPECT_TRUE(first.known);
  ASSERT_EQ(first.holdings.size(), 1U);
  EXPECT_EQ(first.holdings[0].rank->instance_id, "i");
  EXPECT_EQ(first.holdings[0].on, (std::array{true, true, false}));
  EXPECT_EQ(Remove(Tier::kGpu, 2), RemoveOutcome::kRemoved);
  const BlockView last = index_.Look(key_, Chain(3));
  EXPECT_TRUE(last.known) << "it is remembered for its name";
  EXPECT_TRUE(last.holdings.empty());
  EXPECT_FALSE(index_.Look(key_, Chain(4)).known);
  EXPECT_FALSE(index_.Look({"default", "other", "", 16, ""}, Chain(1)).known);
}

class SmallIndexHistoryTest : public IndexHistoryTest {
 protected:
  SmallIndexHistoryTest() : IndexHistoryTest({.memory_limit = 1 << 20}) {}
};

TEST_F(SmallIndexHistoryTest, WhatIsGivenUpForRoomIsRememberedByRun) {
  Store(Tier::kGpu, 64);  // announced first: given up first
  for (uint64_t i = 1; index_.TrimmedOf(holder_) == 0; ++i) {
    ASSERT_LT(i, 100'000U);
    std::vector<EngineHash> names;
    std::vector<LocalHash> locals;
    for (uint64_t j = 0; j < 64; ++j) {
      names.push_back(EngineHash{1000 * i + j});
      locals.push_back(LocalHash{1000 * i + j});
    }
    StoreRequest request{.holder = holder_, .space = space_, .tier = Tier::kGpu};
    request.hashes = names;
    request.locals = locals;
    ASSERT_EQ(index_.Write({i, 1}).Store(request), StoreOutcome::kStored);
  }
  const auto found = Of(0);
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].cause, RemovalCause::kTrimmed);
  EXPECT_EQ(found[0].blocks, 64U);
}

}  // namespace
}  // namespace conductor::index
