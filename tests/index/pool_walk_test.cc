#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "lib/hash/block_hash.h"
#include "lib/index/prefix_index.h"

// Lookups where pools fill the gaps of ranks, over chains of several runs, against what a look at
// every block says.
namespace conductor::index {
namespace {

constexpr uint32_t kBlocks = 200;
using Bits = std::array<uint8_t, kBlocks>;  // a bit for each tier

constexpr uint8_t Bit(Tier tier) { return static_cast<uint8_t>(1u << static_cast<unsigned>(tier)); }

uint32_t Extend(const Bits& bits, uint32_t from, uint8_t tiers) {
  while (from < kBlocks && (bits[from] & tiers) != 0) ++from;
  return from;
}

struct Figures {
  uint32_t gpu = 0;
  uint32_t cpu = 0;
  uint32_t disk = 0;
  friend bool operator==(const Figures&, const Figures&) = default;
};

// design: the device run from block 0, from there the host, from there host and disk.
Figures Of(const Bits& rank, const std::vector<Bits>& pools) {
  constexpr uint8_t kHost = Bit(Tier::kCpu);
  constexpr uint8_t kBelow = Bit(Tier::kCpu) | Bit(Tier::kDisk);
  Figures figures;
  figures.gpu = Extend(rank, 0, Bit(Tier::kGpu));
  figures.cpu = Extend(rank, figures.gpu, kHost);
  figures.disk = Extend(rank, figures.cpu, kBelow);
  for (const Bits& pool : pools) {
    Bits both{};
    for (uint32_t i = 0; i < kBlocks; ++i) both[i] = rank[i] | pool[i];
    const uint32_t cpu = Extend(both, figures.gpu, kHost);
    figures.disk = std::max(figures.disk, Extend(both, cpu, kBelow));
    figures.cpu = std::max(figures.cpu, cpu);
  }
  return figures;
}

class PoolWalk : public testing::TestWithParam<uint64_t> {
 protected:
  // Some stretches of the chain; mostly long ones, which cover runs whole.
  std::vector<std::pair<uint32_t, uint32_t>> Stretches() {
    std::vector<std::pair<uint32_t, uint32_t>> stretches;
    uint32_t at = random_() % 3 == 0 ? 0 : static_cast<uint32_t>(random_() % 100);
    while (at < kBlocks) {
      const uint32_t length = 1 + static_cast<uint32_t>(random_() % (random_() % 2 == 0 ? 8 : 140));
      stretches.emplace_back(at, std::min(at + length, kBlocks));
      at += length + static_cast<uint32_t>(random_() % 40);
    }
    return stretches;
  }
  Tier AnyTier() { return static_cast<Tier>(random_() % 3); }

  std::mt19937_64 random_{GetParam()};
};

TEST_P(PoolWalk, GivesWhatEveryBlockSays) {
  PrefixIndex index({});
  std::vector<LocalHash> locals;
  std::vector<EngineHash> names;
  std::vector<PrefixHash> chain;
  for (uint32_t i = 0; i < kBlocks; ++i) {
    locals.push_back(LocalHash{random_()});
    names.push_back(EngineHash{random_()});
    chain.push_back(i == 0 ? hash::FirstPrefix(locals[0])
                           : hash::NextPrefix(chain.back(), locals[i], hash::kDefaultSeed));
  }
  constexpr size_t kRanks = 6;
  std::vector<Bits> ranks(kRanks);
  std::vector<Bits> pools(1 + random_() % 2);
  auto writer = std::make_unique<PrefixIndex::Writer>(index.Write());
  for (uint32_t r = 0; r < kRanks; ++r) {
    const RankKey key{
        .name_space = {.model = "m", .block_size = 16}, .instance_id = "i", .dp_rank = r};
    const HolderId holder = writer->AddHolder(key, r, true);
    const AliasSpace space = writer->AddSpace(r);
    StoreRequest request{.holder = holder, .space = space, .tier = Tier::kGpu};
    request.hashes = names;
    request.locals = locals;
    ASSERT_EQ(writer->Store(request), StoreOutcome::kStored);
    (void)writer->Clear(holder, Tier::kGpu);
    if (r == 0) continue;  // holds nothing
    for (const auto& [from, to] : Stretches()) {
      const Tier tier = AnyTier();
      for (uint32_t i = from; i < to; ++i) {
        ASSERT_TRUE(writer->StoreKnown(holder, space, tier, CopyMode::kSet, names[i]));
        ranks[r][i] |= Bit(tier);
      }
    }
  }
  for (Bits& pool : pools) {
    const PoolId id = writer->AddPool("pool", PoolLookup::kContinue, std::nullopt);
    for (const auto& [from, to] : Stretches()) {
      const Tier tier = random_() % 2 == 0 ? Tier::kCpu : Tier::kDisk;
      for (uint32_t i = from; i < to; ++i) {
        writer->SetPoolBlock(id, {"", "m", ""}, {0, names[i]}, tier);
        pool[i] = Bit(tier);
      }
    }
  }
  writer.reset();

  std::map<uint32_t, Figures> expected;
  for (uint32_t r = 0; r < kRanks; ++r) {
    const Figures figures = Of(ranks[r], pools);
    if (figures.disk > 0) expected[r] = figures;
  }
  std::map<uint32_t, Figures> found;
  PrefixList source(chain);
  for (const RankMatch& match : index.Match({"", "m", "", 16, {}}, source).ranks) {
    found[match.rank->dp_rank] = {match.gpu, match.cpu, match.disk};
  }
  ASSERT_EQ(found.size(), expected.size());
  for (const auto& [rank, figures] : expected) {
    EXPECT_EQ(found[rank].gpu, figures.gpu) << rank;
    EXPECT_EQ(found[rank].cpu, figures.cpu) << rank;
    EXPECT_EQ(found[rank].disk, figures.disk) << rank;
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, PoolWalk, testing::Range(uint64_t{0}, uint64_t{300}));

}  // namespace
}  // namespace conductor::index
