#include "lib/stream/resolver.h"

#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <deque>
#include <exception>
#include <map>
#include <system_error>
#include <thread>
#include <utility>

namespace conductor::stream {
namespace {

// More addresses than that of one name are not tried.
constexpr size_t kMostAddresses = 16;

}  // namespace

HostAddresses ResolveHost(const std::string& host) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int code = getaddrinfo(host.c_str(), nullptr, &hints, &found);
  if (code != 0) return Fail(code == EAI_SYSTEM ? std::strerror(errno) : gai_strerror(code));
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owned(found, freeaddrinfo);
  std::vector<std::string> addresses;
  for (const addrinfo* entry = found; entry; entry = entry->ai_next) {
    std::array<char, NI_MAXHOST> text{};
    if (getnameinfo(entry->ai_addr, entry->ai_addrlen, text.data(), text.size(), nullptr, 0,
                    NI_NUMERICHOST) != 0) {
      continue;
    }
    std::string address = text.data();
    if (std::ranges::find(addresses, address) != addresses.end()) continue;
    addresses.push_back(std::move(address));
    if (addresses.size() == kMostAddresses) break;
  }
  if (addresses.empty()) return Fail("it has no address");
  return addresses;
}

Lookup::~Lookup() { close(event_); }

std::optional<HostAddresses> Lookup::Take() {
  const std::lock_guard lock(mutex_);
  return std::exchange(answer_, std::nullopt);
}

void Lookup::Answer(HostAddresses answer) {
  {
    const std::lock_guard lock(mutex_);
    answer_ = std::move(answer);
  }
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = write(event_, &one, sizeof one);
}

// Shared with the threads, and so alive as long as the last of them.
struct Resolver::State {
  explicit State(ResolveFunction with) : resolve(std::move(with)) {}

  const ResolveFunction resolve;
  std::mutex mutex;  // guards everything below
  // Hosts that are asked for or wait for it, and who wants to know.
  std::map<std::string, std::vector<std::weak_ptr<Lookup>>> wanted;
  std::deque<std::string> queue;  // of those, the ones that wait
  size_t threads = 0;
};

Resolver::Resolver(ResolveFunction resolve) : state_(std::make_shared<State>(std::move(resolve))) {}

Resolver::~Resolver() {
  const std::lock_guard lock(state_->mutex);
  state_->wanted.clear();
  state_->queue.clear();
}

Result<std::shared_ptr<Lookup>> Resolver::Resolve(const std::string& host) {
  const int event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (event < 0) {
    return Fail(std::strerror(errno), {}, "a higher limit of open files (ulimit -n)");
  }
  auto lookup = std::make_shared<Lookup>(event);
  const std::lock_guard lock(state_->mutex);
  const auto [entry, added] = state_->wanted.try_emplace(host);
  std::erase_if(entry->second, [](const auto& waiter) { return waiter.expired(); });
  entry->second.push_back(lookup);
  if (!added) return lookup;
  state_->queue.push_back(host);
  if (state_->threads == kMostThreads) return lookup;
  try {
    std::thread thread([state = state_] { Run(state); });
    ++state_->threads;
    pthread_setname_np(thread.native_handle(), "resolver");
    thread.detach();
  } catch (const std::system_error& error) {
    if (state_->threads > 0) return lookup;
    state_->queue.pop_back();
    state_->wanted.erase(entry);
    return Fail(fmt::format("no thread can be started: {}", error.what()));
  }
  return lookup;
}

void Resolver::Run(const std::shared_ptr<State>& state) {
  std::unique_lock lock(state->mutex);
  while (!state->queue.empty()) {
    const std::string host = std::move(state->queue.front());
    state->queue.pop_front();
    lock.unlock();
    HostAddresses answer;
    try {
      answer = state->resolve(host);
    } catch (const std::exception& error) {
      answer = Fail(error.what());
    }
    lock.lock();
    const auto waiters = state->wanted.extract(host);
    if (waiters.empty()) continue;
    lock.unlock();
    for (const auto& waiter : waiters.mapped()) {
      if (const auto lookup = waiter.lock()) lookup->Answer(answer);
    }
    lock.lock();
  }
  --state->threads;
}

}  // namespace conductor::stream
