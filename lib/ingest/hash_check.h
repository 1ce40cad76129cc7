#ifndef CONDUCTOR_LIB_INGEST_HASH_CHECK_H_
#define CONDUCTOR_LIB_INGEST_HASH_CHECK_H_

#include <absl/container/flat_hash_map.h>

#include <cstdint>
#include <deque>
#include <optional>
#include <string>

#include "lib/hash/hash_profile.h"
#include "lib/wire/kv_event.h"

namespace conductor::ingest {

// Compares the hashes that a publisher announces with those recomputed under its declared profile:
// of each life the first kFirst blocks, then one in `every`. A profile that is wrong makes a pool's
// objects impossible to find, which shows nowhere else.
//
//  * Events with tokens on the device tier are looked at; connectors below it leave out parents and
//    extra keys. Their blocks are recomputed when the event begins a prompt, or when its parent was
//    recomputed lately and was what is announced (kKept digests are kept).
//  * At the first block that differs an event is left: the blocks after it, in this event and in
//    those that name it as a parent, would differ because it does. So it counts once. A block with
//    an extra key that no engine hashes ends its event too, and does not count.
//  * Where the event's blocks are a multiple of the profile's hash_block_size, the chain runs over
//    the parts, and the last part's digest names the block. The LoRA name is then an extra key of
//    each part, the others of the first.
//  * Extra keys are those of the event; where it has none at all, its LoRA name and, on a prompt's
//    first block, its cache salt.
//
// Costs a hash for each block that is checked, and nothing for others. Memory: about 120 bytes a
// kept digest. Not thread-safe.
class HashCheck {
 public:
  static constexpr uint64_t kFirst = 256;
  static constexpr uint64_t kMostOfEvent = 256;  // blocks of one event
  static constexpr size_t kKept = 512;
  // Mismatching events that other profiles are tried on, a few hundred hashes each.
  static constexpr int kTrials = 4;

  // every: 1 or more.
  HashCheck(hash::HashProfile profile, uint32_t every);

  // A restart: the first blocks are checked again, what is kept is of the old life. Counts go on.
  void NewLife();

  // A stored event; without tokens, or with such that are no whole blocks, it is passed over.
  // `lora_name` is that of its namespace.
  void Look(const wire::BlockStored& event, const std::string& lora_name);

  // Blocks that were recomputed, and those of them that are called as announced.
  [[nodiscard]] uint64_t checked() const { return checked_; }
  [[nodiscard]] uint64_t matched() const { return matched_; }

  // The likely cause of mismatches in this life, a sentence for people without its full stop, that
  // names what was declared and what fits: another algorithm, seed, hash block size, the LoRA name
  // left out or in, the salt left out. Found by trying them on the first events that begin a prompt
  // and do not match. Empty while all match.
  [[nodiscard]] const std::string& hint() const { return hint_; }
  // The profile that hint() speaks of, where one was found.
  [[nodiscard]] const std::optional<hash::HashProfile>& fit() const { return fit_; }

 private:
  // Blocks to check of an event of `blocks`; 0: this one is passed over.
  [[nodiscard]] uint64_t Due(uint64_t blocks);
  void Keep(EngineHash name, std::string digest);
  // The event differs first in block `differs`.
  void FindCause(const wire::BlockStored& event, const std::string& lora_name, size_t differs);

  hash::HashProfile profile_;
  uint32_t every_;
  hash::VllmHasher hasher_;
  uint64_t checked_ = 0;
  uint64_t matched_ = 0;
  // Of this life:
  uint64_t first_left_ = kFirst;  // blocks that are still checked without exception
  int64_t credit_ = 0;            // one a block seen after them, `every` less a block checked
  int trials_ = 0;
  bool cause_found_ = false;
  std::string hint_;
  std::optional<hash::HashProfile> fit_;
  absl::flat_hash_map<EngineHash, std::string> digests_;
  std::deque<EngineHash> kept_;  // oldest first
};

}  // namespace conductor::ingest

#endif  // CONDUCTOR_LIB_INGEST_HASH_CHECK_H_
