#include "daemon/proxy/fleet.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

namespace conductor::proxy {
namespace {

using std::chrono::seconds;

class FleetTest : public testing::Test {
 protected:
  FleetTest() {
    for (const char* name : {"10.0.0.1:1", "10.0.0.2:1"}) Add(Role::kPrefill, name);
    Add(Role::kDecode, "10.0.0.3:1");
  }

  void Add(Role role, const char* name) { ASSERT_TRUE(fleet_.Add(role, *EngineSpec::Parse(name))); }
  Dispatch Pick(Role role, Fleet::Wish wish = {}) {
    auto picked = fleet_.Pick(role, wish, MonoNow());
    return picked ? *std::move(picked) : Dispatch();
  }
  Fleet::Standing Standing(const std::string& name) {
    for (const auto& one : fleet_.Engines(MonoNow())) {
      if (one.engine->name() == name) return one;
    }
    return {};
  }

  Fleet fleet_{{.breaker = {.failures = 2, .pause = seconds(1000)}}};
};

TEST_F(FleetTest, LoadCountsFromTheChoiceOnAndIsReleasedOnce) {
  Dispatch first = Pick(Role::kPrefill, {.load = 3});
  const std::string busy = first.engine().name();
  EXPECT_EQ(Standing(busy).load, 3);
  EXPECT_NE(Pick(Role::kPrefill).engine().name(), busy);
  Dispatch moved = std::move(first);
  first.Release();
  EXPECT_EQ(Standing(busy).in_flight, 1u);
  moved.Release();
  moved.Release();
  EXPECT_EQ(Standing(busy).in_flight, 0u);
  EXPECT_EQ(Standing(busy).load, 0);
  EXPECT_EQ(Standing(busy).served, 1u);
}

TEST_F(FleetTest, WhatBecameOfItMayBeSaidAfterItsLoadIsReleased) {
  Dispatch dispatch = Pick(Role::kDecode);
  dispatch.Unload();
  EXPECT_EQ(Standing("10.0.0.3:1").in_flight, 0u);
  Dispatch moved = std::move(dispatch);
  moved.Unload();
  moved.Failed();
  moved.Release();
  EXPECT_EQ(Standing("10.0.0.3:1").in_flight, 0u);
  EXPECT_EQ(Standing("10.0.0.3:1").failed, 1u);
}

TEST_F(FleetTest, OnesThatWereTriedAreLeftOut) {
  const std::vector<std::string> tried = {"10.0.0.1:1"};
  EXPECT_EQ(Pick(Role::kPrefill, {.but_not = tried}).engine().name(), "10.0.0.2:1");
  const std::vector<std::string> all = {"10.0.0.1:1", "10.0.0.2:1"};
  EXPECT_FALSE(Pick(Role::kPrefill, {.but_not = all}));
}

TEST_F(FleetTest, WhetherOneCanBePickedIsSaidWithoutPickingIt) {
  EXPECT_TRUE(fleet_.CanPick(Role::kDecode, {}, MonoNow()));
  EXPECT_EQ(Standing("10.0.0.3:1").served, 0u);
  const std::vector<std::string> all = {"10.0.0.3:1"};
  const auto tried = fleet_.CanPick(Role::kDecode, all, MonoNow());
  ASSERT_FALSE(tried);
  EXPECT_FALSE(tried.error().is_open);
  for (int i = 0; i < 2; ++i) Pick(Role::kDecode).Failed();
  const auto open = fleet_.CanPick(Role::kDecode, {}, MonoNow());
  ASSERT_FALSE(open);
  EXPECT_TRUE(open.error().is_open);
  EXPECT_GT(open.error().retry_after, seconds(900));
}

TEST_F(FleetTest, AnEngineComesWithTheAddressesThatWereFoundForIt) {
  const auto engine = std::make_shared<Engine>(Role::kDecode, *EngineSpec::Parse("by-name:1"));
  engine->SetAddresses({tcp::endpoint(net::ip::make_address("10.0.0.9"), 1)});
  ASSERT_TRUE(fleet_.Add(engine));
  EXPECT_EQ(Standing("by-name:1").engine->addresses().size(), 1u);
  EXPECT_FALSE(fleet_.Add(Role::kDecode, *EngineSpec::Parse("by-name:1")));
}

TEST_F(FleetTest, AnEngineThatFailsIsLeftAlone) {
  for (int i = 0; i < 2; ++i) Pick(Role::kDecode).Failed();
  const auto none = fleet_.Pick(Role::kDecode, {}, MonoNow());
  ASSERT_FALSE(none);
  EXPECT_TRUE(none.error().is_open);
  EXPECT_GT(none.error().retry_after, seconds(900));
  EXPECT_TRUE(Pick(Role::kPrefill));
}

TEST_F(FleetTest, AnAnswerThatBeganWellMayFailStill) {
  for (int i = 0; i < 2; ++i) {
    Dispatch dispatch = Pick(Role::kDecode);
    dispatch.Failed();
    dispatch.Failed();
    dispatch.Succeeded();
    EXPECT_EQ(Standing("10.0.0.3:1").failed, static_cast<uint64_t>(i + 1));
  }
  EXPECT_EQ(Standing("10.0.0.3:1").breaker, Breaker::State::kOpen);
}

TEST_F(FleetTest, OneThatIsRemovedFinishesWhatItHas) {
  Dispatch dispatch = Pick(Role::kDecode);
  EXPECT_TRUE(fleet_.Remove(Role::kDecode, "10.0.0.3:1"));
  EXPECT_FALSE(fleet_.Remove(Role::kDecode, "10.0.0.3:1"));
  EXPECT_TRUE(Standing("10.0.0.3:1").draining);
  EXPECT_FALSE(Pick(Role::kDecode));
  dispatch.Release();
  EXPECT_EQ(fleet_.Engines(MonoNow()).size(), 2u);
  Add(Role::kDecode, "10.0.0.3:1");
  EXPECT_TRUE(Pick(Role::kDecode));
}

TEST_F(FleetTest, OneThatIsBeingRemovedComesBack) {
  Dispatch dispatch = Pick(Role::kDecode);
  EXPECT_TRUE(fleet_.Remove(Role::kDecode, "10.0.0.3:1"));
  Add(Role::kDecode, "10.0.0.3:1");
  EXPECT_FALSE(fleet_.Add(Role::kDecode, *EngineSpec::Parse("10.0.0.3:1")));
  EXPECT_EQ(Standing("10.0.0.3:1").in_flight, 1u);
}

TEST_F(FleetTest, WhatIsHeldDecides) {
  const std::map<std::string, Held> held = {{"10.0.0.2:1", {500, 500, 500, 3}}};
  for (int i = 0; i < 3; ++i) {
    const Dispatch dispatch =
        Pick(Role::kPrefill, {.policy = Policy::kScore, .prompt_tokens = 600, .held = &held});
    EXPECT_EQ(dispatch.engine().name(), "10.0.0.2:1");
    EXPECT_EQ(dispatch.held()->rank, 3u);
  }
}

}  // namespace
}  // namespace conductor::proxy
