#include "lib/stream/bound_router.h"

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

namespace conductor::stream {
namespace {

// "3 text": a batch of rank 3.
std::optional<int64_t> RankOf(std::string_view payload) {
  if (payload.empty() || payload[0] < '0' || payload[0] > '9') return std::nullopt;
  return std::stoll(std::string(payload));
}

BoundRouter::Name Named(std::string peer, std::string topic, uint32_t rank = 0) {
  return {.peer = std::move(peer), .topic = std::move(topic), .rank = rank, .batch_rank = RankOf};
}

class Routes : public testing::Test {
 protected:
  // The seat, 0 for nobody's.
  uint64_t Send(uint64_t connection, const std::string& peer, const std::string& topic,
                const std::string& payload = "batch") {
    const BoundRouter::Route route =
        router.Take({.connection = connection, .peer = peer, .topic = topic, .payload = payload});
    fresh = route.fresh;
    return route.seat.value_or(0);
  }
  // "2 shared, 3 alone" of what changed.
  std::string Changes() {
    std::string text;
    for (const auto& [seat, why] : router.TakeSharedChanges()) {
      if (!text.empty()) text += ", ";
      text += std::to_string(seat) + (why.empty() ? " alone" : " shared");
      if (!why.empty()) last_why = why;
    }
    return text;
  }

  BoundRouter router{"tcp://*:5557"};
  bool fresh = false;
  std::string last_why;
};

TEST_F(Routes, OneRegistrationTakesWhatComesWhateverItsRank) {
  router.Add(1, Named("", ""));
  EXPECT_EQ(Send(10, "10.0.0.1", "topic", "7 batch"), 1u);
  EXPECT_TRUE(fresh);
  EXPECT_EQ(Send(10, "10.0.0.1", "another", "batch"), 1u);
  EXPECT_FALSE(fresh);
  EXPECT_TRUE(router.Held(1));
  EXPECT_EQ(router.unrouted(), 0u);
}

TEST_F(Routes, ThePeerDecidesBeforeTheTopicAndTheTopicBeforeTheRank) {
  router.Add(1, Named("10.0.0.1", ""));
  router.Add(2, Named("", "kv@"));
  router.Add(3, Named("", "kv@a", 0));
  router.Add(4, Named("", "kv@a", 1));
  EXPECT_EQ(Send(10, "10.0.0.1", "kv@a", "1 batch"), 1u);
  EXPECT_EQ(Send(11, "10.0.0.2", "kv@b", "1 batch"), 2u);
  EXPECT_EQ(Send(12, "10.0.0.2", "kv@a", "0 batch"), 3u);
  EXPECT_EQ(Send(13, "10.0.0.2", "kv@a", "1 batch"), 4u);
  EXPECT_EQ(Changes(), "");
}

TEST_F(Routes, ATopicThatBeginsWithAnotherGoesToTheLonger) {
  router.Add(1, Named("", "kv@10.0.0.1"));
  router.Add(2, Named("", "kv@10.0.0.11"));
  EXPECT_EQ(Send(10, "", "kv@10.0.0.1@m"), 1u);
  EXPECT_EQ(Send(11, "", "kv@10.0.0.11@m"), 2u);
}

TEST_F(Routes, OneConnectionMayCarrySeveralPublishers) {
  router.Add(1, Named("", "a"));
  router.Add(2, Named("", "b"));
  EXPECT_EQ(Send(10, "10.0.0.9", "a"), 1u);
  EXPECT_EQ(Send(10, "10.0.0.9", "b"), 2u);
  EXPECT_TRUE(fresh);
  EXPECT_EQ(Send(10, "10.0.0.9", "a"), 1u);
  EXPECT_FALSE(fresh);
  EXPECT_EQ(router.Gone(10), (std::vector<uint64_t>{1, 2}));
}

TEST_F(Routes, WhatFitsNobodyIsCountedAndTheFirstIsRemembered) {
  router.Add(1, Named("10.0.0.1", "kv"));
  EXPECT_EQ(Send(10, "10.0.0.2", "kv"), 0u);
  EXPECT_EQ(Send(11, "10.0.0.1", "load"), 0u);
  EXPECT_EQ(router.unrouted(), 2u);
  EXPECT_EQ(router.first_stranger(), "10.0.0.2 with topic 'kv'");
  EXPECT_EQ(Changes(), "");
}

TEST_F(Routes, ARankOfNobodyIsAStrangers) {
  router.Add(1, Named("", "", 0));
  router.Add(2, Named("", "", 1));
  EXPECT_EQ(Send(10, "10.0.0.1", "", "2 batch"), 0u);
  EXPECT_EQ(Changes(), "");
  EXPECT_FALSE(router.first_stranger().empty());
}

TEST_F(Routes, ARegistrationThatComesLaterTakesWhatIsItsOwn) {
  router.Add(1, Named("", ""));
  EXPECT_EQ(Send(10, "10.0.0.1", "kv"), 1u);
  router.Add(2, Named("10.0.0.1", ""));
  EXPECT_EQ(Send(10, "10.0.0.1", "kv"), 2u);
  router.Remove(2);
  EXPECT_EQ(Send(10, "10.0.0.1", "kv"), 1u);
}

TEST_F(Routes, ANewConnectionTakesOverFromOneThatIsSilent) {
  router.Add(1, Named("", ""));
  EXPECT_EQ(Send(10, "10.0.0.1", ""), 1u);
  EXPECT_EQ(Send(11, "10.0.0.1", ""), 1u) << "restarted; the old one is not gone yet";
  EXPECT_TRUE(fresh);
  EXPECT_TRUE(router.Gone(10).empty()) << "it does not hold the seat any more";
  EXPECT_EQ(Changes(), "");
  EXPECT_EQ(Send(11, "10.0.0.1", ""), 1u);
  EXPECT_FALSE(fresh);
}

TEST_F(Routes, TwoConnectionsThatSendInTurnAreShared) {
  router.Add(1, Named("", ""));
  EXPECT_EQ(Send(10, "10.0.0.1", ""), 1u);
  EXPECT_EQ(Send(11, "10.0.0.1", ""), 1u);
  EXPECT_EQ(Send(10, "10.0.0.1", ""), 0u);
  EXPECT_EQ(Changes(), "1 shared");
  EXPECT_NE(last_why.find("tcp://*:5557 as 10.0.0.1"), std::string::npos) << last_why;
  EXPECT_EQ(Send(11, "10.0.0.1", ""), 0u);
  EXPECT_EQ(Changes(), "") << "told once";
  EXPECT_EQ(router.unrouted(), 2u);
  router.Gone(10);
  EXPECT_EQ(Changes(), "1 alone");
  EXPECT_TRUE(router.Held(1));
  EXPECT_EQ(Send(11, "10.0.0.1", ""), 1u);
}

TEST_F(Routes, WhenAllThatSharedAreGoneTheNextBeginsAnew) {
  router.Add(1, Named("", ""));
  Send(10, "10.0.0.1", "");
  Send(11, "10.0.0.1", "");
  Send(10, "10.0.0.1", "");
  EXPECT_EQ(Changes(), "1 shared");
  router.Gone(10);
  router.Gone(11);
  EXPECT_EQ(Changes(), "1 alone");
  EXPECT_FALSE(router.Held(1));
  EXPECT_EQ(Send(12, "10.0.0.1", ""), 1u);
  EXPECT_TRUE(fresh);
}

TEST_F(Routes, RegistrationsOfTheSameNameAreSharedFromTheStartAndUntilOneIsGone) {
  router.Add(1, Named("10.0.0.1", "kv"));
  EXPECT_EQ(Changes(), "");
  router.Add(2, Named("10.0.0.1", "kv"));
  EXPECT_EQ(Changes(), "1 shared, 2 shared");
  EXPECT_NE(last_why.find("same peer, topic and rank"), std::string::npos) << last_why;
  EXPECT_EQ(Send(10, "10.0.0.1", "kv", "0 batch"), 0u);
  router.Remove(1);
  EXPECT_EQ(Changes(), "2 alone");
  EXPECT_EQ(Send(10, "10.0.0.1", "kv", "0 batch"), 2u);
}

TEST_F(Routes, RanksThatBatchesDoNotNameAreShared) {
  router.Add(1, Named("", "", 0));
  router.Add(2, Named("", "", 1));
  EXPECT_EQ(Changes(), "");
  EXPECT_EQ(Send(10, "10.0.0.1", "", "batch"), 0u);
  EXPECT_EQ(Changes(), "1 shared, 2 shared");
  EXPECT_NE(last_why.find("no rank in them"), std::string::npos) << last_why;
  EXPECT_EQ(Send(11, "10.0.0.1", "", "1 batch"), 0u) << "as long as that one may send any more";
  router.Gone(10);
  EXPECT_EQ(Changes(), "1 alone, 2 alone");
  EXPECT_EQ(Send(11, "10.0.0.1", "", "1 batch"), 2u);
}

TEST_F(Routes, OneOfTwoThatAreRemovedLeavesTheOtherAlone) {
  router.Add(1, Named("", "", 0));
  router.Add(2, Named("", "", 1));
  Send(10, "10.0.0.1", "", "batch");
  EXPECT_EQ(Changes(), "1 shared, 2 shared");
  router.Remove(2);
  EXPECT_EQ(Changes(), "1 alone");
  EXPECT_EQ(Send(10, "10.0.0.1", "", "batch"), 1u);
}

TEST_F(Routes, WithoutAWayToReadRanksOnlyPeerAndTopicTellApart) {
  router.Add(1, {.peer = "", .topic = "", .rank = 0, .batch_rank = nullptr});
  router.Add(2, {.peer = "", .topic = "", .rank = 1, .batch_rank = nullptr});
  EXPECT_EQ(Send(10, "10.0.0.1", "", "1 batch"), 0u);
  EXPECT_EQ(Changes(), "1 shared, 2 shared");
}

}  // namespace
}  // namespace conductor::stream
