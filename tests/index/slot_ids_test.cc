#include "lib/index/slot_ids.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <random>
#include <set>
#include <vector>

namespace conductor::index {
namespace {

using Ids = SlotIds<64>;

TEST(SlotIds, TakeTheLowestThatIsFree) {
  Ids ids(1000);
  for (uint32_t i = 0; i < 200; ++i) EXPECT_EQ(ids.Take(), i);
  ids.Free(130);
  ids.Free(7);
  EXPECT_EQ(ids.Take(), 7U);
  EXPECT_EQ(ids.Take(), 130U);
  EXPECT_EQ(ids.Take(), 200U);
  EXPECT_EQ(ids.count(), 201U);
}

TEST(SlotIds, EndAtTheirLimit) {
  Ids ids(128);
  for (uint32_t i = 0; i < 128; ++i) (void)ids.Take();
  EXPECT_THROW((void)ids.Take(), std::bad_alloc);
  ids.Free(5);
  EXPECT_EQ(ids.Take(), 5U);
}

TEST(SlotIds, GiveBackPagesThatNothingIsIn) {
  Ids ids(1 << 20);
  constexpr uint32_t kPages = 100;
  for (uint32_t i = 0; i < kPages * 64; ++i) (void)ids.Take();
  EXPECT_EQ(ids.resident_pages(), kPages);
  EXPECT_FALSE(ids.ShouldGiveBack());
  for (uint32_t i = 64; i < kPages * 64; ++i) ids.Free(i);
  EXPECT_EQ(ids.resident_pages(), kPages);
  ASSERT_TRUE(ids.ShouldGiveBack());
  const std::vector<uint32_t> idle = ids.TakeIdle();
  EXPECT_EQ(idle.size(), kPages - 1);
  EXPECT_FALSE(ids.ShouldGiveBack());
  // On their way nothing is taken from them.
  EXPECT_EQ(ids.Take(), kPages * 64);
  ids.Returned(idle);
  EXPECT_EQ(ids.resident_pages(), 2U);
  EXPECT_EQ(ids.Take(), 64U);
  EXPECT_EQ(ids.resident_pages(), 3U);
}

TEST(SlotIds, KnowWhatIsTakenThroughAnyHistory) {
  Ids ids(1 << 20);
  std::set<uint32_t> taken;
  std::mt19937_64 random(1);
  uint32_t wanted = 0;
  for (int i = 0; i < 100'000; ++i) {
    if (i % 1000 == 0) wanted = static_cast<uint32_t>(random() % 8000);
    if (taken.size() < wanted || taken.empty()) {
      EXPECT_TRUE(taken.insert(ids.Take()).second);
    } else {
      const auto at = std::next(taken.begin(), static_cast<int>(random() % taken.size() % 50));
      ids.Free(*at);
      taken.erase(at);
    }
    if (ids.ShouldGiveBack()) ids.Returned(ids.TakeIdle());
  }
  std::vector<uint32_t> in_use;
  ids.ForEach([&](uint32_t id) { in_use.push_back(id); });
  EXPECT_EQ(in_use, std::vector<uint32_t>(taken.begin(), taken.end()));
  EXPECT_EQ(ids.count(), taken.size());
}

}  // namespace
}  // namespace conductor::index
