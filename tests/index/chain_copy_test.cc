#include "lib/index/chain_copy.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <bit>
#include <cstdint>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "lib/index/chain_restore.h"

namespace conductor::index {
namespace {

using Text = std::set<std::string>;

// What the chains say, whatever pieces they are cut into: a line for each holding and each name.
Text Said(const PackedChains& chains) {
  Text said;
  std::vector<size_t> first;       // of each run in prefixes
  std::vector<std::string> place;  // of each run, what stands before it
  size_t at = 0;
  const auto block = [&](uint32_t run, uint32_t offset) {
    std::string path = place[run];
    for (uint32_t i = 0; i <= offset; ++i) {
      path += fmt::format("/{:x}", static_cast<uint64_t>(chains.prefixes[first[run] + i]));
    }
    return path;
  };
  for (const PackedChains::Run& run : chains.runs) {
    const NamespaceKey& key = chains.name_spaces[run.name_space];
    place.push_back(run.parent == PackedChains::kNoRun ? key.lora_name + ":"
                                                       : block(run.parent, run.parent_block));
    first.push_back(at);
    at += run.length;
  }
  std::map<std::tuple<uint32_t, uint32_t, uint32_t, Tier>, std::string> special;
  for (const auto& it : chains.special) {
    special[{it.run, it.block, it.holder, it.tier}] =
        fmt::format(" span {} copies {}", it.span, it.copies);
  }
  for (const auto& it : chains.holdings) {
    for (uint64_t mask = it.blocks; mask != 0; mask &= mask - 1) {
      const auto offset = static_cast<uint32_t>(std::countr_zero(mask));
      said.insert(fmt::format("holder {} {} {}{}", it.holder, TierName(it.tier),
                              block(it.run, offset),
                              special[{it.run, offset, it.holder, it.tier}]));
    }
  }
  std::map<std::pair<uint32_t, EngineHash>, uint32_t> spans;
  for (const auto& it : chains.spans) spans[{it.space, it.name}] = it.span;
  size_t name = 0;
  for (const auto& it : chains.named) {
    for (uint64_t mask = it.blocks; mask != 0; mask &= mask - 1) {
      const EngineHash hash = chains.names[name++];
      const auto span = spans.find({it.space, hash});
      said.insert(fmt::format("space {} calls {} {} {}", it.space,
                              block(it.run, static_cast<uint32_t>(std::countr_zero(mask))),
                              static_cast<uint64_t>(hash), span == spans.end() ? 1 : span->second));
    }
  }
  return said;
}

PackedChains CopyOf(const PrefixIndex& index, const std::vector<HolderId>& holders,
                    const std::vector<AliasSpace>& spaces) {
  ChainCopy copy(index, holders, spaces);
  while (copy.Step()) {
  }
  return copy.Take();
}

void Restore(ChainRestore& restore, const PackedChains& chains,
             const std::vector<HolderId>& holders, const std::vector<AliasSpace>& spaces) {
  const uint32_t base = restore.runs();
  size_t at = 0;
  for (const PackedChains::Run& run : chains.runs) {
    const bool root = run.parent == PackedChains::kNoRun;
    restore.AddRun(chains.name_spaces[run.name_space],
                   root ? std::nullopt : std::optional(base + run.parent), run.parent_block,
                   std::span(chains.prefixes).subspan(at, run.length));
    at += run.length;
  }
  for (const auto& it : chains.holdings) {
    restore.Hold(base + it.run, holders[it.holder], it.tier, it.blocks);
  }
  for (const auto& it : chains.special) {
    restore.HoldSpecial(base + it.run, it.block, holders[it.holder], it.tier, it.span, it.copies);
  }
  size_t name = 0;
  for (const auto& it : chains.named) {
    const auto count = static_cast<size_t>(std::popcount(it.blocks));
    restore.Name(base + it.run, spaces[it.space], it.blocks,
                 std::span(chains.names).subspan(name, count));
    name += count;
  }
  for (const auto& it : chains.spans) {
    restore.SetSpan(base + it.run, it.block, spaces[it.space], it.name, it.span);
  }
}

NamespaceKey Space(const std::string& lora_name) {
  return {.tenant = "t", .model = "m", .lora_name = lora_name, .block_size = 16};
}

class ChainCopyTest : public testing::Test {
 protected:
  ChainCopyTest() {
    auto writer = index_.Write();
    holder_ = writer.AddHolder({Space(""), "i", 0}, 0, true);
    space_ = writer.AddSpace(0);
  }

  void Store(const std::vector<uint64_t>& names, std::optional<uint64_t> parent = {},
             Tier tier = Tier::kGpu, uint32_t span = 1) {
    std::vector<EngineHash> hashes;
    std::vector<LocalHash> locals;
    for (const uint64_t name : names) {
      hashes.push_back(EngineHash{name});
      for (uint32_t i = 0; i < span; ++i) locals.push_back(LocalHash{name * 1000 + i});
    }
    StoreRequest request{.holder = holder_, .space = space_, .tier = tier};
    if (parent) request.parent = EngineHash{*parent};
    request.hashes = hashes;
    request.locals = locals;
    request.span = span;
    auto writer = index_.Write();
    ASSERT_EQ(writer.Store(request), StoreOutcome::kStored);
  }

  [[nodiscard]] PackedChains Copy() const { return CopyOf(index_, {holder_}, {space_}); }

  PrefixIndex index_{PrefixIndex::Options{}};
  HolderId holder_{};
  AliasSpace space_{};
};

std::vector<uint64_t> Names(uint64_t from, uint64_t to) {
  std::vector<uint64_t> names;
  for (uint64_t i = from; i <= to; ++i) names.push_back(i);
  return names;
}

TEST_F(ChainCopyTest, IsInRunsOfUpTo64Blocks) {
  Store(Names(1, 100));
  const PackedChains chains = Copy();
  ASSERT_EQ(chains.runs.size(), 2U);
  EXPECT_EQ(chains.runs[0].length, 64);
  EXPECT_EQ(chains.runs[0].parent, PackedChains::kNoRun);
  EXPECT_EQ(chains.runs[1].length, 36);
  EXPECT_EQ(chains.runs[1].parent, 0U);
  EXPECT_EQ(chains.runs[1].parent_block, 63);
  EXPECT_EQ(chains.prefixes.size(), 100U);
  EXPECT_EQ(chains.names.size(), 100U);
  EXPECT_EQ(chains.names[64], EngineHash{65});
  ASSERT_EQ(chains.holdings.size(), 2U);
  EXPECT_EQ(chains.holdings[0].blocks, ~uint64_t{0});
}

TEST_F(ChainCopyTest, TellsCopiesTiersAndSpansApart) {
  Store({1, 2, 3});
  Store({1});                     // a second copy
  Store({1, 2}, {}, Tier::kCpu);  // and on the host
  Store({7}, 3, Tier::kGpu, 4);   // a name for four blocks
  const PackedChains chains = Copy();
  ASSERT_EQ(chains.special.size(), 2U);
  EXPECT_EQ(chains.special[0].copies, 2U);
  EXPECT_EQ(chains.special[1].span, 4U);
  ASSERT_EQ(chains.spans.size(), 1U);
  EXPECT_EQ(chains.spans[0].name, EngineHash{7});
  EXPECT_EQ(chains.holdings.size(), 2U);
}

TEST_F(ChainCopyTest, HasTheBlocksThatSomethingHeldFollowsThoughNobodyHoldsThem) {
  Store(Names(1, 64));
  Store(Names(65, 70), 64);
  {
    auto writer = index_.Write();
    for (uint64_t name = 1; name <= 64; ++name) {
      EXPECT_EQ(writer.Remove(holder_, space_, Tier::kGpu, EngineHash{name}),
                RemoveOutcome::kRemoved);
    }
  }
  // Without their names, which are another's.
  ChainCopy copy(index_, std::vector{holder_}, {});
  while (copy.Step()) {
  }
  const PackedChains chains = copy.Take();
  ASSERT_EQ(chains.runs.size(), 2U);
  EXPECT_EQ(chains.runs[1].parent, 0U);
  ASSERT_EQ(chains.holdings.size(), 1U);
  EXPECT_EQ(chains.holdings[0].run, 1U);
}

TEST_F(ChainCopyTest, WhatNobodyHoldsAnyMoreKeepsItsNamesWhenRestored) {
  Store({1, 2, 3});
  {
    auto writer = index_.Write();
    (void)writer.Remove(holder_, space_, Tier::kGpu, EngineHash{3});
  }
  const PackedChains chains = Copy();
  PrefixIndex other{PrefixIndex::Options{}};
  auto writer = other.Write();
  const HolderId holder = writer.AddHolder({Space(""), "i", 0}, 0, true);
  const AliasSpace space = writer.AddSpace(0);
  ChainRestore restore(writer);
  Restore(restore, chains, {holder}, {space});
  restore.Finish();
  EXPECT_TRUE(writer.Knows(space, EngineHash{3}));
  EXPECT_FALSE(writer.Holds(holder, space, Tier::kGpu, EngineHash{3}));
  EXPECT_TRUE(writer.Holds(holder, space, Tier::kGpu, EngineHash{2}));
}

TEST_F(ChainCopyTest, ARunThatGrowsBetweenTwoPiecesLosesNothing) {
  for (uint64_t chain = 0; chain < 100; ++chain) Store(Names(chain * 100, chain * 100 + 9));
  ChainCopy copy(index_, std::vector{holder_}, std::vector{space_});
  ASSERT_TRUE(copy.Step());
  HolderId other{};
  {
    auto writer = index_.Write();
    other = writer.AddHolder({Space(""), "other", 0}, 1, true);
    const AliasSpace space = writer.AddSpace(1);
    for (uint64_t chain = 0; chain < 100; ++chain) {
      std::vector<EngineHash> hashes;
      std::vector<LocalHash> locals;
      for (uint64_t name = chain * 100; name < chain * 100 + 20; ++name) {
        hashes.push_back(EngineHash{name});
        locals.push_back(LocalHash{name * 1000});
      }
      StoreRequest request{.holder = other, .space = space, .tier = Tier::kGpu};
      request.hashes = hashes;
      request.locals = locals;
      ASSERT_EQ(writer.Store(request), StoreOutcome::kStored);
    }
  }
  while (copy.Step()) {
  }
  EXPECT_EQ(Said(copy.Take()).size(), 2000U);  // 1,000 blocks, held and named
}

// Random stores and removals of several publishers, with pools, restored into another index: it
// says the same, and is whole.
TEST(ChainCopy, WhatIsCopiedIsWhatIsRestored) {
  for (uint64_t seed = 0; seed < 60; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937_64 random(seed);
    const auto below = [&](uint64_t n) { return random() % n; };
    PrefixIndex index{PrefixIndex::Options{.released_limit = below(2) == 0 ? 65536u : 5u}};
    struct Publisher {
      std::vector<HolderId> holders;
      std::vector<AliasSpace> spaces;
    };
    std::vector<Publisher> publishers(3);
    const auto add = [&](PrefixIndex::Writer& writer, uint32_t number, Publisher& publisher) {
      for (const char* lora : {"", "a"}) {
        for (uint32_t rank = 0; rank < 2; ++rank) {
          publisher.holders.push_back(
              writer.AddHolder({Space(lora), fmt::format("i{}", number), rank}, number, true));
        }
      }
      publisher.spaces.push_back(writer.AddSpace(number, 0));
      publisher.spaces.push_back(writer.AddSpace(number, 1));
    };
    const PoolDomain domain{"t", "m", ""};
    std::vector<PoolName> in_pool;
    PoolId pool{};
    {
      auto writer = index.Write();
      for (uint32_t i = 0; i < publishers.size(); ++i) add(writer, i, publishers[i]);
      pool = writer.AddPool("p", PoolLookup::kFromStart, std::nullopt);
    }
    for (int step = 0; step < 120; ++step) {
      auto writer = index.Write();
      Publisher& publisher = publishers[below(publishers.size())];
      const HolderId holder = publisher.holders[below(publisher.holders.size())];
      const AliasSpace space = publisher.spaces[below(publisher.spaces.size())];
      const Tier tier = kTiers[below(kTierCount)];
      std::vector<EngineHash> hashes;
      std::vector<LocalHash> locals;
      const uint32_t span = below(5) == 0 ? 3 : 1;
      uint64_t name = below(300);
      for (size_t i = 1 + below(90); i > 0; --i) {
        hashes.push_back(EngineHash{++name});
        for (uint32_t j = 0; j < span; ++j) locals.push_back(LocalHash{below(20) == 0 ? 1u : 0u});
      }
      if (below(4) == 0) {
        for (const EngineHash hash : hashes) (void)writer.Remove(holder, space, tier, hash);
        continue;
      }
      if (below(6) == 0) {
        for (const EngineHash hash : hashes) {
          const PoolName called{static_cast<uint32_t>(below(2)), hash};
          writer.SetPoolBlock(pool, domain, called, below(2) == 0 ? Tier::kCpu : Tier::kDisk);
          in_pool.push_back(called);
        }
        continue;
      }
      StoreRequest request{.holder = holder, .space = space, .tier = tier};
      if (below(2) == 0) request.parent = EngineHash{hashes.front()};
      request.hashes = hashes;
      request.locals = locals;
      request.span = span;
      (void)writer.Store(request);
    }

    std::vector<PackedChains> copies;
    for (const Publisher& publisher : publishers) {
      copies.push_back(CopyOf(index, publisher.holders, publisher.spaces));
    }
    PrefixIndex other{PrefixIndex::Options{}};
    std::vector<Publisher> restored(publishers.size());
    {
      auto writer = other.Write();
      ChainRestore restore(writer);
      for (uint32_t i = 0; i < restored.size(); ++i) {
        add(writer, i, restored[i]);
        Restore(restore, copies[i], restored[i].holders, restored[i].spaces);
      }
      restore.Finish();
    }
    const Status whole = other.Validate();
    ASSERT_TRUE(whole) << whole.error().Message();
    for (size_t i = 0; i < restored.size(); ++i) {
      EXPECT_EQ(Said(CopyOf(other, restored[i].holders, restored[i].spaces)), Said(copies[i]));
      for (size_t j = 0; j < restored[i].holders.size(); ++j) {
        for (const Tier tier : kTiers) {
          EXPECT_EQ(other.HeldBlocks(restored[i].holders[j], tier),
                    index.HeldBlocks(publishers[i].holders[j], tier));
        }
      }
    }
    // Everybody leaves: nothing is left behind.
    auto writer = other.Write();
    for (const Publisher& publisher : restored) {
      for (const HolderId holder : publisher.holders) writer.DropHolder(holder);
      for (const AliasSpace space : publisher.spaces) writer.DropSpace(space);
    }
  }
}

// Of `span` blocks each.
void ExpectJoinedIsRestored(uint32_t span) {
  const PoolDomain domain{"t", "m", ""};
  PackedChains chains;
  {
    PrefixIndex index{PrefixIndex::Options{}};
    auto writer = index.Write();
    const HolderId holder = writer.AddHolder({Space(""), "i", 0}, 0, true);
    const AliasSpace space = writer.AddSpace(0);
    const std::vector<EngineHash> hashes = {EngineHash{1}, EngineHash{2}};
    std::vector<LocalHash> locals;
    for (uint64_t i = 0; i < 2 * span; ++i) locals.push_back(LocalHash{11 + i});
    StoreRequest request{.holder = holder, .space = space, .tier = Tier::kGpu};
    request.hashes = hashes;
    request.locals = locals;
    request.span = span;
    ASSERT_EQ(writer.Store(request), StoreOutcome::kStored);
    const PoolId pool = writer.AddPool("p", PoolLookup::kFromStart, std::nullopt);
    for (const EngineHash hash : hashes) {
      writer.SetPoolBlock(pool, domain, {0, hash}, Tier::kCpu);
    }
    writer.DropHolder(holder);
    writer.DropSpace(space);
    { const auto end = std::move(writer); }
    ChainCopy copy(index, {}, {});
    copy.CopyJoined({domain, 0, {{0, hashes[0]}, {0, hashes[1]}, {0, EngineHash{9}}}});
    chains = copy.Take();
  }
  ASSERT_EQ(chains.runs.size(), 1U);
  ASSERT_EQ(chains.named.size(), 1U);
  ASSERT_EQ(chains.spans.size(), span == 1 ? 0U : 2U);
  PrefixIndex other{PrefixIndex::Options{}};
  PoolId pool{};
  {
    auto writer = other.Write();
    pool = writer.AddPool("p", PoolLookup::kFromStart, std::nullopt);
    ChainRestore restore(writer);
    restore.AddRun(chains.name_spaces[0], {}, 0, chains.prefixes);
    std::vector<uint32_t> spans;
    for (const EngineHash hash : chains.names) {
      writer.SetPoolBlock(pool, domain, {0, hash}, Tier::kCpu);
      spans.push_back(1);
    }
    for (const PackedChains::Span& it : chains.spans) {
      spans[static_cast<size_t>(std::ranges::find(chains.names, it.name) - chains.names.begin())] =
          it.span;
    }
    restore.Join(0, domain, 0, chains.named[0].blocks, chains.names, spans);
    restore.Finish();
  }
  EXPECT_EQ(other.StatsOf(pool).joined, 2U);
  const Status whole = other.Validate();
  EXPECT_TRUE(whole) << whole.error().Message();
  PrefixList source(chains.prefixes);
  const NamespaceKey key = Space("");
  const Matches matches = other.Match(
      Scope{key.tenant, key.model, key.lora_name, key.block_size, key.additional_salt}, source);
  ASSERT_EQ(matches.pools.size(), 1U);
  EXPECT_EQ(matches.pools[0].cpu, 2 * span);
}

TEST(ChainCopy, WhatAPoolWasJoinedWithIsRestoredThoughItsEngineIsGone) {
  ExpectJoinedIsRestored(1);
}

TEST(ChainCopy, WhatAPoolHasUnderTheNameOfSeveralBlocksIsRestoredAsThoseBlocks) {
  ExpectJoinedIsRestored(3);
}

}  // namespace
}  // namespace conductor::index
