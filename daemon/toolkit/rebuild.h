#ifndef CONDUCTOR_DAEMON_TOOLKIT_REBUILD_H_
#define CONDUCTOR_DAEMON_TOOLKIT_REBUILD_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/toolkit/rebuild_counts.h"
#include "daemon/toolkit/replay_source.h"
#include "lib/index/prefix_index.h"
#include "lib/ingest/publisher_ingest.h"
#include "lib/stream/publisher_stream.h"
#include "lib/wire/kv_event.h"

namespace conductor::toolkit {

// Sees what becomes of the frames of a rebuild, in the order in which it takes effect.
class RebuildObserver {
 public:
  virtual ~RebuildObserver() = default;

  // A publisher's first frame has come: it is read as `publisher` says, type and all.
  virtual void Begin(uint32_t number, const SourcePublisher& publisher) = 0;
  // One batch, before and after it is in the index.
  virtual void Before(uint32_t number, stream::Sequence sequence,
                      const wire::EventBatch& batch) = 0;
  virtual void After(uint32_t number, stream::Sequence sequence, const wire::EventBatch& batch) = 0;
  // Everything that it held was dropped: it began a new life.
  virtual void NewLife(uint32_t number) = 0;
};

// Recorded frames of several publishers made into one index, as a daemon would have: through
// stream::PublisherStream, wire::Decoder and PublisherIngest or PoolIngest. One thread, no clock:
// the same frames are the same index, counters and texts, every time.
//
// A source holds what came, so nothing can be asked for: frames are to be as FrameOrder gives them,
// and a publisher is one without a replay endpoint. Timers do not run: nobody is probed, and what
// is doubtful stays.
class Rebuild {
 public:
  struct Options {
    uint64_t hash_seed = hash::kDefaultSeed;
    uint64_t memory_limit = 0;  // bytes of index, about; 0: none
    ingest::IngestLimits limits;
  };

  // `observer` may be nullptr; otherwise it must outlive the rebuild.
  Rebuild(const Options& options, const std::vector<SourcePublisher>& publishers,
          RebuildObserver* observer = nullptr);
  ~Rebuild();
  Rebuild(const Rebuild&) = delete;
  Rebuild& operator=(const Rebuild&) = delete;

  // Anything but an answer.
  void Feed(const SourceFrame& frame);

  [[nodiscard]] const index::PrefixIndex& index() const { return index_; }

  struct PublisherResult {
    SourcePublisher publisher;  // as it was read
    RebuildCounts counts;
    stream::StreamCounters stream;
    ingest::IngestCounters ingest;
    stream::Trust trust;  // at the end; a recording's publisher is never connected again
  };
  // In the order of the source; those of which nothing came among them.
  [[nodiscard]] std::vector<PublisherResult> Results() const;

 private:
  class Publisher;

  const Options options_;
  index::PrefixIndex index_;
  RebuildObserver* const observer_;
  std::vector<std::unique_ptr<Publisher>> publishers_;
  std::optional<double> first_;  // Unix seconds of the first frame
  MonoTime now_{};               // of the last frame; never falls
};

}  // namespace conductor::toolkit

#endif  // CONDUCTOR_DAEMON_TOOLKIT_REBUILD_H_
