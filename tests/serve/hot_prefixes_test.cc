#include "daemon/serve/hot_prefixes.h"

#include <gtest/gtest.h>

#include <array>
#include <deque>
#include <string>
#include <vector>

namespace conductor::serve {
namespace {

const index::NamespaceKey kNamespace{"default", "m", "", 16, ""};

// A prompt whose block i has the hash first + i.
std::vector<PrefixHash> Prompt(uint64_t first, size_t blocks) {
  std::vector<PrefixHash> hashes;
  for (size_t i = 0; i < blocks; ++i) hashes.push_back(PrefixHash{first + i});
  return hashes;
}

class HotPrefixesTest : public testing::Test {
 protected:
  explicit HotPrefixesTest(HotPrefixes::Options options = {.sample_every = 1, .entries = 4})
      : hot_(options) {}

  struct Match {
    std::string instance;
    uint32_t rank;
    uint32_t blocks;
  };
  // A query of the prompt that matches so.
  void Query(const std::vector<PrefixHash>& prompt, const std::vector<Match>& found) {
    index::PrefixList list(prompt);
    HotPrefixes::Watched watched(hot_, list);
    std::array<PrefixHash, 4> out;
    while (watched.Next(out) > 0) {
    }
    index::Matches matches;
    std::deque<index::RankKey> keys;
    for (const Match& match : found) {
      keys.push_back({kNamespace, match.instance, match.rank});
      matches.ranks.push_back({.rank = &keys.back(), .disk = match.blocks});
    }
    watched.Found(matches);
  }

  HotPrefixes hot_;
};

TEST_F(HotPrefixesTest, CountsTheLastBlockThatMatched) {
  Query(Prompt(100, 8), {{"a", 0, 6}, {"b", 0, 2}});
  Query(Prompt(100, 8), {{"a", 0, 6}});
  Query(Prompt(100, 8), {{"a", 0, 8}});
  const auto sketch = hot_.Of(kNamespace, "a");
  EXPECT_EQ(sketch.counted, 3u);
  ASSERT_EQ(sketch.entries.size(), 2u);
  EXPECT_EQ(sketch.entries[0].hash, PrefixHash{105});
  EXPECT_EQ(sketch.entries[0].blocks, 6u);
  EXPECT_EQ(sketch.entries[0].count, 2u);
  EXPECT_EQ(sketch.entries[1].hash, PrefixHash{107});
  EXPECT_EQ(hot_.Of(kNamespace, "b").entries.at(0).hash, PrefixHash{101});
  EXPECT_TRUE(hot_.Of(kNamespace, "c").entries.empty());
}

TEST_F(HotPrefixesTest, AnInstanceCountsOnceByItsBestRank) {
  Query(Prompt(100, 8), {{"a", 0, 2}, {"a", 1, 5}, {"a", 2, 3}});
  const auto sketch = hot_.Of(kNamespace, "a");
  EXPECT_EQ(sketch.counted, 1u);
  ASSERT_EQ(sketch.entries.size(), 1u);
  EXPECT_EQ(sketch.entries[0].blocks, 5u);
}

TEST_F(HotPrefixesTest, WhatIsHotStaysThoughTheSketchIsFull) {
  for (uint64_t i = 0; i < 100; ++i) {
    Query(Prompt(7, 1), {{"a", 0, 1}});
    Query(Prompt(1000 + i, 1), {{"a", 0, 1}});
  }
  const auto sketch = hot_.Of(kNamespace, "a");
  ASSERT_EQ(sketch.entries.size(), 4u);
  EXPECT_EQ(sketch.entries[0].hash, PrefixHash{7});
  EXPECT_EQ(sketch.entries[0].count, 100u);
  EXPECT_EQ(sketch.entries[0].error, 0u);
  for (const auto& entry : sketch.entries) EXPECT_LE(entry.count - entry.error, 100u);
}

TEST_F(HotPrefixesTest, AnInstanceIsForgotten) {
  Query(Prompt(100, 8), {{"a", 0, 6}, {"b", 0, 2}});
  hot_.Forget("a");
  EXPECT_EQ(hot_.Of(kNamespace, "a").counted, 0u);
  EXPECT_EQ(hot_.Of(kNamespace, "b").counted, 1u);
}

class FewSketches : public HotPrefixesTest {
 protected:
  FewSketches() : HotPrefixesTest({.sample_every = 1, .max_sketches = 1}) {}
};

TEST_F(FewSketches, OthersAreNotCounted) {
  Query(Prompt(100, 8), {{"a", 0, 6}, {"b", 0, 2}});
  EXPECT_EQ(hot_.Of(kNamespace, "b").counted, 0u);
  hot_.Forget("a");
  Query(Prompt(100, 8), {{"b", 0, 2}});
  EXPECT_EQ(hot_.Of(kNamespace, "b").counted, 1u);
}

class Halving : public HotPrefixesTest {
 protected:
  Halving() : HotPrefixesTest({.sample_every = 1, .halve_at = 10}) {}
};

TEST_F(Halving, WhatWasHotLongAgoMakesRoom) {
  for (int i = 0; i < 10; ++i) Query(Prompt(1, 1), {{"a", 0, 1}});
  for (int i = 0; i < 8; ++i) Query(Prompt(2, 1), {{"a", 0, 1}});
  const auto sketch = hot_.Of(kNamespace, "a");
  EXPECT_EQ(sketch.entries.at(0).hash, PrefixHash{2});
  EXPECT_LE(sketch.counted, 10u);
}

class Sampling : public HotPrefixesTest {
 protected:
  Sampling() : HotPrefixesTest({.sample_every = 16}) {}
};

TEST_F(Sampling, OneQueryOfSoManyIsCounted) {
  for (int i = 0; i < 64; ++i) Query(Prompt(1, 1), {{"a", 0, 1}});
  EXPECT_EQ(hot_.Of(kNamespace, "a").counted, 4u);
}

}  // namespace
}  // namespace conductor::serve
