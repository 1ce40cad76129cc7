#include "lib/index/prefix_index.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <ostream>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace conductor::index {
namespace {

using Blocks = std::vector<uint64_t>;  // local hashes or names
using Parent = std::optional<uint64_t>;

struct Figures {
  uint32_t gpu = 0;
  uint32_t cpu = 0;
  uint32_t disk = 0;
  friend bool operator==(const Figures&, const Figures&) = default;
};
constexpr Figures kNothing{0, 0, 0};

void PrintTo(const Figures& figures, std::ostream* out) {
  *out << "{gpu " << figures.gpu << ", cpu " << figures.cpu << ", disk " << figures.disk << "}";
}

std::vector<EngineHash> Names(const Blocks& names) {
  std::vector<EngineHash> hashes;
  for (const uint64_t name : names) hashes.push_back(EngineHash{name});
  return hashes;
}

// One holder of one publisher, with one alias space; blocks are told by small local hashes.
class PrefixIndexTest : public testing::Test {
 protected:
  explicit PrefixIndexTest(size_t released_limit = 65536)
      : index_({.hash_seed = 1337, .released_limit = released_limit}) {
    auto writer = index_.Write();
    holder_ = writer.AddHolder(Rank(), 1, true);
    space_ = writer.AddSpace(1);
  }
  ~PrefixIndexTest() override {
    const Status valid = index_.Validate();
    EXPECT_TRUE(valid) << valid.error().Message();
  }

  static NamespaceKey Space(const std::string& lora_name = "") {
    return {.tenant = "default", .model = "m", .lora_name = lora_name, .block_size = 16};
  }
  static RankKey Rank(uint32_t dp_rank = 0, const std::string& lora_name = "") {
    return {Space(lora_name), std::string("i"), dp_rank};
  }

  // Fields of a StoreRequest that tests change.
  struct Store {
    std::optional<HolderId> holder;
    std::optional<AliasSpace> space;
    Tier tier = Tier::kGpu;
    CopyMode copies = CopyMode::kCount;
    uint32_t span = 1;
    std::vector<uint8_t> gone;
  };
  StoreOutcome StoreBlocks(const Blocks& names, const Blocks& locals, Parent parent,
                           const Store& how) {
    const auto hashes = Names(names);
    std::vector<LocalHash> local_hashes;
    for (const uint64_t local : locals) local_hashes.push_back(LocalHash{local});
    StoreRequest request{.holder = how.holder.value_or(holder_),
                         .space = how.space.value_or(space_),
                         .tier = how.tier,
                         .copies = how.copies,
                         .hashes = hashes,
                         .locals = local_hashes,
                         .span = how.span,
                         .gone = how.gone};
    if (parent) request.parent = EngineHash{*parent};
    return index_.Write().Store(request);
  }
  StoreOutcome StoreBlocks(const Blocks& names, const Blocks& locals, Parent parent = {}) {
    return StoreBlocks(names, locals, parent, Store{});
  }
  RemoveOutcome Remove(uint64_t name, Tier tier = Tier::kGpu) {
    return index_.Write().Remove(holder_, space_, tier, EngineHash{name});
  }
  bool Knows(uint64_t name) { return index_.Write().Knows(space_, EngineHash{name}); }
  bool Holds(uint64_t name, Tier tier = Tier::kGpu) {
    return index_.Write().Holds(holder_, space_, tier, EngineHash{name});
  }

  std::map<RankKey, Figures> AskAll(const Blocks& locals,
                                    const std::function<bool(const NamespaceKey&)>& wanted) {
    std::map<RankKey, Figures> answer;
    hashed_ = 0;
    for (const auto& [key, blocks] : index_.Namespaces()) {
      if (!wanted(key)) continue;
      size_t next = 0;
      std::optional<PrefixHash> last;
      index::FunctionSource source([&]() -> std::optional<PrefixHash> {
        if (next == locals.size()) return std::nullopt;
        const LocalHash local{locals[next++]};
        last = last ? hash::NextPrefix(*last, local, 1337) : hash::FirstPrefix(local);
        return last;
      });
      const Scope scope{key.tenant, key.model, key.lora_name, key.block_size, key.additional_salt};
      for (const RankMatch& match : index_.Match(scope, source).ranks) {
        EXPECT_TRUE(answer.emplace(*match.rank, Figures{match.gpu, match.cpu, match.disk}).second)
            << "a rank is listed twice";
      }
      hashed_ = std::max(hashed_, next);
    }
    return answer;
  }
  Figures Ask(const Blocks& locals, const RankKey& rank = Rank()) {
    const auto answer =
        AskAll(locals, [&](const NamespaceKey& key) { return key == rank.name_space; });
    const auto found = answer.find(rank);
    return found == answer.end() ? kNothing : found->second;
  }

  PrefixIndex index_;
  HolderId holder_{};
  AliasSpace space_{};
  size_t hashed_ = 0;  // prefix hashes that the last question asked for
};

TEST_F(PrefixIndexTest, AScopeIsOneNamespaceOrAllThatDifferInTheSaltAlone) {
  const auto ask = [&](const Scope& scope) {
    bool asked = false;
    index::FunctionSource source([&]() -> std::optional<PrefixHash> {
      if (std::exchange(asked, true)) return std::nullopt;
      return hash::FirstPrefix(LocalHash{1});
    });
    return index_.Match(scope, source).ranks.size();
  };
  const NamespaceKey home = Rank().name_space;
  for (const char* salt : {"", "a", "b"}) {
    for (const char* lora : {"", "x"}) {
      RankKey rank = Rank();
      rank.name_space.additional_salt = salt;
      rank.name_space.lora_name = lora;
      rank.instance_id = "other";
      Store how;
      how.holder = index_.Write().AddHolder(rank, 1, true);
      how.space = index_.Write().AddSpace(1);
      EXPECT_EQ(StoreBlocks({1}, {1}, {}, how), StoreOutcome::kStored);
    }
  }
  Scope scope{home.tenant, home.model, "", home.block_size, std::nullopt};
  EXPECT_EQ(ask(scope), 3U);
  scope.additional_salt = "a";
  EXPECT_EQ(ask(scope), 1U);
  scope.additional_salt = "c";
  EXPECT_EQ(ask(scope), 0U);
  scope.additional_salt = std::nullopt;
  scope.lora_name = "x";
  EXPECT_EQ(ask(scope), 3U);
  scope.block_size += 1;
  EXPECT_EQ(ask(scope), 0U);
}

TEST_F(PrefixIndexTest, AnEmptyIndexAnswersNothing) {
  EXPECT_TRUE(AskAll({1, 2}, [](const NamespaceKey&) { return true; }).empty());
  EXPECT_EQ(index_.Stats().blocks, 0U);
  EXPECT_EQ(index_.Stats().holders, 1U);
}

TEST_F(PrefixIndexTest, AStoredChainIsMatchedFromItsFirstBlock) {
  EXPECT_EQ(StoreBlocks({101, 102, 103}, {1, 2, 3}), StoreOutcome::kStored);
  EXPECT_EQ(Ask({1, 2, 3, 4}), (Figures{3, 3, 3}));
  EXPECT_EQ(Ask({1, 2, 9}), (Figures{2, 2, 2}));
  EXPECT_EQ(Ask({2, 3}), kNothing);
}

TEST_F(PrefixIndexTest, AnEmptyPromptIsHeldByNobody) {
  (void)StoreBlocks({101}, {1});
  EXPECT_EQ(Ask({}), kNothing);
}

TEST_F(PrefixIndexTest, OnlyRanksThatHoldTheFirstBlockAreListed) {
  (void)StoreBlocks({101, 102}, {1, 2});
  (void)Remove(101);
  EXPECT_TRUE(AskAll({1, 2}, [](const NamespaceKey&) { return true; }).empty());
}

TEST_F(PrefixIndexTest, HashingStopsWhereTheWalkStops) {
  (void)StoreBlocks({101, 102}, {1, 2});
  (void)Ask(Blocks(1000, 1));
  EXPECT_LE(hashed_, 2U);
}

TEST_F(PrefixIndexTest, AnUnknownParentChangesNothing) {
  EXPECT_EQ(StoreBlocks({102}, {2}, 101), StoreOutcome::kUnknownParent);
  EXPECT_FALSE(Knows(102));
  EXPECT_EQ(index_.Stats().blocks, 0U);
}

TEST_F(PrefixIndexTest, AParentOfAnotherNamespaceIsUnknown) {
  (void)StoreBlocks({101}, {1});
  Store how;
  how.holder = index_.Write().AddHolder(Rank(0, "a"), 1, true);
  EXPECT_EQ(StoreBlocks({102}, {2}, 101, how), StoreOutcome::kUnknownParent);
}

TEST_F(PrefixIndexTest, NamespacesAreApart) {
  Store how;
  how.holder = index_.Write().AddHolder(Rank(0, "a"), 1, true);
  (void)StoreBlocks({101}, {1}, {}, how);
  EXPECT_EQ(Ask({1}), kNothing);
  EXPECT_EQ(Ask({1}, Rank(0, "a")), (Figures{1, 1, 1}));
}

TEST_F(PrefixIndexTest, OneQuestionCanAskSeveralNamespaces) {
  Store how;
  how.holder = index_.Write().AddHolder(Rank(0, "a"), 1, true);
  (void)StoreBlocks({101}, {1}, {}, how);
  (void)StoreBlocks({102, 103}, {1, 2});
  const auto answer = AskAll({1, 2}, [](const NamespaceKey&) { return true; });
  EXPECT_EQ(answer.size(), 2U);
  EXPECT_EQ(answer.at(Rank(0, "a")), (Figures{1, 1, 1}));
  EXPECT_EQ(answer.at(Rank()), (Figures{2, 2, 2}));
}

TEST_F(PrefixIndexTest, ARankHoldsWhatAnyOfItsHoldersHolds) {
  Store how;
  how.holder = index_.Write().AddHolder(Rank(), 2, true);
  how.space = index_.Write().AddSpace(2);
  (void)StoreBlocks({7, 8}, {1, 2}, {}, how);
  (void)index_.Write().Remove(*how.holder, *how.space, Tier::kGpu, EngineHash{7});
  (void)StoreBlocks({101}, {1});
  EXPECT_EQ(Ask({1, 2}), (Figures{2, 2, 2}));
}

TEST_F(PrefixIndexTest, AnInvisibleHolderIsLeftOut) {
  (void)StoreBlocks({101}, {1});
  index_.Write().SetVisible(holder_, false);
  EXPECT_EQ(Ask({1}), kNothing);
  index_.Write().SetVisible(holder_, true);
  EXPECT_EQ(Ask({1}), (Figures{1, 1, 1}));
}

TEST_F(PrefixIndexTest, ADroppedHolderHoldsNothingAndItsNamesGoWithTheirSpace) {
  (void)StoreBlocks({101, 102}, {1, 2});
  {
    auto writer = index_.Write();
    writer.DropHolder(holder_);
    writer.DropSpace(space_);
  }
  const IndexStats stats = index_.Stats();
  EXPECT_EQ(std::tuple(stats.blocks, stats.holdings, stats.aliases, stats.holders),
            std::tuple(0U, 0U, 0U, 0U));
}

TEST_F(PrefixIndexTest, WhatIsHeldStaysWhenItsNamesGo) {
  (void)StoreBlocks({101}, {1});
  index_.Write().DropSpace(space_);
  EXPECT_EQ(Ask({1}), (Figures{1, 1, 1}));
  EXPECT_EQ(index_.Write().Clear(holder_, Tier::kGpu), 1U);
  EXPECT_EQ(Ask({1}), kNothing);
  EXPECT_EQ(index_.Stats().blocks, 0U);
}

TEST_F(PrefixIndexTest, RemoveTellsWhatItFound) {
  (void)StoreBlocks({101}, {1});
  EXPECT_EQ(Remove(999), RemoveOutcome::kUnknownName);
  EXPECT_EQ(Remove(101, Tier::kCpu), RemoveOutcome::kNotHeld);
  EXPECT_EQ(Remove(101), RemoveOutcome::kRemoved);
  EXPECT_EQ(Remove(101), RemoveOutcome::kNotHeld);
}

TEST_F(PrefixIndexTest, CopiesCountOnTheDevice) {
  (void)StoreBlocks({101}, {1});
  (void)StoreBlocks({101}, {1});
  EXPECT_EQ(index_.Stats().holdings, 1U);
  EXPECT_EQ(Remove(101), RemoveOutcome::kRemoved);
  EXPECT_TRUE(Holds(101));
  EXPECT_EQ(Remove(101), RemoveOutcome::kRemoved);
  EXPECT_FALSE(Holds(101));
}

TEST_F(PrefixIndexTest, CopiesDoNotCountElsewhereOrWhereSetIsSaid) {
  for (const Tier tier : kTiers) {
    Store how;
    how.tier = tier;
    how.copies = tier == Tier::kGpu ? CopyMode::kSet : CopyMode::kCount;
    (void)StoreBlocks({101}, {1}, {}, how);
    (void)StoreBlocks({101}, {1}, {}, how);
    EXPECT_EQ(Remove(101, tier), RemoveOutcome::kRemoved);
    EXPECT_FALSE(Holds(101, tier)) << TierName(tier);
  }
}

TEST_F(PrefixIndexTest, ClearDropsEveryCopyOfOneTier) {
  (void)StoreBlocks({101, 102}, {1, 2});
  (void)StoreBlocks({101}, {1});
  EXPECT_TRUE(
      index_.Write().StoreKnown(holder_, space_, Tier::kCpu, CopyMode::kCount, EngineHash{101}));
  EXPECT_EQ(index_.HeldBlocks(holder_, Tier::kGpu), 2U);
  EXPECT_EQ(index_.Write().Clear(holder_, Tier::kGpu), 2U);
  EXPECT_EQ(index_.HeldBlocks(holder_, Tier::kGpu), 0U);
  EXPECT_EQ(index_.HeldBlocks(holder_, Tier::kCpu), 1U);
  EXPECT_EQ(Ask({1, 2}), (Figures{0, 1, 1}));
}

TEST_F(PrefixIndexTest, StoreKnownNeedsTheNameAndItsNamespace) {
  const auto store_known = [&](HolderId holder, uint64_t name) {
    return index_.Write().StoreKnown(holder, space_, Tier::kCpu, CopyMode::kCount,
                                     EngineHash{name});
  };
  EXPECT_FALSE(store_known(holder_, 101));
  (void)StoreBlocks({101}, {1});
  EXPECT_TRUE(store_known(holder_, 101));
  const HolderId other = index_.Write().AddHolder(Rank(0, "a"), 1, true);
  EXPECT_FALSE(store_known(other, 101));
}

TEST_F(PrefixIndexTest, ANameTellsItsNamespace) {
  (void)StoreBlocks({101}, {1});
  auto writer = index_.Write();
  const NamespaceKey* key = writer.NamespaceOf(space_, EngineHash{101});
  ASSERT_NE(key, nullptr);
  EXPECT_EQ(*key, Space());
  EXPECT_EQ(writer.NamespaceOf(space_, EngineHash{999}), nullptr);
}

TEST_F(PrefixIndexTest, NamesOfOneSpaceMeanNothingInAnother) {
  (void)StoreBlocks({101}, {1});
  const AliasSpace other = index_.Write().AddSpace(1);
  EXPECT_FALSE(index_.Write().Knows(other, EngineHash{101}));
  EXPECT_EQ(index_.Write().Remove(holder_, other, Tier::kGpu, EngineHash{101}),
            RemoveOutcome::kUnknownName);
}

TEST_F(PrefixIndexTest, SeveralNamesMayStandForOneBlock) {
  (void)StoreBlocks({101}, {1});
  (void)StoreBlocks({201}, {1});
  EXPECT_EQ(index_.Stats().blocks, 1U);
  EXPECT_EQ(index_.Stats().aliases, 2U);
  EXPECT_EQ(Remove(101), RemoveOutcome::kRemoved);
  EXPECT_TRUE(Holds(201)) << "two copies of one block";
}

TEST_F(PrefixIndexTest, ADeviceStoreMovesAKnownNameAndDropsTheOldBlock) {
  (void)StoreBlocks({101}, {1});
  (void)StoreBlocks({101}, {2});
  EXPECT_EQ(Ask({1}), kNothing);
  EXPECT_EQ(Ask({2}), (Figures{1, 1, 1}));
  EXPECT_EQ(index_.Stats().name_conflicts, 1U);
  EXPECT_EQ(index_.Stats().aliases, 1U);
}

TEST_F(PrefixIndexTest, AMovedNameDropsTheOldBlockFromAllHoldersOfThePublisher) {
  (void)StoreBlocks({101}, {1});
  Store rank_one;
  rank_one.holder = index_.Write().AddHolder(Rank(1), 1, true);
  (void)StoreBlocks({101}, {1}, {}, rank_one);
  (void)index_.Write().StoreKnown(holder_, space_, Tier::kDisk, CopyMode::kCount, EngineHash{101});
  (void)StoreBlocks({101}, {2}, {}, rank_one);
  EXPECT_EQ(Ask({1}), kNothing);
  EXPECT_EQ(Ask({1}, Rank(1)), kNothing);
}

TEST_F(PrefixIndexTest, AMovedNameLeavesOtherPublishersBlocks) {
  Store other;
  other.holder = index_.Write().AddHolder(Rank(1), 2, true);
  other.space = index_.Write().AddSpace(2);
  (void)StoreBlocks({101}, {1}, {}, other);
  (void)StoreBlocks({101}, {1});
  (void)StoreBlocks({101}, {2});
  EXPECT_EQ(Ask({1}, Rank(1)), (Figures{1, 1, 1}));
}

TEST_F(PrefixIndexTest, ANameMayMoveToItsOwnChild) {
  (void)StoreBlocks({101}, {1});
  EXPECT_EQ(StoreBlocks({101}, {2}, 101), StoreOutcome::kStored);
  EXPECT_EQ(Ask({1, 2}), kNothing);
  (void)StoreBlocks({102}, {1});
  EXPECT_EQ(Ask({1, 2}), (Figures{2, 2, 2}));
}

TEST_F(PrefixIndexTest, OneNameForAllBlocksOfAnEventStandsForTheLast) {
  constexpr size_t kBlocks = 1000;
  Blocks locals;
  for (uint64_t i = 0; i < kBlocks; ++i) locals.push_back(i);
  (void)StoreBlocks(Blocks(kBlocks, 7), locals);
  EXPECT_EQ(Ask(locals), kNothing);
  EXPECT_EQ(index_.Stats().holdings, 1U);
  EXPECT_EQ(index_.Stats().aliases, 1U);
  Blocks names;
  for (uint64_t i = 1; i < kBlocks; ++i) names.push_back(1000 + i);
  locals.pop_back();
  (void)StoreBlocks(names, locals);
  EXPECT_EQ(Ask(locals).gpu, kBlocks - 1);
}

TEST_F(PrefixIndexTest, VeryManyNamesOfOneBlockDoNotPileUp) {
  (void)StoreBlocks({1}, {1});
  for (uint64_t name = 2; name < 1000; ++name) {
    (void)StoreBlocks({name}, {1});
    EXPECT_TRUE(Holds(name));
  }
  EXPECT_LE(index_.Stats().aliases, 64U);
  EXPECT_EQ(Remove(1), RemoveOutcome::kUnknownName);
  EXPECT_EQ(Remove(999), RemoveOutcome::kRemoved);
}

TEST_F(PrefixIndexTest, ARunWithVeryManyChildrenKnowsWhichOfItsBlocksStay) {
  // Far more than are searched one by one, at two blocks.
  (void)StoreBlocks({101, 102, 103}, {1, 2, 3});
  for (uint64_t i = 0; i < 100; ++i)
    (void)StoreBlocks({1000 + i}, {1000 + i}, i % 2 == 0 ? 101 : 102);
  EXPECT_EQ(Remove(103), RemoveOutcome::kRemoved);
  EXPECT_EQ(index_.Stats().released, 1U);
  EXPECT_EQ(Remove(102), RemoveOutcome::kRemoved);
  EXPECT_EQ(index_.Stats().released, 1U) << "others follow it";
  for (uint64_t i = 1; i < 100; i += 2) (void)Remove(1000 + i);
  EXPECT_EQ(index_.Stats().released, 52U);
  EXPECT_TRUE(index_.Validate());
  EXPECT_EQ(Ask({1}), (Figures{1, 1, 1}));
  for (uint64_t i = 1; i < 100; i += 2) (void)StoreBlocks({1000 + i}, {1000 + i}, 102);
  EXPECT_EQ(index_.Stats().released, 1U);
}

TEST_F(PrefixIndexTest, WhatGrewBecomesSmallAgain) {
  auto fill = [this](const Store& how, uint64_t first, uint64_t runs) {
    for (uint64_t run = first; run < first + runs; ++run) {
      Blocks blocks;
      for (uint64_t i = 0; i < 64; ++i) blocks.push_back(run * 64 + i + 1);
      (void)StoreBlocks(blocks, blocks, {}, how);
    }
  };
  fill({}, 0, 500);
  Store other;
  other.holder = index_.Write().AddHolder(Rank(1), 2, true);
  other.space = index_.Write().AddSpace(2);
  const uint64_t before = index_.Stats().bytes;
  fill(other, 500, 20'000);
  EXPECT_GT(index_.Stats().bytes, 10 * before);
  {
    auto writer = index_.Write();
    writer.DropHolder(*other.holder);
    writer.DropSpace(*other.space);
  }
  (void)index_.Write();
  EXPECT_LT(index_.Stats().bytes, 2 * before);
}

TEST_F(PrefixIndexTest, BelowTheDeviceAKnownNameWinsOverTheTokens) {
  (void)StoreBlocks({101}, {1});
  Store host;
  host.tier = Tier::kCpu;
  (void)StoreBlocks({101, 102}, {7, 2}, {}, host);
  (void)Remove(101);
  EXPECT_EQ(Ask({1, 2}), (Figures{0, 2, 2}));
  EXPECT_EQ(Ask({7, 2}), kNothing);
  EXPECT_EQ(index_.Stats().name_conflicts, 0U);
}

TEST_F(PrefixIndexTest, AGoneHashIsNamedAndNotHeld) {
  Store how;
  how.gone = {0, 1, 0};
  (void)StoreBlocks({101, 102, 103}, {1, 2, 3}, {}, how);
  EXPECT_TRUE(Knows(102));
  EXPECT_FALSE(Holds(102));
  EXPECT_EQ(Ask({1, 2, 3}), (Figures{1, 1, 1}));
  (void)StoreBlocks({102}, {2}, 101);
  EXPECT_EQ(Ask({1, 2, 3}), (Figures{3, 3, 3}));
}

// Told hashes may contradict one another: a known name takes the chain elsewhere, and from there
// the name of a block that is not held moves on.
TEST_F(PrefixIndexTest, AGoneHashWhoseNameMovesOnWithinTheEventLeavesNothingBehind) {
  const auto store = [&](Parent parent, const Blocks& names, const Blocks& told,
                         const std::vector<uint8_t>& gone) {
    const auto hashes = Names(names);
    std::vector<PrefixHash> prefixes;
    for (const uint64_t prefix : told) prefixes.push_back(PrefixHash{prefix});
    StoreRequest request{.holder = holder_, .space = space_, .tier = Tier::kGpu};
    if (parent) request.parent = EngineHash{*parent};
    request.hashes = hashes;
    request.prefixes = prefixes;
    request.gone = gone;
    return index_.Write().Store(request);
  };
  EXPECT_EQ(store({}, {101}, {7}, {}), StoreOutcome::kStored);
  EXPECT_EQ(store({}, {102}, {2}, {}), StoreOutcome::kStored);
  EXPECT_EQ(store(101, {103, 102, 103}, {2, 2, 4}, {1, 0, 1}), StoreOutcome::kStored);
  EXPECT_TRUE(Knows(103));
  EXPECT_FALSE(Holds(103));
  const IndexStats stats = index_.Stats();
  EXPECT_EQ(std::tuple(stats.blocks, stats.released, stats.aliases), std::tuple(3U, 1U, 3U));
}

TEST_F(PrefixIndexTest, ASpanIsOneNameForSeveralBlocks) {
  Store spans;
  spans.span = 2;
  (void)StoreBlocks({101, 102}, {1, 2, 3, 4}, {}, spans);
  EXPECT_EQ(index_.Stats().aliases, 2U);
  EXPECT_EQ(Ask({1, 2, 3, 4}), (Figures{4, 4, 4}));
  EXPECT_EQ(Ask({1, 2, 3}), (Figures{2, 2, 2})) << "the prompt ends within the second span";
  EXPECT_EQ(Ask({1, 2, 3, 9}), (Figures{2, 2, 2})) << "the prompt leaves the second span";
  (void)Remove(101);
  EXPECT_EQ(Ask({1, 2, 3, 4}), kNothing);
}

TEST_F(PrefixIndexTest, ASpanThatThePromptLeavesDoesNotLendItsInnerBlocks) {
  (void)StoreBlocks({101, 102, 103}, {1, 2, 3});
  (void)Remove(102);
  Store span;
  span.span = 2;
  (void)StoreBlocks({104}, {2, 9}, 101, span);
  EXPECT_EQ(Ask({1, 2, 3}), (Figures{1, 1, 1}));
  EXPECT_EQ(Ask({1, 2, 9}), (Figures{3, 3, 3}));
}

TEST_F(PrefixIndexTest, SpansOnLowerTiersMayOverlapTheDevice) {
  Store host;
  host.span = 4;
  host.tier = Tier::kCpu;
  (void)StoreBlocks({101, 102}, {1, 2});
  (void)StoreBlocks({104}, {1, 2, 3, 4}, {}, host);
  EXPECT_EQ(Ask({1, 2, 3, 4}), (Figures{2, 4, 4}));
  EXPECT_EQ(Ask({1, 2, 3}), (Figures{2, 2, 2}));
}

TEST_F(PrefixIndexTest, WhatIsHeldHasTheSpanAnnouncedLast) {
  Store span;
  span.span = 2;
  (void)StoreBlocks({102}, {1, 2}, {}, span);
  EXPECT_EQ(Ask({1, 2}), (Figures{2, 2, 2}));
  Store host;
  host.tier = Tier::kCpu;
  (void)StoreBlocks({101}, {1}, {}, host);
  (void)StoreBlocks({102}, {2}, 101);
  EXPECT_EQ(index_.Stats().name_conflicts, 0U) << "the same end, so the same block";
  EXPECT_EQ(Ask({1, 2}), (Figures{0, 1, 1})) << "only the second block is on the device";
}

// Where blocks' own hashes are told, one may be told without those before it.
TEST_F(PrefixIndexTest, ANameMovesToWhereItsSpanHasRoom) {
  const PrefixHash end = hash::NextPrefix(hash::FirstPrefix(LocalHash{1}), LocalHash{2}, 1337);
  const std::vector<EngineHash> name{EngineHash{102}};
  const std::vector<PrefixHash> told{end};
  const PoolId pool = index_.Write().AddPool("p", PoolLookup::kFromStart, std::nullopt);
  index_.Write().SetPoolBlock(pool, {"default", "m", ""}, {0, name[0]}, Tier::kCpu);
  StoreRequest request{.holder = holder_, .space = space_, .tier = Tier::kGpu, .hashes = name};
  request.prefixes = told;
  EXPECT_EQ(index_.Write().Store(request), StoreOutcome::kStored);
  EXPECT_EQ(Ask({1, 2}), kNothing);
  Store span;
  span.span = 2;
  (void)StoreBlocks({102}, {1, 2}, {}, span);
  EXPECT_EQ(Ask({1, 2}), (Figures{2, 2, 2}));
  EXPECT_EQ(index_.Stats().name_conflicts, 1U);
  EXPECT_EQ(index_.StatsOf(pool).joined, 1U);
  (void)StoreBlocks({102}, {1, 2}, {}, span);
  EXPECT_EQ(index_.Stats().name_conflicts, 1U) << "it is there";
}

TEST_F(PrefixIndexTest, BelowTheDeviceANameStaysThoughItsSpanHasNoRoom) {
  const std::vector<EngineHash> name{EngineHash{102}};
  const std::vector<PrefixHash> told{
      hash::NextPrefix(hash::FirstPrefix(LocalHash{1}), LocalHash{2}, 1337)};
  StoreRequest request{.holder = holder_, .space = space_, .tier = Tier::kGpu, .hashes = name};
  request.prefixes = told;
  EXPECT_EQ(index_.Write().Store(request), StoreOutcome::kStored);
  Store host;
  host.span = 2;
  host.tier = Tier::kCpu;
  (void)StoreBlocks({102}, {1, 2}, {}, host);
  EXPECT_EQ(index_.Stats().name_conflicts, 0U);
  EXPECT_EQ(index_.Stats().blocks, 1U);
  EXPECT_TRUE(Holds(102, Tier::kCpu));
}

TEST_F(PrefixIndexTest, AReleasedBlockIsRememberedForItsName) {
  (void)StoreBlocks({101}, {1});
  (void)Remove(101);
  EXPECT_TRUE(Knows(101));
  EXPECT_EQ(index_.Stats().blocks, 1U);
  EXPECT_EQ(index_.Stats().released, 1U);
  EXPECT_EQ(StoreBlocks({102}, {2}, 101), StoreOutcome::kStored);
  EXPECT_EQ(index_.Stats().released, 0U) << "it has a held child now";
}

TEST_F(PrefixIndexTest, StatsAndNamespacesCountWhatIsThere) {
  (void)StoreBlocks({101, 102}, {1, 2});
  (void)index_.Write().StoreKnown(holder_, space_, Tier::kCpu, CopyMode::kCount, EngineHash{101});
  const IndexStats stats = index_.Stats();
  EXPECT_EQ(stats.blocks, 2U);
  EXPECT_EQ(stats.holdings, 3U);
  EXPECT_EQ(stats.aliases, 2U);
  const auto spaces = index_.Namespaces();
  ASSERT_EQ(spaces.size(), 1U);
  EXPECT_EQ(spaces[0].key, Space());
  EXPECT_EQ(spaces[0].blocks, 2U);
}

class ForgetfulPrefixIndexTest : public PrefixIndexTest {
 protected:
  ForgetfulPrefixIndexTest() : PrefixIndexTest(2) {}
};

TEST_F(ForgetfulPrefixIndexTest, TheOldestReleasedBlockIsForgottenWithItsName) {
  (void)StoreBlocks({101}, {1});
  (void)StoreBlocks({102}, {2});
  (void)StoreBlocks({103}, {3});
  for (const uint64_t name : {101U, 102U, 103U}) (void)Remove(name);
  EXPECT_FALSE(Knows(101));
  EXPECT_TRUE(Knows(102));
  EXPECT_TRUE(Knows(103));
  EXPECT_EQ(index_.Stats().released, 2U);
}

TEST_F(ForgetfulPrefixIndexTest, OfOneChainTheLeafIsForgottenFirst) {
  (void)StoreBlocks({101, 102, 103}, {1, 2, 3});
  for (const uint64_t name : {101U, 102U, 103U}) (void)Remove(name);
  EXPECT_FALSE(Knows(103));
  EXPECT_TRUE(Knows(101));
}

TEST_F(ForgetfulPrefixIndexTest, WhatOneWriterReleasesAndStoresAgainIsNotForgotten) {
  (void)StoreBlocks({101, 102, 103, 104}, {1, 2, 3, 4});
  auto writer = index_.Write();
  (void)writer.Clear(holder_, Tier::kGpu);
  EXPECT_TRUE(writer.StoreKnown(holder_, space_, Tier::kGpu, CopyMode::kCount, EngineHash{104}));
}

// --- Questions by hashes.

TEST_F(PrefixIndexTest, BlocksAreFoundByTheirPrefixHashes) {
  StoreBlocks({1, 2, 3}, {11, 12, 13});
  std::vector<PrefixHash> chain = {hash::FirstPrefix(LocalHash{11})};
  chain.push_back(hash::NextPrefix(chain.back(), LocalHash{12}, 1337));
  chain.push_back(hash::NextPrefix(chain.back(), LocalHash{99}, 1337));
  PrefixList source(chain);
  const NamespaceKey key = Rank().name_space;
  const Matches matches = index_.Match(
      Scope{key.tenant, key.model, key.lora_name, key.block_size, key.additional_salt}, source);
  ASSERT_EQ(matches.ranks.size(), 1U);
  EXPECT_EQ(matches.ranks[0].gpu, 2U);
  EXPECT_EQ(matches.walked, 3U);
}

}  // namespace
}  // namespace conductor::index
