#include "lib/index/id_table.h"

#include <cstdint>
#include <random>
#include <vector>

#include <gtest/gtest.h>

namespace conductor::index {
namespace {

struct Keys {
  std::vector<uint64_t> hashes;

  [[nodiscard]] uint64_t HashOf(uint32_t id) const { return hashes.at(id); }
  void PrefetchFirst(uint32_t) const {}
  void PrefetchSecond(uint32_t) const {}
};

class IdTableTest : public testing::Test {
 protected:
  void Add(uint64_t hash) {
    keys_.hashes.push_back(hash);
    table_.Insert(hash, static_cast<uint32_t>(keys_.hashes.size() - 1));
  }
  bool Finds(uint32_t id) {
    return table_.Find(keys_.hashes[id], [&](uint32_t found) { return found == id; }) == id;
  }

  Keys keys_;
  IdTable<Keys> table_{keys_};
};

TEST_F(IdTableTest, FindsAllOfManyAfterSegmentsWereSplit) {
  std::mt19937_64 random(1);
  constexpr uint32_t kMany = 200'000;
  for (uint32_t i = 0; i < kMany; ++i) Add(random());
  for (uint32_t i = 0; i < kMany; ++i) ASSERT_TRUE(Finds(i)) << i;
  EXPECT_EQ(table_.size(), kMany);
  EXPECT_LT(table_.bytes(), kMany * 7);
  EXPECT_EQ(table_.Find(random(), [](uint32_t) { return false; }), table_.kNone);
}

TEST_F(IdTableTest, NeverGrowsWhereRoomWasReserved) {
  std::mt19937_64 random(4);
  constexpr uint32_t kMany = 200'000;
  table_.Reserve(kMany);
  const uint64_t bytes = table_.bytes();
  EXPECT_LT(bytes, kMany * 7);
  for (uint32_t i = 0; i < kMany; ++i) Add(random());
  EXPECT_EQ(table_.bytes(), bytes);
  for (uint32_t i = 0; i < kMany; ++i) ASSERT_TRUE(Finds(i)) << i;
  // What is there is not put anywhere else.
  table_.Reserve(2 * kMany);
  EXPECT_EQ(table_.bytes(), bytes);
  ASSERT_TRUE(Finds(kMany - 1));
}

TEST_F(IdTableTest, TakesMoreThanWasReserved) {
  std::mt19937_64 random(5);
  constexpr uint32_t kMany = 50'000;
  table_.Reserve(kMany / 10);
  for (uint32_t i = 0; i < kMany; ++i) Add(random());
  for (uint32_t i = 0; i < kMany; ++i) ASSERT_TRUE(Finds(i)) << i;
  EXPECT_LT(table_.bytes(), kMany * 7);
}

TEST_F(IdTableTest, KeepsVeryManyIdsOfOneHash) {
  std::mt19937_64 random(2);
  for (uint32_t i = 0; i < 50'000; ++i) Add(i % 2 == 0 ? random() : 42);
  uint32_t seen = 0;
  (void)table_.Find(42, [&](uint32_t id) {
    seen += keys_.hashes[id] == 42 ? 1 : 0;
    return false;
  });
  EXPECT_EQ(seen, 25'000U);
}

TEST_F(IdTableTest, FindsWhatIsLeftAfterLongExchange) {
  std::mt19937_64 random(3);
  constexpr uint32_t kLive = 5'000;
  for (uint32_t i = 0; i < kLive; ++i) Add(random());
  const uint64_t bytes = table_.bytes();
  for (int i = 0; i < 200'000; ++i) {
    const auto id = static_cast<uint32_t>(random() % kLive);
    table_.Erase(keys_.hashes[id], id);
    keys_.hashes[id] = random();
    table_.Insert(keys_.hashes[id], id);
  }
  for (uint32_t i = 0; i < kLive; ++i) ASSERT_TRUE(Finds(i)) << i;
  EXPECT_EQ(table_.size(), kLive);
  EXPECT_LT(table_.bytes(), bytes * 3 / 2);
}

TEST_F(IdTableTest, BecomesSmallWhereItWasLarge) {
  std::mt19937_64 random(5);
  constexpr uint32_t kMany = 200'000;
  constexpr uint32_t kFew = 10'000;
  for (uint32_t i = 0; i < kMany; ++i) Add(random());
  for (uint32_t i = kFew; i < kMany; ++i) table_.Erase(keys_.hashes[i], i);
  for (uint32_t i = 0; i < kFew; ++i) ASSERT_TRUE(Finds(i)) << i;
  EXPECT_LT(table_.bytes(), kFew * 13);
}

TEST_F(IdTableTest, FindsNothingThatWasErased) {
  std::mt19937_64 random(4);
  for (uint32_t i = 0; i < 1'000; ++i) Add(random());
  for (uint32_t i = 0; i < 1'000; i += 2) table_.Erase(keys_.hashes[i], i);
  for (uint32_t i = 0; i < 1'000; ++i) EXPECT_EQ(Finds(i), i % 2 == 1) << i;
}

}  // namespace
}  // namespace conductor::index
