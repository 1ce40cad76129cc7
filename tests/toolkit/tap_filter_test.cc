#include "daemon/toolkit/tap_filter.h"

#include <gtest/gtest.h>

#include <initializer_list>

namespace conductor::toolkit {
namespace {

TapFilter Filter(std::initializer_list<const char*> texts) {
  TapFilter filter;
  for (const char* text : texts) {
    const Status added = filter.Add(text);
    EXPECT_TRUE(added) << added.error().Message();
  }
  return filter;
}

TapEvent Stored() {
  return {.type = TapType::kStored,
          .rank = 2,
          .tier = Tier::kCpu,
          .medium = "CPU",
          .lora = "sql",
          .parent = EngineHash{0xabc},
          .hashes = {EngineHash{0xfedcba9876543210}, EngineHash{7}}};
}

TEST(TapFilter, WithoutOneEverythingPasses) {
  EXPECT_TRUE(TapFilter().Passes(Stored()));
  EXPECT_TRUE(TapFilter().Passes({.type = TapType::kGap}));
  EXPECT_TRUE(TapFilter().Counts(Stored()));
  EXPECT_FALSE(TapFilter().Counts({.type = TapType::kGap}));
}

TEST(TapFilter, OneValueOfEachKeyMustBeThere) {
  EXPECT_TRUE(Filter({"type=removed,stored", "tier=cpu", "lora=sql", "rank=0,2"}).Passes(Stored()));
  EXPECT_TRUE(Filter({"tier=gpu", "tier=cpu"}).Passes(Stored()));
  EXPECT_FALSE(Filter({"type=removed", "tier=cpu"}).Passes(Stored()));
  EXPECT_FALSE(Filter({"tier=gpu,disk"}).Passes(Stored()));
  EXPECT_FALSE(Filter({"lora=other"}).Passes(Stored()));
  EXPECT_FALSE(Filter({"lora="}).Passes(Stored()));
  EXPECT_FALSE(Filter({"rank=1"}).Passes(Stored()));
}

TEST(TapFilter, AHashIsFoundByHowItBeginsInHexOrDecimal) {
  for (const char* prefix : {"hash=fedc", "hash=0xFEDC", "hash=18364758544493064720", "hash=1836",
                             "hash=abc", "hash=0000000000000abc", "hash=7", "hash=2748"}) {
    EXPECT_TRUE(Filter({prefix}).Passes(Stored())) << prefix;
  }
  for (const char* prefix : {"hash=dcba", "hash=99", "hash=0x1"}) {
    EXPECT_FALSE(Filter({prefix}).Passes(Stored())) << prefix;
  }
}

TEST(TapFilter, WhatSpeaksOfAllTiersHasEach) {
  const TapEvent all{.type = TapType::kCleared};
  EXPECT_TRUE(Filter({"tier=disk"}).Passes(all));
  const TapEvent none{.type = TapType::kRemoved, .medium = "TAPE"};
  EXPECT_FALSE(Filter({"tier=disk"}).Passes(none));
}

TEST(TapFilter, WhatIsSaidOfAStreamPassesUnlessTypesAreNamed) {
  const TapEvent gap{.type = TapType::kGap};
  EXPECT_TRUE(Filter({"tier=gpu", "rank=1", "hash=1", "lora=x"}).Passes(gap));
  EXPECT_FALSE(Filter({"type=stored"}).Passes(gap));
  const TapFilter named = Filter({"type=gap"});
  EXPECT_TRUE(named.Passes(gap));
  EXPECT_TRUE(named.Counts(gap));
}

TEST(TapFilter, AWrongOneSaysWhatWouldBeRight) {
  const std::pair<const char*, const char*> cases[] = {
      {"stored",
       "'stored' is no filter (expected type, tier, lora, rank or hash, and "
       "=VALUE[,VALUE...])"},
      {"colour=red", "'colour' is no key of a filter"},
      {"type=store", "'store' is no type (expected stored, removed, cleared"},
      {"tier=gpu,l2", "'l2' is no tier (expected gpu, cpu or disk)"},
      {"rank=-1", "a rank"},
      {"hash=xyz", "'xyz' does not begin a hash (expected hex or decimal digits)"},
      {"hash=", "'' does not begin a hash"},
  };
  for (const auto& [text, message] : cases) {
    TapFilter filter;
    const Status added = filter.Add(text);
    ASSERT_FALSE(added) << text;
    EXPECT_NE(added.error().Message().find(message), std::string::npos) << added.error().Message();
  }
}

}  // namespace
}  // namespace conductor::toolkit
