#ifndef CONDUCTOR_DAEMON_TOOLKIT_REPLAY_PUBLISH_H_
#define CONDUCTOR_DAEMON_TOOLKIT_REPLAY_PUBLISH_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "daemon/toolkit/redialect.h"
#include "daemon/toolkit/replay_sink.h"
#include "daemon/toolkit/sequence_watch.h"
#include "lib/base/clock.h"
#include "lib/trace/simulated_publisher.h"

namespace conductor::toolkit {

// Gives the batches of publishers the sequences that they are published under.
//
// Kept: what was a hole, a duplicate or a restart in the source is one again. Renumbered: one after
// the other from the first of a life, without duplicates; a restart of the only publisher begins
// anew, among several it does not show.
class Numbering {
 public:
  enum class Mode : uint8_t { kKeep, kRenumber };
  enum class What : uint8_t {
    kNext,      // of this life
    kRepeated,  // the same batch again, or one that is late
    kNewLife,   // the first of another life
  };
  struct Number {
    What what = What::kNext;
    uint64_t sequence = 0;
  };

  // `first`: of a life, where it is renumbered.
  Numbering(Mode mode, uint64_t first, size_t publishers)
      : mode_(mode), first_(first), next_(first), watches_(publishers) {}

  // Nothing: the batch is to be left out. `replayed`: see SequenceWatch::Judge().
  [[nodiscard]] std::optional<Number> Take(uint32_t publisher, uint64_t sequence,
                                           std::string_view payload, bool replayed = false);

 private:
  const Mode mode_;
  const uint64_t first_;
  uint64_t next_;
  std::vector<SequenceWatch> watches_;  // by publisher
};

// Plays a source as a live publisher, for any subscriber: an indexer, a router, `conductor tap`.
class PublishSink : public ReplaySink {
 public:
  struct Options {
    std::string endpoint;                   // "tcp://*:5557"
    std::string replay_endpoint;            // empty: none
    std::optional<PublishDialect> dialect;  // nothing: payloads as they are
    bool renumber = false;                  // always so for several publishers and for `mooncake`
    bool wait_subscriber = false;
    size_t ring_batches = 10000;
    Duration stay{};  // after the last batch, to answer replays
    Stopped stopped;
  };

  // Binds. `publishers` as the source has them; `picked`: one of them, otherwise all are merged.
  [[nodiscard]] static Result<std::unique_ptr<PublishSink>> Create(
      const Options& options, const std::vector<SourcePublisher>& publishers,
      std::optional<uint32_t> picked);

  // As they were bound.
  [[nodiscard]] const std::string& endpoint() const { return publisher_->endpoint(); }
  [[nodiscard]] const std::string& replay_endpoint() const { return publisher_->replay_endpoint(); }

  [[nodiscard]] Status Start() override;
  [[nodiscard]] Status Take(const SourceFrame& frame) override;
  [[nodiscard]] Status Finish() override;
  [[nodiscard]] std::vector<std::string> Notes() const override;

 private:
  PublishSink(const Options& options, const std::vector<SourcePublisher>& publishers,
              std::optional<uint32_t> picked);

  const Options options_;
  const std::optional<uint32_t> picked_;
  std::unique_ptr<trace::SimulatedPublisher> publisher_;
  Numbering numbering_;
  std::vector<std::optional<Redialect>> redialects_;  // by publisher, where there is a dialect
  uint64_t published_ = 0;
  uint64_t repeated_ = 0;
  uint64_t lives_ = 0;
  uint64_t unusable_ = 0;  // no messages, or no batches where they had to be read
  std::string first_unusable_;
};

}  // namespace conductor::toolkit

#endif  // CONDUCTOR_DAEMON_TOOLKIT_REPLAY_PUBLISH_H_
