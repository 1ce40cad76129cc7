#include "daemon/serve/http_workers.h"

#include <fmt/format.h>
#include <sys/epoll.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <system_error>
#include <utility>
#include <vector>

#include "lib/base/log.h"

namespace conductor::serve {
namespace {

constexpr size_t kThreadStackBytes = 1 << 20;
// How long nothing may move before a thread is added.
constexpr auto kStuckTime = std::chrono::milliseconds(5);
// How long a thread that is not wanted stays.
constexpr auto kRestTime = std::chrono::seconds(10);
constexpr uint64_t kStopId = 0;

}  // namespace

Status HttpWorkers::Start() {
  epoll_ = FileDescriptor(::epoll_create1(EPOLL_CLOEXEC));
  epoll_event stop{.events = EPOLLIN, .data = {.u64 = kStopId}};
  if (epoll_.get() < 0 ||
      ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, shared_.stop_event.get(), &stop) != 0) {
    return Fail(fmt::format("no events for connections: {}", std::strerror(errno)));
  }
  shared_.waits = this;
  most_ = std::max(2U, std::thread::hardware_concurrency());
  {
    const std::lock_guard lock(mutex_);
    AddWorker();
    if (threads_.empty()) return Fail("no thread can be started for connections");
  }
  try {
    supervisor_ = std::thread([this] { Supervise(); });
  } catch (const std::system_error& error) {
    return Fail(fmt::format("no thread can be started for connections: {}", error.what()));
  }
  return {};
}

bool HttpWorkers::Add(std::unique_ptr<HttpConnection> connection) {
  const std::lock_guard lock(mutex_);
  // Ready at once: its transport is opened.
  if (!Park(++last_id_, std::move(connection), EPOLL_CTL_ADD)) return false;
  open_.fetch_add(1, std::memory_order_relaxed);
  return true;
}

bool HttpWorkers::Park(uint64_t id, std::unique_ptr<HttpConnection> connection, int operation) {
  const uint32_t wanted = connection->wanted();
  const int fd = connection->fd();
  Place& place = places_[id];
  place.connection = std::move(connection);
  place.until = MonoNow() + shared_.limits.idle_timeout;
  place.order = waiting_.insert(waiting_.end(), id);
  epoll_event event{.events = wanted | EPOLLONESHOT, .data = {.u64 = id}};
  if (::epoll_ctl(epoll_.get(), operation, fd, &event) == 0) return true;
  waiting_.erase(place.order);
  places_.erase(id);
  return false;
}

void HttpWorkers::Run() {
  sigset_t broken_pipe;
  ::sigemptyset(&broken_pipe);
  ::sigaddset(&broken_pipe, SIGPIPE);
  ::pthread_sigmask(SIG_BLOCK, &broken_pipe, nullptr);  // see TlsTransport
  std::unique_lock lock(mutex_);
  --coming_;
  while (!shared_.stopping) {
    // Somebody waits for events already: whoever was added for those that were stuck may go.
    if (more_ > 0 && polling_ > 0) --more_;
    if (polling_ + running_ >= most_ + more_) {
      // Those that run may have been called to run, and be at it for long.
      if (polling_ == 0) Watch();
      if (!Rest(lock)) return;
      continue;
    }
    ++polling_;
    lock.unlock();
    epoll_event event{};
    const int ready = ::epoll_wait(epoll_.get(), &event, 1, -1);
    lock.lock();
    --polling_;
    if (ready == 1 && event.data.u64 != kStopId) Take(event.data.u64, lock);
  }
}

bool HttpWorkers::Rest(std::unique_lock<std::mutex>& lock) {
  ++dormant_;
  const bool called =
      wanted_.wait_for(lock, kRestTime, [this] { return called_ > 0 || shared_.stopping.load(); });
  --dormant_;
  if (called_ > 0) {
    --called_;
    return true;
  }
  if (called || dormant_ < most_) return true;
  // Many were needed once, and are not now.
  std::erase_if(threads_,
                [](pthread_t thread) { return ::pthread_equal(thread, ::pthread_self()); });
  ended_.push_back(::pthread_self());
  return false;
}

void HttpWorkers::Take(uint64_t id, std::unique_lock<std::mutex>& lock) {
  const auto place = places_.find(id);
  if (place == places_.end()) return;  // its time was over
  std::unique_ptr<HttpConnection> connection = std::move(place->second.connection);
  waiting_.erase(place->second.order);
  ++running_;
  if (polling_ == 0) {
    if (running_ < most_) {
      AddWorker();
    } else {
      Watch();
    }
  }
  lock.unlock();
  const bool goes_on = connection->Serve() == HttpConnection::Served::kForNow;
  lock.lock();
  --running_;
  ++finished_;
  if (goes_on && Park(id, std::move(connection), EPOLL_CTL_MOD)) return;
  places_.erase(id);
  lock.unlock();
  connection.reset();
  open_.fetch_sub(1, std::memory_order_relaxed);
  lock.lock();
}

void HttpWorkers::AddWorker() {
  if (coming_ + called_ > 0) return Watch();  // and see whether that was enough
  if (dormant_ > called_) {
    ++called_;
    wanted_.notify_one();
    return;
  }
  pthread_attr_t attributes;
  ::pthread_attr_init(&attributes);
  ::pthread_attr_setstacksize(&attributes, kThreadStackBytes);
  pthread_t thread{};
  const int error = ::pthread_create(
      &thread, &attributes,
      [](void* workers) -> void* {
        static_cast<HttpWorkers*>(workers)->Run();
        return nullptr;
      },
      this);
  ::pthread_attr_destroy(&attributes);
  if (error == 0) {
    ++coming_;
    threads_.push_back(thread);
  } else {
    Watch();  // it is tried again
  }
}

void HttpWorkers::Watch() {
  if (watched_) return;
  watched_ = true;
  supervise_.notify_one();
}

void HttpWorkers::BeginWait() {
  const std::lock_guard lock(mutex_);
  --running_;
  if (polling_ > 0) return;
  if (running_ == 0) {
    AddWorker();
  } else {
    Watch();
  }
}

void HttpWorkers::EndWait() {
  const std::lock_guard lock(mutex_);
  ++running_;
}

void HttpWorkers::Supervise() {
  std::unique_lock lock(mutex_);
  while (!shared_.stopping) {
    const uint64_t before = finished_;
    if (watched_) {
      supervise_.wait_for(lock, kStuckTime);
      if (polling_ > 0) {
        watched_ = false;
      } else if (finished_ == before && coming_ + called_ == 0) {
        // One more than are stuck, and than most_ where they do not wait for a client.
        if (running_ >= most_ + more_) ++more_;
        AddWorker();
      }
    } else {
      // One that begins to wait meanwhile waits for at least as long.
      const MonoTime until = waiting_.empty() ? MonoNow() + shared_.limits.idle_timeout
                                              : places_.at(waiting_.front()).until;
      supervise_.wait_until(lock, until, [this] { return watched_ || shared_.stopping.load(); });
    }
    Expire();
    JoinEnded();
  }
}

void HttpWorkers::JoinEnded() {
  for (const pthread_t thread : ended_) ::pthread_join(thread, nullptr);
  ended_.clear();
}

void HttpWorkers::Expire() {
  const MonoTime now = MonoNow();
  while (!waiting_.empty()) {
    const auto place = places_.find(waiting_.front());
    if (place->second.until > now) return;
    waiting_.pop_front();
    places_.erase(place);
    open_.fetch_sub(1, std::memory_order_relaxed);
  }
}

void HttpWorkers::Stop() {
  {
    const std::lock_guard lock(mutex_);
    wanted_.notify_all();
    supervise_.notify_all();
  }
  if (supervisor_.joinable()) supervisor_.join();
  // Nobody starts another one once the supervisor and all that were there before have ended.
  for (size_t i = 0;; ++i) {
    pthread_t thread{};
    {
      const std::lock_guard lock(mutex_);
      if (i >= threads_.size()) break;
      thread = threads_[i];
    }
    ::pthread_join(thread, nullptr);
  }
  threads_.clear();
  JoinEnded();
  places_.clear();
  waiting_.clear();
  open_ = 0;
}

size_t HttpWorkers::threads() const {
  const std::lock_guard lock(mutex_);
  return threads_.size();
}

}  // namespace conductor::serve
