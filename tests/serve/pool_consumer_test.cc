#include "daemon/serve/pool_consumer.h"

#include <gtest/gtest.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace conductor::serve {
namespace {

using Json = nlohmann::json;
using Lost = stream::Consumer::Lost;

std::string Batch(const Json& events) {
  const auto bytes = Json::to_msgpack(Json::array({1700000000000, events, 0}));
  return {bytes.begin(), bytes.end()};
}

Json Stored(const std::string& key) {
  return {{"event_id", 1},
          {"event_type", "stored"},
          {"object_key", key},
          {"medium", "cpu"},
          {"tenant_id", "default"},
          {"backend_id", "m0"},
          {"seq_hashes", Json::array()}};
}

// A pool of model "m" whose size is not declared.
struct PoolUnderTest {
  stream::Consumer::Applied Apply(const Json& events) {
    return consumer.Apply(stream::Sequence{next++}, Batch(events));
  }
  void BecomeLive() { consumer.TrustChanged({.state = stream::TrustState::kLive}); }
  [[nodiscard]] stream::Trust trust() const { return board->trust; }

  index::PrefixIndex index{index::PrefixIndex::Options{}};
  std::shared_ptr<PublisherBoard> board = std::make_shared<PublisherBoard>();
  std::shared_ptr<ListingRequests> listings = std::make_shared<ListingRequests>();
  PoolConsumer consumer{index,
                        {.endpoint = "tcp://master:5557",
                         .type = PublisherType::kMooncake,
                         .model = "m",
                         .instance_id = "pool"},
                        {},
                        board,
                        listings};
  uint64_t next = 1;
};

TEST(PoolConsumer, WhatIsLearntOfABlockIsDoubtfulWhileTheStreamIsLive) {
  PoolUnderTest pool;
  pool.BecomeLive();
  EXPECT_EQ(pool.trust().state, stream::TrustState::kLive);
  pool.Apply(Json::array({Stored("m@tp_rank:0@pcp0@dcp0@pp_rank:0@group:0@00000000000000ff")}));
  EXPECT_EQ(pool.board->ingest.objects, 1U);
  EXPECT_EQ(pool.board->ingest.pool_blocks, 1U);
  EXPECT_EQ(pool.trust().state, stream::TrustState::kDegraded);
  EXPECT_EQ(pool.trust().reason, "doubtful");
  EXPECT_NE(pool.trust().detail.find("tp_size"), std::string::npos) << pool.trust().detail;
}

TEST(PoolConsumer, ObjectsOfOtherModelsAloneMakeItIncomplete) {
  PoolUnderTest pool;
  pool.BecomeLive();
  pool.Apply(Json::array({Stored("other@tp_rank:0@pcp0@dcp0@pp_rank:0@group:0@00000000000000ff")}));
  EXPECT_EQ(pool.board->ingest.objects, 0U);
  EXPECT_EQ(pool.trust().reason, "incomplete");
  EXPECT_NE(pool.trust().detail.find("'other'"), std::string::npos) << pool.trust().detail;
}

TEST(PoolConsumer, TheStreamsOwnTroubleIsToldWhenItIsWorse) {
  PoolUnderTest pool;
  pool.Apply(Json::array({Stored("other@tp_rank:0@pcp0@dcp0@pp_rank:0@group:0@00000000000000ff")}));
  pool.consumer.TrustChanged(
      {.state = stream::TrustState::kStale, .reason = "unreachable", .detail = "gone"});
  EXPECT_EQ(pool.trust().reason, "unreachable");
}

TEST(PoolConsumer, AnEnginesEventsAreNoObjects) {
  PoolUnderTest pool;
  const auto applied = pool.Apply(Json::parse(R"([["BlockStored", [1], null, [1, 2], 2]])"));
  EXPECT_EQ(applied.lost, Lost::kStores);
  EXPECT_EQ(applied.what, "it sends an engine's events: is its type right?");
}

TEST(PoolConsumer, AListingIsLeftForWhoeverGetsIt) {
  PoolUnderTest pool;
  pool.consumer.OpenListing(3);
  EXPECT_EQ(pool.listings->wanted, 3U);
  EXPECT_TRUE(pool.consumer.Wants(3));
  const std::vector<ingest::ListedObject> listed{
      {.key = "m@tp_rank:0@pcp0@dcp0@pp_rank:0@group:0@00000000000000ff"}};
  pool.consumer.Listed(listed);
  EXPECT_FALSE(pool.consumer.Wants(3));
  EXPECT_EQ(pool.board->ingest.objects, 1U);
  EXPECT_EQ(pool.consumer.AskForTiers(9).size(), 1U);
}

TEST(PoolConsumer, AClosedListingIsNotWantedAnyMore) {
  PoolUnderTest pool;
  pool.consumer.OpenListing(3);
  pool.consumer.CloseListing(3);
  EXPECT_EQ(pool.listings->wanted, std::nullopt);
  EXPECT_FALSE(pool.consumer.Wants(3));
}

}  // namespace
}  // namespace conductor::serve
