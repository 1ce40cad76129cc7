#include "daemon/toolkit/endpoint_text.h"

#include <gtest/gtest.h>

#include <string>

namespace conductor::toolkit {
namespace {

std::string Message(const Status& status) { return status ? "" : status.error().Message(); }

TEST(EndpointText, AnAddressHasAScheme) {
  EXPECT_EQ(Message(CheckDialled("tcp://a:1")), "");
  EXPECT_EQ(Message(CheckDialled("ipc:///tmp/a")), "");
  EXPECT_EQ(Message(CheckBound("tcp://*:5557")), "");
  EXPECT_EQ(Message(CheckBound("tcp://[::1]:5557")), "");
  EXPECT_EQ(Message(CheckBound("tcp://127.0.0.1:*")), "");
  EXPECT_EQ(Message(CheckBound("tcp://*:*")), "");
  EXPECT_EQ(Message(CheckBound("tcp://lo:5557")), "");
  EXPECT_EQ(Message(CheckBound("28701")), "28701: has no scheme (expected tcp://*:28701)");
  EXPECT_EQ(Message(CheckDialled("28701")), "28701: has no scheme (expected tcp://HOST:28701)");
  EXPECT_EQ(Message(CheckDialled("engine:5557")),
            "engine:5557: has no scheme (expected tcp://engine:5557)");
  EXPECT_EQ(Message(CheckBound("*:5557")), "*:5557: has no scheme (expected tcp://*:5557)");
  EXPECT_EQ(Message(CheckDialled("what")),
            "what: has no scheme (expected tcp://HOST:PORT or ipc://PATH)");
}

TEST(EndpointText, WhatCannotBeListenedAtIsSaid) {
  EXPECT_NE(Message(CheckBound("tcp://name:1")), "");
  EXPECT_NE(Message(CheckBound("inproc://a")), "");
  EXPECT_EQ(Message(CheckDialled("tcp://name:1")), "");
  EXPECT_NE(Message(CheckDialled("tcp://127.0.0.1:*")), "");
}

TEST(EndpointText, OnlyHostAndPortIsAnAddressThatLacksItsScheme) {
  EXPECT_TRUE(LacksScheme("127.0.0.1:5557"));
  EXPECT_TRUE(LacksScheme("*:5557"));
  for (const char* word : {"a.rec", "tcp://a:1", "folder/a:1", ":1", "a:", "a:b"}) {
    EXPECT_FALSE(LacksScheme(word)) << word;
  }
  EXPECT_EQ(Message(CheckNoAddress("127.0.0.1:5557")),
            "127.0.0.1:5557: there is no such file, and an endpoint has a scheme (expected "
            "tcp://127.0.0.1:5557)");
  EXPECT_EQ(Message(CheckNoAddress("nowhere.rec")), "");
}

TEST(EndpointText, AnInstanceIsCalledByHostAndPort) {
  EXPECT_EQ(InstanceAt("tcp://10.0.0.1:5557"), "10.0.0.1:5557");
  EXPECT_EQ(InstanceAt("ipc:///run/engine"), "/run/engine");
  EXPECT_EQ(InstanceAt("tcp://*:1 from 10.0.0.1|rank 1"), "*:1 from 10.0.0.1_rank 1");
  EXPECT_EQ(InstanceAt("simulated"), "simulated");
  EXPECT_EQ(InstanceAt(""), "recorded");
}

}  // namespace
}  // namespace conductor::toolkit
