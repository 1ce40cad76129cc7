#ifndef CONDUCTOR_DAEMON_TOOLKIT_SNAPSHOT_CONTENT_H_
#define CONDUCTOR_DAEMON_TOOLKIT_SNAPSHOT_CONTENT_H_

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "lib/base/result.h"
#include "lib/base/tier.h"
#include "lib/hash/block_hash.h"
#include "lib/index/prefix_index.h"
#include "lib/store/saved_publisher.h"
#include "lib/store/snapshot_reader.h"

namespace conductor::toolkit {

// Who holds blocks in a snapshot.
struct SnapshotHolder {
  std::string publisher;    // its key, "instance_id|tenant_id|dp_rank"
  std::string instance_id;  // as it is registered
  uint32_t dp_rank = 0;     // that events named
  uint32_t name_space = 0;  // position in SnapshotContent::namespaces()
};

// What a snapshot says of chains, in memory, to be walked in any order: neither the names that
// engines gave to blocks nor what waits is there.
//
// A run is kept as it is in the file, with its holders as bits: 8 bytes a block, 32 a run and 24
// for each holder and tier of a run, so that 10 million blocks of one holder take some 90 MB. To
// expand them, holder by holder, is for who looks at them.
class SnapshotContent {
 public:
  static constexpr uint32_t kNoRun = ~0u;

  struct Run {
    uint64_t first = 0;        // position in the prefixes of all
    PrefixHash root{};         // the first block of its chain
    uint32_t name_space = 0;   // position in namespaces()
    uint32_t parent = kNoRun;  // position of a run before; none: it begins a prompt
    uint32_t position = 0;     // blocks of the chain before it
    uint8_t parent_block = 0;  // of the parent, that the first one follows
    uint8_t length = 0;        // 1 to 64
  };
  struct Holding {
    uint32_t run = 0;  // position
    Tier tier = Tier::kGpu;
    uint64_t blocks = 0;  // bit i for the run's block i
  };
  // A block of a Holding that is there more than once, or stands for several.
  struct Special {
    uint32_t run = 0;
    Tier tier = Tier::kGpu;
    uint8_t block = 0;
    uint32_t span = 1;  // blocks, with this one as the last
    uint32_t copies = 1;
  };
  struct Held {
    std::vector<Holding> holdings;  // in the order of runs, then of tiers
    std::vector<Special> special;   // the same, then of blocks
  };

  // Reads all of it, and checks it as the reader does.
  [[nodiscard]] static Result<SnapshotContent> Read(store::SnapshotReader& reader);

  [[nodiscard]] const store::SnapshotInfo& info() const { return info_; }
  // In the order of their keys; pools have their objects.
  [[nodiscard]] const std::vector<store::SavedPublisher>& publishers() const { return publishers_; }
  [[nodiscard]] const std::vector<index::NamespaceKey>& namespaces() const { return namespaces_; }
  [[nodiscard]] const std::vector<Run>& runs() const { return runs_; }
  [[nodiscard]] const std::vector<SnapshotHolder>& holders() const { return holders_; }
  // Of the holder at that position.
  [[nodiscard]] const Held& held(size_t holder) const { return held_[holder]; }

  // The hashes of a run's blocks.
  [[nodiscard]] std::span<const PrefixHash> Blocks(uint32_t run) const;
  // The block before that one in its chain, as run and block; nothing: it is a prompt's first.
  [[nodiscard]] std::optional<std::pair<uint32_t, uint32_t>> Before(uint32_t run,
                                                                    uint32_t block) const;

 private:
  class Visitor;

  store::SnapshotInfo info_;
  std::vector<store::SavedPublisher> publishers_;
  std::vector<index::NamespaceKey> namespaces_;
  std::vector<Run> runs_;
  std::vector<PrefixHash> prefixes_;
  std::vector<SnapshotHolder> holders_;
  std::vector<Held> held_;
};

// The instance of a publisher's key, or of what it is registered as where that says it.
[[nodiscard]] std::string InstanceOf(const store::SavedPublisher& publisher);

// As the views of a snapshot write a hash: 16 hexadecimal digits.
[[nodiscard]] std::string HashText(PrefixHash hash);

}  // namespace conductor::toolkit

#endif  // CONDUCTOR_DAEMON_TOOLKIT_SNAPSHOT_CONTENT_H_
