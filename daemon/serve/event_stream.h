#ifndef CONDUCTOR_DAEMON_SERVE_EVENT_STREAM_H_
#define CONDUCTOR_DAEMON_SERVE_EVENT_STREAM_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "daemon/serve/file_descriptor.h"
#include "lib/base/tier.h"

namespace conductor::serve {

// What is told of publishers, for whoever follows GET /v1/events.
enum class EventType : uint8_t {
  kStored,
  kRemoved,
  kCleared,
  kLife,     // what the publisher told is dropped: it lives anew, or is no longer believed
  kRebuild,  // what follows builds a set that is not answered from yet; or that took effect
  kTrust,    // its state, reason or detail changed
};
// "stored" to "trust".
[[nodiscard]] std::string_view EventTypeName(EventType type);
[[nodiscard]] std::optional<EventType> EventTypeNamed(std::string_view name);

// By what readers choose.
struct EventFacts {
  EventType type = EventType::kStored;
  std::string_view publisher;  // its key
  std::string_view instance_id;
  std::string_view model;
  std::optional<Tier> tier;  // nothing: it speaks of all tiers, or of a medium that is none
};

// An event is taken when it has one of the values of each list that is not empty. One that speaks
// of all tiers has every tier.
struct EventFilter {
  std::vector<std::string> publishers;
  std::vector<std::string> instances;
  std::vector<std::string> models;
  std::vector<EventType> types;
  std::vector<Tier> tiers;

  [[nodiscard]] bool Takes(const EventFacts& event) const;
};

// From the threads that apply events to those that tell them. An ingest thread never waits for a
// reader: each has a queue of its own, bounded in bytes, and what does not fit is lost for it and
// counted. Texts are made once, however many take them, and not at all when nobody does.
// Thread-safe.
class EventStream {
 public:
  struct Options {
    uint32_t max_readers = 16;
    uint64_t queue_bytes = 4 << 20;  // of each reader
  };
  struct Counters {
    uint64_t readers = 0;
    uint64_t told = 0;  // events put into queues, ever
    uint64_t lost = 0;  // events that did not fit there, ever
  };
  class Reader;

  explicit EventStream(const Options& options) : options_(options) {}
  EventStream(const EventStream&) = delete;
  EventStream& operator=(const EventStream&) = delete;

  // False when nobody listens, and then all that an ingest thread pays.
  [[nodiscard]] bool wanted() const { return readers_.load(std::memory_order_acquire) > 0; }

  // `text()` is a JSON object on one line.
  template <typename Text>
  void Tell(const EventFacts& event, Text text) {
    std::shared_ptr<const std::string> block;
    const std::shared_ptr<const QueueList> queues = Queues();  // which a reader's end would free
    for (const auto& queue : *queues) {
      if (!queue->filter.Takes(event)) continue;
      if (!block) block = std::make_shared<const std::string>(Block(event.type, text()));
      Put(*queue, block);
    }
  }

  // From here on; nothing when max_readers do already. The stream must outlive it.
  [[nodiscard]] std::unique_ptr<Reader> Open(EventFilter filter);

  [[nodiscard]] const Options& options() const { return options_; }
  [[nodiscard]] Counters counters() const;

 private:
  struct Queue {
    EventFilter filter;
    FileDescriptor ready;  // an eventfd
    std::mutex mutex;      // guards the rest
    std::deque<std::shared_ptr<const std::string>> blocks;
    uint64_t bytes = 0;  // of blocks
    uint64_t lost = 0;   // after the last of blocks
  };
  using QueueList = std::vector<std::shared_ptr<Queue>>;

  // The lines of one server-sent event.
  [[nodiscard]] static std::string Block(EventType type, std::string_view json);
  [[nodiscard]] std::shared_ptr<const QueueList> Queues() const;
  void Put(Queue& queue, const std::shared_ptr<const std::string>& block);
  void Close(const std::shared_ptr<Queue>& queue);

  const Options options_;
  mutable std::mutex mutex_;
  // Guarded by mutex_; a list is never changed, another takes its place.
  std::shared_ptr<const QueueList> queues_ = std::make_shared<const QueueList>();
  std::atomic<uint64_t> readers_ = 0;  // of queues_; a new reader's queue is there before it counts
  // Counters that stand for themselves.
  std::atomic<uint64_t> told_ = 0;
  std::atomic<uint64_t> lost_ = 0;
};

// One that listens. Used by one thread.
class EventStream::Reader {
 public:
  ~Reader() { stream_.Close(queue_); }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  // Readable once Take() has something.
  [[nodiscard]] int ready() const { return queue_->ready.get(); }

  // What came since, as server-sent events, whole ones of about `most` bytes together; empty when
  // nothing did. Where events were lost stands `event: lost` with their number.
  [[nodiscard]] std::string Take(size_t most);

 private:
  friend class EventStream;
  Reader(EventStream& stream, std::shared_ptr<Queue> queue)
      : stream_(stream), queue_(std::move(queue)) {}

  EventStream& stream_;
  std::shared_ptr<Queue> queue_;
};

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_EVENT_STREAM_H_
