#ifndef CONDUCTOR_LIB_INGEST_SAVED_LIFE_H_
#define CONDUCTOR_LIB_INGEST_SAVED_LIFE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "lib/base/clock.h"
#include "lib/base/tier.h"
#include "lib/hash/block_hash.h"
#include "lib/index/packed_chains.h"
#include "lib/index/prefix_index.h"
#include "lib/ingest/block_shape.h"
#include "lib/wire/object_key.h"

namespace conductor::ingest {

// All that one life of an engine's publisher is, at one moment: what PublisherIngest goes on from.
// Plain values, for a file.
struct SavedLife {
  struct Holder {
    index::NamespaceKey name_space;
    uint32_t dp_rank = 0;
  };
  // A stored event that waits for its place, as WaitingEvent.
  struct Waiting {
    uint32_t space = 0;                             // position in groups
    std::optional<index::NamespaceKey> name_space;  // nothing: that of the block that it names
    Tier tier = Tier::kGpu;
    uint32_t dp_rank = 0;
    std::optional<EngineHash> parent;
    std::vector<EngineHash> hashes;
    std::vector<LocalHash> locals;
    std::vector<PrefixHash> prefixes;
    uint32_t span = 1;
    bool begins_prompt = false;
    std::vector<uint8_t> gone;
  };
  // What ends by itself, and how long it had left.
  struct Deadline {
    uint32_t space = 0;  // position in groups
    Tier tier = Tier::kGpu;
    uint32_t dp_rank = 0;
    EngineHash name{};
    Duration left{};
  };

  uint32_t block_size = 0;          // registered or learnt; 0: not known yet
  std::optional<uint32_t> rank;     // that events were of, the first one ...
  bool several_ranks = false;       // ... and whether there was another
  bool ranks_are_believed = false;  // a rank other than 0 was told
  uint64_t trimmed = 0;             // holdings that were given up for memory_limit
  std::vector<Holder> holders;      // as `chains` numbers them
  std::vector<int64_t> groups;      // KV-cache groups: the spaces of `chains`, in its order
  std::vector<Waiting> waiting;     // in the order they came
  std::vector<Deadline> deadlines;
  index::PackedChains chains;
};

// All that a pool's objects are, at one moment: what PoolIngest goes on from.
struct SavedPool {
  // Keys of one form, tenant, model and group, and what was learnt of them.
  struct Family {
    std::string tenant;
    std::string model;
    wire::KeyFamily form{};
    std::string prefix;
    std::string variant;
    uint32_t group = 0;
    BlockShape::Learnt shape;
  };
  struct Object {
    uint32_t family = 0;  // position in families
    std::string key;
    EngineHash hash{};
    ComponentId component{};
    uint32_t backend = 0;  // position in backends
    bool cpu = false;      // that it is known to be on
    bool disk = false;
    bool settled = false;              // what is known is all
    std::optional<Duration> cpu_left;  // of a time to live
    std::optional<Duration> disk_left;
  };
  // Names that stand for blocks, of one domain and group: a space of `chains`.
  struct Space {
    index::PoolDomain domain;
    uint32_t group = 0;
  };

  bool dropped = false;       // objects found no room
  bool lost_tenants = false;  // a listing could not have objects of other tenants
  std::string foreign_model;
  std::string foreign_prefix;
  uint64_t objects_unread = 0;
  uint64_t objects_foreign = 0;
  uint64_t last_event_id = 0;
  std::vector<std::string> backends;
  std::vector<Family> families;
  std::vector<Object> objects;
  std::vector<Space> spaces;
  index::PackedChains chains;  // joined blocks; nothing is held
};

}  // namespace conductor::ingest

#endif  // CONDUCTOR_LIB_INGEST_SAVED_LIFE_H_
