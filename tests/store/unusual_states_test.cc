// What publishers can tell, however unusual, is read again when it was saved.

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "lib/hash/block_hash.h"
#include "lib/ingest/pool_copy.h"
#include "lib/ingest/pool_ingest.h"
#include "lib/ingest/publisher_ingest.h"
#include "snapshot_fixture.h"

namespace conductor::store {
namespace {

constexpr uint32_t kBlockSize = 16;

template <typename Event>
wire::EventBatch Batch(Event event) {
  wire::EventBatch batch;
  batch.events.emplace_back(std::move(event));
  return batch;
}

wire::ObjectStored Object(std::string key) {
  wire::ObjectStored stored;
  stored.key = std::move(key);
  stored.medium = "cpu";
  return stored;
}

std::unique_ptr<ingest::PublisherIngest> Engine(index::PrefixIndex& index, std::string name,
                                                uint32_t number) {
  ingest::PublisherProfile profile;
  profile.name = name;
  profile.instance_id = std::move(name);
  profile.model = "m";
  profile.block_size = kBlockSize;
  return std::make_unique<ingest::PublisherIngest>(index, profile, ingest::IngestLimits{}, number);
}

// A pool "p" that says nothing of itself.
std::unique_ptr<ingest::PoolIngest> Pool(index::PrefixIndex& index) {
  ingest::PoolProfile profile;
  profile.name = "p";
  profile.model = "m";
  return std::make_unique<ingest::PoolIngest>(index, profile, ingest::IngestLimits{});
}

SavedPublisher Saved(const std::string& key) {
  SavedPublisher saved{.key = key, .registration = "{}", .saved_at = 1, .state = "live"};
  saved.resume.emplace().cursor = 3;
  return saved;
}

SavedPublisher SavedOf(const ingest::PublisherIngest& engine) {
  SavedPublisher saved = Saved("e|default|0");
  const auto copy = engine.BeginCopy({});
  while (copy->Step()) {
  }
  saved.life = copy->Take();
  return saved;
}

SavedPublisher SavedOf(ingest::PoolCopy& copy) {
  SavedPublisher saved = Saved("p|default|0");
  while (copy.Step()) {
  }
  saved.pool = copy.Take();
  return saved;
}

TEST_F(SnapshotTest, IsReadWhereAKeySpokeOfNoRanks) {
  const auto pool = Pool(index_);
  pool->Apply(Batch(Object("m@0@0@00112233445566778899aabbccddeeff@bfloat16")));
  Write({SavedOf(*pool->BeginCopy({}))});
  EXPECT_EQ(WhyNot(), "");
}

// A block's own hash is told without those before it, and then that it is the second of two.
TEST_F(SnapshotTest, IsReadWhereASpanIsToldOfABlockThatWasTheFirst) {
  const auto pool = Pool(index_);
  const auto engine = Engine(index_, "e", 1);
  wire::BlockStored tokens;
  tokens.block_size = 2 * kBlockSize;
  for (uint32_t i = 0; i < tokens.block_size; ++i) tokens.tokens.push_back(static_cast<TokenId>(i));
  tokens.origin.emplace();
  std::vector<PrefixHash> chain(2);
  hash::HashChain(tokens.tokens, kBlockSize, nullptr, index_.options().hash_seed, chain);
  tokens.hashes = {EngineHash{static_cast<uint64_t>(chain[1])}};
  wire::BlockStored told;
  told.hashes = tokens.hashes;
  told.block_size = kBlockSize;
  told.standard_hashes = true;
  told.origin.emplace();
  pool->Apply(Batch(Object(std::to_string(static_cast<uint64_t>(chain[1])))));

  engine->Apply(Batch(told));
  engine->Apply(Batch(tokens));
  Write({SavedOf(*engine), SavedOf(*pool->BeginCopy({}))});
  EXPECT_EQ(WhyNot(), "");
}

// Between two pieces of its copy the engine leaves whose blocks it has, and another one tells
// longer chains of the same tokens for another adapter, which gets the number of the first.
TEST_F(SnapshotTest, IsReadWhereNamespacesChangedWhileAPoolWasCopied) {
  constexpr uint64_t kBefore = 600;
  constexpr uint64_t kAfter = 1200;
  const auto stored = [](uint64_t blocks, const char* lora_name, TokenId first_token) {
    wire::BlockStored event;
    event.block_size = kBlockSize;
    event.lora_name = lora_name;
    for (uint64_t i = 0; i < blocks; ++i) event.hashes.push_back(EngineHash{1000 + i});
    for (uint64_t i = 0; i < blocks * kBlockSize; ++i) {
      event.tokens.push_back(first_token + static_cast<TokenId>(i));
    }
    return Batch(std::move(event));
  };
  const auto pool = Pool(index_);
  for (uint64_t i = 0; i < kAfter; ++i) pool->Apply(Batch(Object(std::to_string(1000 + i))));
  auto first = Engine(index_, "e", 1);
  first->Apply(stored(kBefore, "a", 0));
  const auto copy = pool->BeginCopy({});
  // All objects, and some of the blocks that they are joined with.
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(copy->Step());
  first->Apply(stored(kBefore, "elsewhere", 900'000));
  first->Leave({});
  first.reset();
  const auto second = Engine(index_, "e", 2);
  second->Apply(stored(kAfter, "b", 0));
  const SavedPublisher saved = SavedOf(*copy);
  EXPECT_GE(saved.pool->chains.name_spaces.size(), 2u) << "nothing was copied before the change";
  Write({saved});
  EXPECT_EQ(WhyNot(), "");
}

}  // namespace
}  // namespace conductor::store
