#include "lib/stream/ingest_loop.h"

#include <fmt/format.h>
#include <poll.h>
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

// In epoll's 64 bits: the task's id, and whether the descriptor is its monitor's. Ids are small.
constexpr uint64_t kWakeup = ~uint64_t{0};

// Makes the id of a bound endpoint's task out of that of the first publisher there.
constexpr uint64_t kEndpoint = uint64_t{1} << 60;

uint64_t Token(uint64_t task, bool monitor) { return task << 1 | (monitor ? 1u : 0u); }

}  // namespace

Result<std::unique_ptr<IngestLoop>> IngestLoop::Start(const std::string& name, void* context,
                                                      const Transport::Options& options) {
  const int epoll = epoll_create1(EPOLL_CLOEXEC);
  const int wakeup = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (epoll < 0 || wakeup < 0) {
    const int error = errno;
    if (epoll >= 0) close(epoll);
    if (wakeup >= 0) close(wakeup);
    return Fail(fmt::format("an ingest thread cannot be started: {}", std::strerror(error)), {},
                "a higher limit of open files (ulimit -n)");
  }
  auto loop = std::unique_ptr<IngestLoop>(new IngestLoop(epoll, wakeup, context, options));
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
  BoundEndpoint* bound = nullptr;
  if (const std::string endpoint = link->BoundTo(); !endpoint.empty()) {
    auto found = Bind(endpoint, id);
    if (!found) return tl::unexpected(found.error());
    bound = *found;
  }
  if (auto opened = link->Open(MonoNow(), bound); !opened) return opened;
  Entry& entry = entries_[id];
  entry.task = link.get();
  entry.link = std::move(link);
  entry.board = std::move(board);
  if (bound) {
    const std::lock_guard lock(entry.board->mutex);
    entry.board->unrouted = bound->unrouted();
  }
  MarkReady(id, /*monitor=*/true);
  return {};
}

// What listens at the endpoint, which is bound where nothing does yet.
Result<BoundEndpoint*> IngestLoop::Bind(const std::string& endpoint, uint64_t id) {
  Bound& bound = endpoints_[BoundEndpoint::KeyOf(endpoint)];
  if (bound.endpoint) return bound.endpoint.get();
  bound.id = id | kEndpoint;
  bound.endpoint =
      std::make_unique<BoundEndpoint>(context_, watcher(), bound.id, options_, endpoint);
  entries_[bound.id].task = bound.endpoint.get();
  if (auto opened = bound.endpoint->Open(); !opened) {
    CloseEmptyEndpoints();
    return tl::unexpected(opened.error());
  }
  MarkReady(bound.id, /*monitor=*/true);
  return bound.endpoint.get();
}

void IngestLoop::CloseEmptyEndpoints() {
  for (auto bound = endpoints_.begin(); bound != endpoints_.end();) {
    if (!bound->second.endpoint->empty()) {
      ++bound;
      continue;
    }
    Forget(bound->second.id);
    bound = endpoints_.erase(bound);
  }
}

void IngestLoop::Remove(uint64_t id) {
  Forget(id);
  CloseEmptyEndpoints();
}

void IngestLoop::Forget(uint64_t id) {
  const auto entry = entries_.find(id);
  if (entry == entries_.end()) return;
  deadlines_.erase({entry->second.deadline, id});
  // Its end may make others ready, so it comes when it is no entry any more.
  const std::unique_ptr<PublisherLink> link = std::move(entry->second.link);
  entries_.erase(entry);
}

PublisherLink* IngestLoop::Find(uint64_t id) {
  const auto entry = entries_.find(id);
  if (entry == entries_.end()) return nullptr;
  MarkReady(id, /*monitor=*/false);
  return entry->second.link.get();
}

void IngestLoop::Hold(uint64_t id) {
  const auto entry = entries_.find(id);
  if (entry != entries_.end()) entry->second.held = true;
}

void IngestLoop::LetGo(uint64_t id) {
  const auto entry = entries_.find(id);
  if (entry == entries_.end()) return;
  entry->second.held = false;
  MarkReady(id, /*monitor=*/true);
}

void IngestLoop::Watch(int fd, uint64_t task, bool monitor) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = Token(task, monitor);
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
  for (auto& [id, entry] : entries_) entry.link.reset();
  entries_.clear();
  endpoints_.clear();
}

// A wake-up costs more than what it is for, so those that follow closely are put together.
void IngestLoop::Gather() {
  if (!ready_.empty()) return;
  const Duration left = woken_ + options_.gather - MonoNow();
  if (left <= Duration::zero()) return;
  pollfd commands{.fd = wakeup_, .events = POLLIN, .revents = 0};
  const auto count = std::chrono::duration_cast<std::chrono::nanoseconds>(left).count();
  const timespec wait{.tv_sec = count / 1'000'000'000, .tv_nsec = count % 1'000'000'000};
  ppoll(&commands, 1, &wait, nullptr);
}

void IngestLoop::Wait() {
  Gather();
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
  woken_ = now;
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
  if (entry.held) {
    // What is due stays due, and is looked at when it is let go.
    deadlines_.erase({entry.deadline, id});
    entry.deadline = MonoTime::max();
    return;
  }
  const bool more = entry.task->Turn(std::exchange(entry.monitor, false));
  if (more) MarkReady(id, /*monitor=*/false);
  const MonoTime deadline = entry.task->Deadline().value_or(MonoTime::max());
  if (deadline != entry.deadline) {
    deadlines_.erase({entry.deadline, id});
    if (deadline != MonoTime::max()) deadlines_.emplace(deadline, id);
    entry.deadline = deadline;
  }
  if (!entry.link) return;
  const std::lock_guard lock(entry.board->mutex);
  entry.board->counters = entry.link->stream().counters();
}

}  // namespace conductor::stream
