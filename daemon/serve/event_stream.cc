#include "daemon/serve/event_stream.h"

#include <fmt/format.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>

namespace conductor::serve {
namespace {

constexpr std::array<std::string_view, 6> kTypeNames = {"stored", "removed", "cleared",
                                                        "life",   "rebuild", "trust"};

template <typename T, typename U>
bool IsAmong(const std::vector<T>& values, const U& value) {
  return values.empty() || std::ranges::find(values, value) != values.end();
}

std::string LostBlock(uint64_t count) {
  return fmt::format("event: lost\ndata: {{\"type\":\"lost\",\"events\":{}}}\n\n", count);
}

}  // namespace

std::string_view EventTypeName(EventType type) { return kTypeNames[static_cast<size_t>(type)]; }

std::optional<EventType> EventTypeNamed(std::string_view name) {
  const auto found = std::ranges::find(kTypeNames, name);
  if (found == kTypeNames.end()) return std::nullopt;
  return static_cast<EventType>(found - kTypeNames.begin());
}

bool EventFilter::Takes(const EventFacts& event) const {
  return IsAmong(types, event.type) && IsAmong(publishers, event.publisher) &&
         IsAmong(instances, event.instance_id) && IsAmong(models, event.model) &&
         (!event.tier || IsAmong(tiers, *event.tier));
}

std::string EventStream::Block(EventType type, std::string_view json) {
  return fmt::format("event: {}\ndata: {}\n\n", EventTypeName(type), json);
}

std::shared_ptr<const EventStream::QueueList> EventStream::Queues() const {
  const std::lock_guard lock(mutex_);
  return queues_;
}

void EventStream::Put(Queue& queue, const std::shared_ptr<const std::string>& block) {
  const std::lock_guard lock(queue.mutex);
  if (queue.bytes + block->size() > options_.queue_bytes) {
    ++queue.lost;
    lost_.fetch_add(1, std::memory_order_relaxed);
    if (queue.lost > 1 || !queue.blocks.empty()) return;
  } else {
    if (queue.lost > 0) {
      // Small, and one for each time that the queue was full.
      queue.blocks.push_back(std::make_shared<const std::string>(LostBlock(queue.lost)));
      queue.bytes += queue.blocks.back()->size();
      queue.lost = 0;
    }
    const bool was_empty = queue.blocks.empty();
    queue.blocks.push_back(block);
    queue.bytes += block->size();
    told_.fetch_add(1, std::memory_order_relaxed);
    if (!was_empty) return;
  }
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(queue.ready.get(), &one, sizeof one);
}

std::unique_ptr<EventStream::Reader> EventStream::Open(EventFilter filter) {
  auto queue = std::make_shared<Queue>();
  queue->filter = std::move(filter);
  queue->ready = FileDescriptor(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (queue->ready.get() < 0) return nullptr;
  const std::lock_guard lock(mutex_);
  if (queues_->size() >= options_.max_readers) return nullptr;
  QueueList more = *queues_;
  more.push_back(queue);
  queues_ = std::make_shared<const QueueList>(std::move(more));
  readers_.store(queues_->size(), std::memory_order_release);
  return std::unique_ptr<Reader>(new Reader(*this, std::move(queue)));
}

void EventStream::Close(const std::shared_ptr<Queue>& queue) {
  const std::lock_guard lock(mutex_);
  QueueList left = *queues_;
  std::erase(left, queue);
  queues_ = std::make_shared<const QueueList>(std::move(left));
  readers_.store(queues_->size(), std::memory_order_release);
}

EventStream::Counters EventStream::counters() const {
  return {readers_.load(std::memory_order_relaxed), told_.load(std::memory_order_relaxed),
          lost_.load(std::memory_order_relaxed)};
}

std::string EventStream::Reader::Take(size_t most) {
  std::string taken;
  const std::lock_guard lock(queue_->mutex);
  while (!queue_->blocks.empty() && taken.size() < most) {
    const std::string& block = *queue_->blocks.front();
    taken += block;
    queue_->bytes -= block.size();
    queue_->blocks.pop_front();
  }
  if (!queue_->blocks.empty()) return taken;
  if (queue_->lost > 0) taken += LostBlock(std::exchange(queue_->lost, 0));
  uint64_t count = 0;
  [[maybe_unused]] const ssize_t got = ::read(queue_->ready.get(), &count, sizeof count);
  return taken;
}

}  // namespace conductor::serve
