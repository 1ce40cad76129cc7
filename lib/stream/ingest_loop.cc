#include "lib/stream/ingest_loop.h"

#include <fmt/format.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace conductor::stream {
namespace {

// In epoll's 64 bits: the link's id, and whether the descriptor is its monitor's. Ids are small.
constexpr uint64_t kWakeup = ~uint64_t{0};

uint64_t Token(uint64_t link, bool monitor) { return link << 1 | (monitor ? 1u : 0u); }

}  // namespace

Result<std::unique_ptr<IngestLoop>> IngestLoop::Start(const std::string& name) {
  const int epoll = epoll_create1(EPOLL_CLOEXEC);
  const int wakeup = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (epoll < 0 || wakeup < 0) {
    const int error = errno;
    if (epoll >= 0) close(epoll);
    if (wakeup >= 0) close(wakeup);
    return Fail(fmt::format("an ingest thread cannot be started: {}", std::strerror(error)), {},
                "a higher limit of open files (ulimit -n)");
  }
  auto loop = std::unique_ptr<IngestLoop>(new IngestLoop(epoll, wakeup));
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = kWakeup;
  epoll_ctl(epoll, EPOLL_CTL_ADD, wakeup, &event);
  loop->thread_ = std::thread([raw = loop.get()] { raw->Loop(); });
  pthread_setname_np(loop->thread_.native_handle(), name.c_str());
  return loop;
}

IngestLoop::~IngestLoop() {
  if (thread_.joinable()) {
    {
      const std::lock_guard lock(mutex_);
      ending_ = true;
    }
    Wake();
    thread_.join();
  }
  close(epoll_);
  close(wakeup_);
}

void IngestLoop::Call(const std::function<void()>& work) {
  Command command{.work = &work};
  std::unique_lock lock(mutex_);
  commands_.push_back(&command);
  Wake();
  done_.wait(lock, [&] { return command.done; });
}

void IngestLoop::Wake() {
  const uint64_t one = 1;
  // Fails only when the counter is full, and then it is readable anyway.
  [[maybe_unused]] const ssize_t written = write(wakeup_, &one, sizeof one);
}

Status IngestLoop::Add(uint64_t id, std::unique_ptr<PublisherLink> link,
                       std::shared_ptr<CounterBoard> board) {
  if (auto opened = link->Open(MonoNow()); !opened) return opened;
  Entry& entry = entries_[id];
  entry.link = std::move(link);
  entry.board = std::move(board);
  MarkReady(id, /*monitor=*/true);
  return {};
}

void IngestLoop::Remove(uint64_t id) {
  const auto entry = entries_.find(id);
  if (entry == entries_.end()) return;
  deadlines_.erase({entry->second.deadline, id});
  entries_.erase(entry);
}

PublisherLink* IngestLoop::Find(uint64_t id) {
  const auto entry = entries_.find(id);
  if (entry == entries_.end()) return nullptr;
  MarkReady(id, /*monitor=*/false);
  return entry->second.link.get();
}

void IngestLoop::Watch(int fd, uint64_t link, bool monitor) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = Token(link, monitor);
  epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event);
}

void IngestLoop::Unwatch(int fd) { epoll_ctl(epoll_, EPOLL_CTL_DEL, fd, nullptr); }

void IngestLoop::Loop() {
  for (;;) {
    RunCommands();
    {
      const std::lock_guard lock(mutex_);
      if (ending_ && commands_.empty()) break;
    }
    Wait();
    // Those that are ready now, one turn each; who has more to do queues up again.
    for (size_t turns = ready_.size(); turns > 0; --turns) {
      const uint64_t id = ready_.front();
      ready_.pop_front();
      TakeTurn(id);
    }
  }
  entries_.clear();
}

void IngestLoop::Wait() {
  int timeout = -1;
  if (!ready_.empty()) {
    timeout = 0;
  } else if (!deadlines_.empty()) {
    const auto left = deadlines_.begin()->first - MonoNow();
    const auto milliseconds = std::chrono::ceil<std::chrono::milliseconds>(left).count();
    timeout = static_cast<int>(std::clamp<int64_t>(milliseconds, 0, 60'000));
  }
  std::array<epoll_event, 64> events;
  const int count = epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), timeout);
  for (int i = 0; i < count; ++i) {
    const uint64_t token = events[static_cast<size_t>(i)].data.u64;
    if (token == kWakeup) {
      uint64_t counter = 0;
      [[maybe_unused]] const ssize_t got = read(wakeup_, &counter, sizeof counter);
    } else {
      MarkReady(token >> 1, (token & 1) != 0);
    }
  }
  const MonoTime now = MonoNow();
  for (const auto& [deadline, id] : deadlines_) {
    if (deadline > now) break;
    MarkReady(id, /*monitor=*/false);
  }
}

void IngestLoop::RunCommands() {
  std::vector<Command*> commands;
  {
    const std::lock_guard lock(mutex_);
    commands.swap(commands_);
  }
  for (Command* command : commands) {
    (*command->work)();
    // The caller may be gone, and the command with it, as soon as the lock is.
    const std::lock_guard lock(mutex_);
    command->done = true;
    done_.notify_all();
  }
}

void IngestLoop::MarkReady(uint64_t id, bool monitor) {
  const auto found = entries_.find(id);
  if (found == entries_.end()) return;
  Entry& entry = found->second;
  entry.monitor |= monitor;
  if (!std::exchange(entry.ready, true)) ready_.push_back(id);
}

void IngestLoop::TakeTurn(uint64_t id) {
  const auto found = entries_.find(id);
  if (found == entries_.end()) return;
  Entry& entry = found->second;
  entry.ready = false;
  const bool more = entry.link->Turn(std::exchange(entry.monitor, false));
  if (more) MarkReady(id, /*monitor=*/false);
  const MonoTime deadline = entry.link->Deadline().value_or(MonoTime::max());
  if (deadline != entry.deadline) {
    deadlines_.erase({entry.deadline, id});
    if (deadline != MonoTime::max()) deadlines_.emplace(deadline, id);
    entry.deadline = deadline;
  }
  const std::lock_guard lock(entry.board->mutex);
  entry.board->counters = entry.link->stream().counters();
}

}  // namespace conductor::stream
