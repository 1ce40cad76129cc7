#include "daemon/proxy/engine.h"

#include <gtest/gtest.h>

#include <string>

namespace conductor::proxy {
namespace {

TEST(EngineTest, AddressesAreReadAndWritten) {
  EXPECT_EQ(EngineSpec::Parse("10.0.0.1:8100")->Name(), "10.0.0.1:8100");
  EXPECT_EQ(EngineSpec::Parse("http://host.local:1/")->Name(), "host.local:1");
  const auto ipv6 = EngineSpec::Parse("[fd00::1]:8100");
  ASSERT_TRUE(ipv6);
  EXPECT_EQ(ipv6->host, "fd00::1");
  EXPECT_EQ(ipv6->Name(), "[fd00::1]:8100");
}

TEST(EngineTest, WhatIsNoAddressSaysWhy) {
  for (const char* text : {"", "host", ":1", "host:", "host:0", "host:65536", "host:x", "a/b:1",
                           "fd00::1:8100", "https://host:1", "user@host:1"}) {
    const auto engine = EngineSpec::Parse(text);
    ASSERT_FALSE(engine) << text;
    EXPECT_NE(engine.error().Message().find("expected"), std::string::npos) << text;
  }
}

TEST(EngineTest, AnAddressNeedsNoLookingUp) {
  Engine engine(Role::kDecode, *EngineSpec::Parse("[fd00::1]:8100"));
  ASSERT_EQ(engine.addresses().size(), 1u);
  EXPECT_TRUE(engine.Resolve());
  EXPECT_EQ(engine.addresses().front().port(), 8100);
  EXPECT_TRUE(
      Engine(Role::kDecode, *EngineSpec::Parse("no.such.host.invalid:1")).addresses().empty());
}

}  // namespace
}  // namespace conductor::proxy
