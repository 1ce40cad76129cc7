#include "daemon/toolkit/recorded_name.h"

#include <gtest/gtest.h>

namespace conductor::toolkit {
namespace {

TEST(RecordedName, IsWhereItWasListenedTo) {
  EXPECT_EQ(RecordedName({.endpoint = "tcp://a:1"}), "tcp://a:1");
  EXPECT_EQ(RecordedName({.replay_endpoint = "tcp://a:2"}), "tcp://a:2");
  EXPECT_EQ(RecordedName({.endpoint = "tcp://a:1", .facts = "what"}), "tcp://a:1");
}

TEST(RecordedName, TellsWhoCameToABoundEndpointApart) {
  EXPECT_EQ(RecordedName({.endpoint = "tcp://*:1",
                          .facts = R"({"mode": "bind", "peer": "10.0.0.7", "peer_topic": "kv",
                                       "dp_rank": 1})"}),
            "tcp://*:1 from 10.0.0.7 kv rank 1");
}

TEST(RecordedInstance, IsCalledByItsAddress) {
  EXPECT_EQ(RecordedInstance({.endpoint = "tcp://a:1"}), "a:1");
  EXPECT_EQ(RecordedInstance({.replay_endpoint = "tcp://a:2"}), "a:2");
  EXPECT_EQ(RecordedInstance({}), "recorded");
}

// Ranks are told apart by their number.
TEST(RecordedInstance, BehindABoundEndpointItIsCalledByItsOwnAddress) {
  EXPECT_EQ(RecordedInstance({.endpoint = "tcp://*:1",
                              .facts = R"({"mode": "bind", "peer": "10.0.0.7", "dp_rank": 1})"}),
            "10.0.0.7");
  EXPECT_EQ(
      RecordedInstance({.endpoint = "tcp://*:1", .facts = R"({"mode": "bind", "peer": "10.0.0.7",
                                           "peer_topic": "kv|events"})"}),
      "10.0.0.7 kv_events");
}

}  // namespace
}  // namespace conductor::toolkit
