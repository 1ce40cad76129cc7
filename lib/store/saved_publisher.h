#ifndef CONDUCTOR_LIB_STORE_SAVED_PUBLISHER_H_
#define CONDUCTOR_LIB_STORE_SAVED_PUBLISHER_H_

#include <cstdint>
#include <optional>
#include <string>

#include "lib/ingest/saved_life.h"
#include "lib/stream/publisher_stream.h"

namespace conductor::store {

// One publisher in a snapshot. What it is registered as is a text here, for a higher layer to read.
struct SavedPublisher {
  std::string key;           // unique in a file
  std::string registration;  // a JSON object
  bool configured =
      false;            // by a configuration file, which says at the next start whether it stays
  double saved_at = 0;  // when the copy was begun, Unix seconds
  std::string state;    // its trust then
  std::string reason;
  std::string detail;
  // Where its stream was: exactly what is held. Nothing: nothing is, nor was ever applied.
  std::optional<stream::Resume> resume;
  // One of the two where there is a `resume`.
  std::optional<ingest::SavedLife> life;
  std::optional<ingest::SavedPool> pool;
};

// A snapshot as a whole.
struct SnapshotInfo {
  std::string path;
  uint64_t bytes = 0;
  int64_t format = 0;      // its user_version
  std::string conductor;   // the version that wrote it
  double saved_at = 0;     // when it was begun, Unix seconds
  uint64_t hash_seed = 0;  // of all local and prefix hashes in it
  uint64_t blocks = 0;     // in runs, each once
  uint64_t runs = 0;
  uint64_t publishers = 0;
  uint64_t holdings = 0;  // (block, holder, tier), copies counted once
};

}  // namespace conductor::store

#endif  // CONDUCTOR_LIB_STORE_SAVED_PUBLISHER_H_
