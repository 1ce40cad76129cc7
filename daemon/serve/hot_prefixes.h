#ifndef CONDUCTOR_DAEMON_SERVE_HOT_PREFIXES_H_
#define CONDUCTOR_DAEMON_SERVE_HOT_PREFIXES_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lib/hash/block_hash.h"
#include "lib/index/prefix_index.h"
#include "lib/index/prefix_source.h"

namespace conductor::serve {

// Which prefixes queries find on an instance most often: the last block that one matched there
// stands for the prefix up to it.
//
// A bounded sketch (Space-Saving: Metwally, Agrawal, El Abbadi, 2005) for each instance in each
// namespace: whatever more than one in Options::entries of its counted queries ended at is in it. A
// count may be too high by its `error`, never too low. Counts are halved now and then, so that what
// was hot long ago makes room.
//
// Queries are sampled, and one never waits: where another is being counted it is passed over. A
// query that is not counted costs an increment. Thread-safe.
class HotPrefixes {
 public:
  struct Options {
    uint32_t sample_every = 16;   // queries of one thread
    size_t entries = 64;          // of a sketch
    size_t max_sketches = 4096;   // 2.5 KB each; others are not counted
    uint64_t halve_at = 1 << 16;  // counted queries of a sketch
  };

  struct Entry {
    PrefixHash hash{};
    uint32_t blocks = 0;  // of the prefix
    uint64_t count = 0;   // counted queries
    uint64_t error = 0;
  };
  struct Sketch {
    std::vector<Entry> entries;  // highest count first
    uint64_t counted = 0;        // queries, those of entries that were given up among them
  };

  explicit HotPrefixes(const Options& options) : options_(options) {}
  HotPrefixes() : HotPrefixes(Options{}) {}

  // The source of one lookup, which keeps what it gave where the query is counted.
  class Watched final : public index::PrefixSource {
   public:
    // Both must outlive it.
    Watched(HotPrefixes& hot, index::PrefixSource& source)
        : hot_(hot), source_(source), counted_(hot.IsSampled()) {}

    [[nodiscard]] size_t Next(std::span<PrefixHash> out) override {
      const size_t count = source_.Next(out);
      const auto given = out.first(count);
      if (counted_) given_.insert(given_.end(), given.begin(), given.end());
      return count;
    }
    // What the lookup found.
    void Found(const index::Matches& matches) const {
      if (counted_ && !matches.ranks.empty()) hot_.Count(matches, given_);
    }

   private:
    HotPrefixes& hot_;
    index::PrefixSource& source_;
    const bool counted_;
    std::vector<PrefixHash> given_;
  };

  // Of the instance in the namespace; empty when nothing was counted.
  [[nodiscard]] Sketch Of(const index::NamespaceKey& name_space, std::string_view instance) const;
  // The instance is gone.
  void Forget(std::string_view instance);

  [[nodiscard]] const Options& options() const { return options_; }

 private:
  // Whether this thread's next query is counted.
  [[nodiscard]] bool IsSampled() const;
  void Count(const index::Matches& matches, std::span<const PrefixHash> prompt);
  void Add(Sketch& sketch, PrefixHash hash, uint32_t blocks) const;

  const Options options_;
  mutable std::mutex mutex_;  // guards what follows
  std::map<index::NamespaceKey, std::map<std::string, Sketch, std::less<>>> sketches_;
  size_t sketch_count_ = 0;
};

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_HOT_PREFIXES_H_
