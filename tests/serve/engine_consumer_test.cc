#include "daemon/serve/engine_consumer.h"

#include <gtest/gtest.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace conductor::serve {
namespace {

using Applied = stream::Consumer::Applied;
using Lost = stream::Consumer::Lost;

std::string Msgpack(const nlohmann::json& value) {
  const std::vector<uint8_t> bytes = nlohmann::json::to_msgpack(value);
  return {bytes.begin(), bytes.end()};
}

// A batch of these events, which are a JSON array.
std::string Batch(const char* events) {
  return Msgpack(nlohmann::json::array({1.5, nlohmann::json::parse(events), 0}));
}

// A publisher of blocks of 2 tokens that may have no orphans and only short names.
struct ConsumerUnderTest {
  explicit ConsumerUnderTest(const ingest::IngestLimits& limits = {.max_waiting_bytes = 1,
                                                                   .max_name_bytes = 6})
      : consumer(
            index,
            {.endpoint = "tcp://engine:5557", .model = "m", .instance_id = "a", .block_size = 2},
            limits, 1, board) {}

  Applied Apply(const std::string& payload) {
    return consumer.Apply(stream::Sequence{next++}, payload);
  }

  index::PrefixIndex index{index::PrefixIndex::Options{}};
  std::shared_ptr<PublisherBoard> board = std::make_shared<PublisherBoard>();
  EngineConsumer consumer;
  uint64_t next = 0;
};

TEST(EngineConsumer, TellsWhatABatchLost) {
  struct Case {
    const char* name;
    std::string payload;
    Lost lost;
    const char* what;
  };
  const Case cases[] = {
      {"stored", Batch(R"([["BlockStored", [1], null, [1, 2], 2]])"), Lost::kNothing, ""},
      {"removed", Batch(R"([["BlockRemoved", [1]]])"), Lost::kNothing, ""},
      {"cleared", Batch(R"([["AllBlocksCleared"]])"), Lost::kNothing, ""},
      {"an unknown removal", Batch(R"([["BlockRemoved", [77]]])"), Lost::kNothing, ""},
      {"an unknown type", Batch(R"([["BlockMoved", [1]]])"), Lost::kNothing, ""},
      {"an unknown field", Batch(R"([{"type": "BlockRemoved", "block_hashes": [1], "x": 1}])"),
       Lost::kNothing, ""},
      {"a medium of no tier", Batch(R"([["BlockStored", [1], null, [1, 2], 2, null, "TAPE"]])"),
       Lost::kNothing, ""},
      {"a group that is not indexed",
       Batch(R"([{"type": "BlockStored", "block_hashes": [1], "token_ids": [1], "block_size": 3,
                  "kv_cache_spec_kind": "mamba"}])"),
       Lost::kNothing, ""},

      {"a store that cannot be read", Batch(R"([["BlockStored", 7]])"), Lost::kStores,
       "event 0: block_hashes: is an integer (expected an array of hashes)"},
      {"a block size that does not fit", Batch(R"([["BlockStored", [1], null, [1, 2, 3], 3]])"),
       Lost::kStores, "blocks of 3 tokens do not fit blocks of 2"},
      {"tokens that do not fit", Batch(R"([["BlockStored", [1], null, [1, 2, 3], 2]])"),
       Lost::kStores, "hashes, tokens and block size of an event do not fit one another"},
      {"an orphan without room", Batch(R"([["BlockStored", [5], 4, [1, 2], 2]])"), Lost::kStores,
       "events whose parent is unknown filled the memory that they may take"},
      {"a name that is too long",
       Batch(R"([["BlockStored", [1], null, [1, 2], 2, null, null, "adapter"]])"), Lost::kStores,
       "it names more ranks, adapters or groups than one publisher may"},
      {"a store among good ones",
       Batch(R"([["BlockRemoved", [1]], ["BlockStored", 7], ["AllBlocksCleared"]])"), Lost::kStores,
       "event 1: block_hashes: is an integer (expected an array of hashes)"},

      {"no MessagePack", "\xc1", Lost::kRemovals, "it is no batch: "},
      {"no batch", Msgpack("text"), Lost::kRemovals, "it is no batch: the batch is text"},
      {"a removal that cannot be read", Batch(R"([["BlockRemoved", 7]])"), Lost::kRemovals,
       "event 0: block_hashes: is an integer (expected an array of hashes)"},
      {"no tag", Batch("[7]"), Lost::kRemovals, "event 0: the event is an integer"},
      {"a removal and a store", Batch(R"([["BlockStored", 7], ["BlockRemoved", 7]])"),
       Lost::kRemovals, "event 0: block_hashes: is an integer"},
      {"a removal and a size",
       Batch(R"([["BlockRemoved", 7], ["BlockStored", [1], null, [1], 1]])"), Lost::kRemovals,
       "event 0: block_hashes: is an integer"},
  };
  for (const Case& test : cases) {
    ConsumerUnderTest publisher;
    const Applied applied = publisher.Apply(test.payload);
    EXPECT_EQ(applied.lost, test.lost) << test.name;
    EXPECT_TRUE(applied.what.starts_with(test.what)) << test.name << ": " << applied.what;
    EXPECT_EQ(applied.what.empty(), test.lost == Lost::kNothing) << test.name;
  }
}

TEST(EngineConsumer, AnOrphanIsAStoreThatIsInNoFigure) {
  ConsumerUnderTest publisher(ingest::IngestLimits{});
  const Applied applied = publisher.Apply(Batch(R"([["BlockStored", [5], 4, [1, 2], 2]])"));
  EXPECT_EQ(applied.lost, Lost::kStores);
  EXPECT_EQ(applied.what, "it stored blocks after one that was never announced");
  const Applied detached = publisher.Apply(Batch(R"([["BlockStored", [9], null, [], 0]])"));
  EXPECT_EQ(detached.lost, Lost::kNothing) << "no tokens: it may not be a prefix at all";
}

TEST(EngineConsumer, WhatABatchLostIsNotAskedOfTheNextOne) {
  ConsumerUnderTest publisher;
  EXPECT_EQ(publisher.Apply(Batch(R"([["BlockStored", [1], null, [1, 2, 3], 3]])")).lost,
            Lost::kStores);
  EXPECT_EQ(publisher.Apply(Batch(R"([["BlockStored", [1], null, [1, 2], 2]])")).lost,
            Lost::kNothing);
}

TEST(EngineConsumer, HoldsNothingOnlyAfterAClearingThatLeftNothing) {
  ConsumerUnderTest publisher;
  EXPECT_FALSE(publisher.Apply(Batch(R"([["BlockStored", [1], null, [1, 2], 2]])")).holds_nothing);
  EXPECT_FALSE(publisher.Apply(Batch(R"([["BlockRemoved", [1]]])")).holds_nothing);
  EXPECT_TRUE(publisher.Apply(Batch(R"([["AllBlocksCleared"]])")).holds_nothing);
  EXPECT_FALSE(publisher
                   .Apply(Batch(R"([["AllBlocksCleared"],
                                         ["BlockStored", [1], null, [1, 2], 2]])"))
                   .holds_nothing);
}

TEST(EngineConsumer, AClearingOfOneRankSaysNothingOfTheOthers) {
  const auto of_rank = [](const char* events, int rank) {
    return Msgpack(nlohmann::json::array({1.5, nlohmann::json::parse(events), rank}));
  };
  ConsumerUnderTest publisher;
  publisher.Apply(of_rank(R"([["BlockStored", [1], null, [1, 2], 2]])", 1));
  EXPECT_FALSE(publisher.Apply(of_rank(R"([["AllBlocksCleared"]])", 0)).holds_nothing);
  EXPECT_FALSE(publisher.Apply(of_rank(R"([["AllBlocksCleared"]])", 1)).holds_nothing);
  // What the ranks of an engine are outlives its lives.
  publisher.consumer.NewLife();
  EXPECT_FALSE(publisher.Apply(of_rank(R"([["AllBlocksCleared"]])", 0)).holds_nothing);
}

}  // namespace
}  // namespace conductor::serve
