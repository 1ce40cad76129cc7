#ifndef CONDUCTOR_TESTS_STORE_SAVED_EXAMPLES_H_
#define CONDUCTOR_TESTS_STORE_SAVED_EXAMPLES_H_

#include <string>
#include <utility>
#include <vector>

#include "lib/index/prefix_index.h"
#include "lib/ingest/pool_ingest.h"
#include "lib/ingest/publisher_ingest.h"
#include "lib/store/saved_publisher.h"

namespace conductor::store {

inline wire::EventBatch Stored(const std::vector<uint64_t>& names, std::optional<uint64_t> parent,
                               const std::string& medium = "GPU", uint32_t block_size = 4) {
  wire::BlockStored stored;
  stored.block_size = block_size;
  stored.medium = medium;
  if (parent) stored.parent = EngineHash{*parent};
  for (const uint64_t name : names) {
    stored.hashes.push_back(EngineHash{name});
    for (uint32_t i = 0; i < block_size; ++i) {
      stored.tokens.push_back(static_cast<TokenId>(name * 10 + i));
    }
  }
  wire::EventBatch batch;
  batch.events.emplace_back(std::move(stored));
  return batch;
}

// An engine with `blocks` blocks, a second copy, one on the host, spans, orphans and a time to
// live, as it is saved.
inline SavedPublisher SavedEngine(index::PrefixIndex& index, const std::string& instance,
                                  uint32_t number, uint64_t blocks = 100) {
  ingest::PublisherProfile profile{
      .name = instance + "|default|0", .instance_id = instance, .model = "m", .block_size = 4};
  profile.ttl[static_cast<size_t>(Tier::kCpu)] = std::chrono::minutes(10);
  ingest::PublisherIngest ingest(index, profile, {}, number);
  std::vector<uint64_t> names;
  for (uint64_t i = 1; i <= blocks; ++i) names.push_back(i);
  ingest.Apply(Stored(names, {}));
  ingest.Apply(Stored({1, 2}, {}));
  ingest.Apply(Stored({1}, {}, "CPU"));
  ingest.Apply(Stored({5000}, 3, "GPU", 8));
  ingest.Apply(Stored({9000, 9001}, 8999));  // waits for its parent
  SavedPublisher saved{.key = profile.name,
                       .registration = R"({"instance_id": ")" + instance + R"(", "type": "vLLM"})",
                       .saved_at = 1000.5,
                       .state = "live",
                       .reason = {},
                       .detail = {}};
  stream::Resume& resume = saved.resume.emplace();
  resume.cursor = 4;
  resume.digest = ~uint64_t{0} - 5;  // above 2^63
  resume.digests = {1, ~uint64_t{0}, 3, 4};
  resume.first = 0;
  resume.newest_time = 17.25;
  resume.damage = stream::Damage::Kind::kIncomplete;
  resume.damage_detail = "its ring was too short";
  const auto copy = ingest.BeginCopy({});
  while (copy->Step()) {
  }
  saved.life = copy->Take();
  return saved;
}

// A pool with three objects, two of which are a block.
inline SavedPublisher SavedPoolOf(index::PrefixIndex& index) {
  ingest::PoolIngest pool(index, ingest::PoolProfile{.name = "pool|default|0", .model = "m"}, {});
  wire::EventBatch batch;
  for (const char* key : {"m@tp_rank:0@pcp0@dcp0@pp_rank:0@00000000000000aa",
                          "m@tp_rank:1@pcp0@dcp0@pp_rank:0@00000000000000aa",
                          "m@tp_rank:0@pcp0@dcp0@pp_rank:0@00000000000000bb"}) {
    wire::ObjectStored stored;
    stored.key = key;
    stored.medium = "cpu";
    batch.events.emplace_back(std::move(stored));
  }
  pool.Apply(batch);
  SavedPublisher saved{.key = "pool|default|0", .registration = "{}", .saved_at = 1000};
  saved.resume.emplace();
  const auto copy = pool.BeginCopy({});
  while (copy->Step()) {
  }
  saved.pool = copy->Take();
  return saved;
}

}  // namespace conductor::store

#endif  // CONDUCTOR_TESTS_STORE_SAVED_EXAMPLES_H_
