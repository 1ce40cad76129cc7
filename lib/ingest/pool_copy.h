#ifndef CONDUCTOR_LIB_INGEST_POOL_COPY_H_
#define CONDUCTOR_LIB_INGEST_POOL_COPY_H_

#include <absl/container/flat_hash_map.h>

#include <cstddef>
#include <functional>
#include <optional>
#include <string>

#include "lib/base/clock.h"
#include "lib/index/chain_copy.h"
#include "lib/ingest/pool_objects.h"
#include "lib/ingest/saved_life.h"

namespace conductor::ingest {

// Copies a pool's objects and the blocks that they were joined with, piece by piece. It is what is
// true at one moment as long as nothing is done to the pool between its making and the last Step().
class PoolCopy {
 public:
  // Until when an object counts on a tier, from now; nothing: without end.
  using Left = std::function<std::optional<Duration>(const ObjectId&, Tier)>;

  // Whether some of its blocks were given up for the index's memory_limit.
  using Trimmed = std::function<bool()>;

  // `begun` has what is not in `objects`. Both references outlive it.
  PoolCopy(const index::PrefixIndex& index, const PoolObjects& objects, SavedPool begun,
           const std::string& additional_salt, Left left, Trimmed trimmed);

  bool Step();
  [[nodiscard]] SavedPool Take();

 private:
  void CopyFamilies();
  bool StepObjects();
  bool StepJoined();

  const PoolObjects& objects_;
  SavedPool pool_;
  const std::string additional_salt_;
  Left left_;
  Trimmed trimmed_;
  index::ChainCopy chains_;
  absl::flat_hash_map<const void*, uint32_t> family_numbers_;
  decltype(PoolObjects::objects_)::const_iterator object_;
  decltype(PoolObjects::scopes_)::const_iterator scope_;
  std::optional<decltype(PoolObjects::Names::whole)::const_iterator> name_;  // of scope_
};

}  // namespace conductor::ingest

#endif  // CONDUCTOR_LIB_INGEST_POOL_COPY_H_
