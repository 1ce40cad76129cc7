#include "daemon/toolkit/stop_signal.h"

#include <gtest/gtest.h>
#include <poll.h>

#include <csignal>

namespace conductor::toolkit {
namespace {

TEST(StopSignal, IsSeenAndEndsNothing) {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    const StopSignal stop;
    EXPECT_FALSE(stop.came());
    ASSERT_EQ(std::raise(signal), 0);
    for (int look = 0; look < 2; ++look) EXPECT_TRUE(stop.came()) << signal;
    pollfd ready = {stop.fd(), POLLIN, 0};
    EXPECT_EQ(::poll(&ready, 1, 0), 1);
  }
  // What came was used up: the last of them did not end this test.
  EXPECT_FALSE(StopSignal().came());
}

TEST(StopSignal, WhatIsAnErrorToBeToldIsNoSignal) {
  const StopSignal stop;
  for (const int signal : {SIGPIPE, SIGXFSZ}) ASSERT_EQ(std::raise(signal), 0);
  EXPECT_FALSE(stop.came());
}

}  // namespace
}  // namespace conductor::toolkit
