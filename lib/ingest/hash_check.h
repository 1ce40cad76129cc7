#ifndef CONDUCTOR_LIB_INGEST_HASH_CHECK_H_
#define CONDUCTOR_LIB_INGEST_HASH_CHECK_H_

#include <absl/container/flat_hash_map.h>

#include <cstdint>
#include <deque>
#include <string>

#include "lib/hash/hash_profile.h"
#include "lib/wire/kv_event.h"

namespace conductor::ingest {

// Compares the hashes that a publisher announces with those recomputed under its declared profile:
// of each life the first kFirst blocks, then one in `every`. A profile that is wrong makes a pool's
// objects impossible to find, which shows nowhere else.
//
// A block can be recomputed when its event begins a prompt, or when its parent was recomputed
// lately (kKept digests are kept). Not thread-safe.
class HashCheck {
 public:
  static constexpr uint64_t kFirst = 256;
  static constexpr size_t kKept = 4096;

  // every: 1 or more.
  HashCheck(hash::HashProfile profile, uint32_t every);

  // A stored event with tokens, of whole blocks. `lora_name` is that of its namespace.
  void Look(const wire::BlockStored& event, const std::string& lora_name);

  [[nodiscard]] uint64_t checked() const { return checked_; }  // blocks
  [[nodiscard]] uint64_t matched() const { return matched_; }

  // The likely cause of mismatches, one clause for people that names what was declared and what
  // would fit: another algorithm, seed, hash block size, the LoRA name left out or in, the salt
  // left out. Found by trying them on the first few events that begin a prompt and do not match.
  // Empty while all match.
  [[nodiscard]] const std::string& hint() const { return hint_; }

 private:
  hash::HashProfile profile_;
  uint32_t every_;
  hash::VllmHasher hasher_;
  uint64_t seen_ = 0;  // blocks that could be recomputed
  uint64_t checked_ = 0;
  uint64_t matched_ = 0;
  std::string hint_;
  absl::flat_hash_map<EngineHash, std::string> digests_;
  std::deque<EngineHash> kept_;  // oldest first
};

}  // namespace conductor::ingest

#endif  // CONDUCTOR_LIB_INGEST_HASH_CHECK_H_
