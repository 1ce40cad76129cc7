#include "daemon/toolkit/tap_stats.h"

#include <gtest/gtest.h>

namespace conductor::toolkit {
namespace {

constexpr int64_t kSecond = 1'000'000'000;

TapEvent Blocks(TapType type, Tier tier, uint64_t blocks) {
  return {.type = type, .publisher = "tcp://a:1", .tier = tier, .blocks = blocks};
}

TEST(TapStats, RatesAreOverTheTimeSinceTheLastView) {
  TapStats stats;
  stats.Know("tcp://b:1");
  stats.Count(Blocks(TapType::kStored, Tier::kGpu, 40));
  stats.Count(Blocks(TapType::kRemoved, Tier::kGpu, 10));
  EXPECT_EQ(stats.Table({}, 10 * kSecond, 12 * kSecond),
            "PUBLISHER  EVENTS  EV/S  +gpu/S  +cpu/S  +disk/S  -gpu/S  -cpu/S  -disk/S  CHURN  GAPS"
            "  RESTARTS  DUPS  BAD\n"
            "a:1             2   1.0      20       0        0     5.0       0        0   0.25     0"
            "         0     0    0\n"
            "b:1             0     0       0       0        0       0       0        0      -     0"
            "         0     0    0\n");
  stats.Count(Blocks(TapType::kStored, Tier::kCpu, 8));
  const std::string second = stats.Table({}, 10 * kSecond, 16 * kSecond);
  EXPECT_NE(second.find("a:1             3   0.2       0     2.0 "), std::string::npos) << second;
}

TEST(TapStats, CountsWhatIsWrong) {
  TapStats stats;
  stats.Count({.type = TapType::kGap, .publisher = "a", .count = 5});
  stats.Count({.type = TapType::kRestart, .publisher = "a"});
  stats.Count({.type = TapType::kDuplicate, .publisher = "a"});
  stats.Count({.type = TapType::kMalformed, .publisher = "a", .count = 1});
  stats.Count({.type = TapType::kSkipped, .publisher = "a", .count = 1});
  stats.Count({.type = TapType::kLost, .publisher = "b", .count = 3});
  const auto total = stats.total();
  EXPECT_EQ(total.gaps, 1u);
  EXPECT_EQ(total.missing, 5u);
  EXPECT_EQ(total.restarts, 1u);
  EXPECT_EQ(total.duplicates, 1u);
  EXPECT_EQ(total.malformed, 2u);
  EXPECT_EQ(total.lost, 3u);
  EXPECT_EQ(total.events, 0u);
  const Terminal colourful{.colour = true};
  EXPECT_NE(stats.Table(colourful, 1, kSecond).find("\x1b[31m1\x1b[0m"), std::string::npos);
}

TEST(TapStats, InANarrowTerminalFaultsStay) {
  TapStats stats;
  for (const char* name : {"tcp://10.20.30.40:5557", "tcp://10.20.30.41:5557"}) {
    stats.Count({.type = TapType::kStored, .publisher = name, .tier = Tier::kGpu, .blocks = 40});
    stats.Count({.type = TapType::kGap, .publisher = name, .count = 5});
  }
  const Terminal eighty{.interactive = true, .width = 80};
  const std::string gpu = stats.Table(eighty, kSecond, 2 * kSecond);
  EXPECT_TRUE(
      gpu.starts_with("PUBLISHER         EVENTS  EV/S  +gpu/S  -gpu/S  CHURN  GAPS  RESTARTS"
                      "  DUPS  BAD\n"
                      "10.20.30.40:5557 "))
      << gpu;
  stats.Count({.type = TapType::kStored, .publisher = "a", .tier = Tier::kCpu, .blocks = 40});
  stats.Count({.type = TapType::kStored, .publisher = "a", .tier = Tier::kDisk, .blocks = 40});
  for (const size_t width : {80u, 70u, 60u, 48u}) {
    const std::string all = stats.Table({.interactive = true, .width = width}, 1, 3 * kSecond);
    EXPECT_NE(all.find("GAPS  RESTARTS  DUPS  BAD\n"), std::string::npos) << all;
    EXPECT_NE(all.find("0:5557 "), std::string::npos) << all;
  }
}

TEST(TapStats, ATierThatIsNoneHasAColumnWhenItIsThere) {
  TapStats stats;
  stats.Count({.type = TapType::kStored, .publisher = "a", .medium = "TAPE", .blocks = 6});
  EXPECT_NE(stats.Table({}, kSecond, 2 * kSecond).find("+other/S"), std::string::npos);
}

TEST(TapStats, AsJsonTheyAreALineForEachPublisher) {
  TapStats stats;
  stats.CountMessage("tcp://a:1");
  stats.Count(Blocks(TapType::kStored, Tier::kDisk, 3));
  EXPECT_EQ(
      stats.JsonLines(1'700'000'000 * kSecond, 1'700'000'002 * kSecond),
      R"({"time":"2023-11-14T22:13:22.000000Z","type":"stats","publisher":"tcp://a:1","seconds":2.0,)"
      R"("messages":1,"events":1,"events_per_second":0.5,)"
      R"("stored_blocks":{"gpu":0,"cpu":0,"disk":3,"other":0},)"
      R"("stored_blocks_per_second":{"gpu":0.0,"cpu":0.0,"disk":1.5,"other":0.0},)"
      R"("removed_blocks":{"gpu":0,"cpu":0,"disk":0,"other":0},)"
      R"("removed_blocks_per_second":{"gpu":0.0,"cpu":0.0,"disk":0.0,"other":0.0},)"
      R"("cleared":0,"gaps":0,"missing":0,"restarts":0,"duplicates":0,"malformed":0,"lost":0})"
      "\n");
}

}  // namespace
}  // namespace conductor::toolkit
