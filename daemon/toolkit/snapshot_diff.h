#ifndef CONDUCTOR_DAEMON_TOOLKIT_SNAPSHOT_DIFF_H_
#define CONDUCTOR_DAEMON_TOOLKIT_SNAPSHOT_DIFF_H_

#include <compare>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "daemon/toolkit/snapshot_content.h"
#include "daemon/toolkit/terminal.h"

namespace conductor::toolkit {

// In what two snapshots differ: what ranks hold, block by block, whichever publisher says it and
// however the chains are cut into runs. A block is its prefix hash in its namespace.
struct SnapshotDiff {
  // What is compared: a rank of an instance in one namespace, on one tier.
  struct Key {
    index::RankKey rank;
    Tier tier = Tier::kGpu;

    auto operator<=>(const Key&) const = default;
  };
  struct Counts {
    uint64_t both = 0;
    uint64_t only_a = 0;
    uint64_t only_b = 0;
    uint64_t otherwise = 0;  // in both, but in another number of copies, or of another span

    [[nodiscard]] uint64_t differing() const { return only_a + only_b + otherwise; }
  };
  enum class Kind : uint8_t { kOnlyA, kOnlyB, kOtherwise };
  struct Block {
    Key key;
    Kind kind = Kind::kOnlyA;
    uint32_t position = 0;  // in its chain
    PrefixHash hash{};
    PrefixHash root{};  // the first block of its chain
  };
  // The chains of prompts that begin with the same block.
  struct Prefix {
    uint64_t only_a = 0;
    uint64_t only_b = 0;
    uint64_t otherwise = 0;
    uint32_t first = ~0u;  // position of the first differing block
    std::set<std::string> instances;

    [[nodiscard]] uint64_t differing() const { return only_a + only_b + otherwise; }
  };
  // What is told of a publisher, and decides nothing: streams go on.
  struct Publisher {
    std::string key;
    bool in_a = false;
    bool in_b = false;
    std::optional<uint64_t> cursor_a;
    std::optional<uint64_t> cursor_b;
    // Objects of a pool, by key, part and tier.
    uint64_t objects_both = 0;
    uint64_t objects_only_a = 0;
    uint64_t objects_only_b = 0;
  };

  std::string name_a;
  std::string name_b;
  std::map<Key, Counts> ranks;  // all that hold anything in one of the two
  // By namespace and root; at most kMostPrefixes, those found first.
  std::map<std::pair<index::NamespaceKey, PrefixHash>, Prefix> prefixes;
  bool more_prefixes = false;
  std::vector<Block>
      first;  // of each rank and tier, by position; at most so many as were asked for
  std::vector<Publisher> publishers;  // in the order of their keys

  static constexpr size_t kMostPrefixes = 100000;

  [[nodiscard]] Counts total() const;
  [[nodiscard]] bool same() const;
};

// `most`: of SnapshotDiff::first. Takes 24 bytes for each block of one rank on one tier at a time.
// Both must be hashed with one seed.
[[nodiscard]] SnapshotDiff CompareSnapshots(const SnapshotContent& a, const SnapshotContent& b,
                                            size_t most);

// For people: a line that says it, and where they differ tables by instance and by prefix, and the
// first differing blocks. At most `most` rows of the latter two.
[[nodiscard]] std::string DiffText(const SnapshotDiff& diff, size_t most, const Terminal& terminal);
// One object and a line break; docs/snapshot.md has its members.
[[nodiscard]] std::string DiffJson(const SnapshotDiff& diff, size_t most);

}  // namespace conductor::toolkit

#endif  // CONDUCTOR_DAEMON_TOOLKIT_SNAPSHOT_DIFF_H_
