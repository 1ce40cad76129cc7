#include "lib/base/tier.h"

#include <gtest/gtest.h>

namespace conductor {
namespace {

TEST(Tier, HasOneNameEverywhere) {
  EXPECT_EQ(TierName(Tier::kGpu), "gpu");
  EXPECT_EQ(TierName(Tier::kCpu), "cpu");
  EXPECT_EQ(TierName(Tier::kDisk), "disk");
}

TEST(Tier, IsReadFromAnyMediumThatEnginesName) {
  const struct {
    const char* medium;
    Tier tier;
  } cases[] = {
      {"", Tier::kGpu},           {"GPU", Tier::kGpu},       {"gpu", Tier::kGpu},
      {"CPU", Tier::kCpu},        {"cpu", Tier::kCpu},       {"CPU_PINNED", Tier::kCpu},
      {"CPU_TIER1", Tier::kCpu},  {"DISK", Tier::kDisk},     {"local_disk", Tier::kDisk},
      {"CPU_TIER2", Tier::kDisk}, {"STORAGE", Tier::kDisk},  {"FS", Tier::kDisk},
      {"obj", Tier::kDisk},       {"External", Tier::kDisk},
  };
  for (const auto& [medium, tier] : cases) EXPECT_EQ(TierOfMedium(medium), tier) << medium;
}

TEST(Tier, AnyOtherMediumIsNone) {
  for (const char* medium : {"TAPE", "GPU ", "CPU_TIER3", "g"}) {
    EXPECT_EQ(TierOfMedium(medium), std::nullopt) << medium;
  }
}

}  // namespace
}  // namespace conductor
