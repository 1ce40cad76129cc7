#ifndef CONDUCTOR_LIB_STREAM_RESOLVER_H_
#define CONDUCTOR_LIB_STREAM_RESOLVER_H_

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "lib/base/result.h"

namespace conductor::stream {

// The numeric addresses of a host, the preferred first, IPv6 ones without brackets; never empty.
using HostAddresses = Result<std::vector<std::string>>;
// May block for as long as it likes, and is called from several threads at once.
using ResolveFunction = std::function<HostAddresses(const std::string& host)>;

// Asks the system (getaddrinfo), which asks name servers: tens of seconds when they are silent.
[[nodiscard]] HostAddresses ResolveHost(const std::string& host);

// An answer that is to come. Let go of it when it is not wanted any more.
class Lookup {
 public:
  explicit Lookup(int event) : event_(event) {}
  ~Lookup();
  Lookup(const Lookup&) = delete;
  Lookup& operator=(const Lookup&) = delete;

  // Readable once the answer is there. Valid as long as this is.
  [[nodiscard]] int fd() const { return event_; }
  // The answer, once; nothing before it is there.
  [[nodiscard]] std::optional<HostAddresses> Take();

 private:
  friend class Resolver;
  void Answer(HostAddresses answer);

  const int event_;  // an eventfd
  std::mutex mutex_;
  std::optional<HostAddresses> answer_;  // guarded by mutex_
};

// Finds hosts by name without making anybody wait. libzmq would do it on its I/O threads, where one
// name server that is silent stops every connection of the process, and its end.
//
// A few threads (kMostThreads), started when there is something to find and gone when there is
// not. One host is asked for once at a time, however many want to know. So that many names that
// cannot be resolved only delay others: each takes a thread for as long as the system tries.
//
// Thread-safe.
class Resolver {
 public:
  static constexpr size_t kMostThreads = 8;

  explicit Resolver(ResolveFunction resolve);
  // Does not wait for what is being asked: nobody hears the answer, and the thread that asks
  // touches nothing but its own state and `resolve`, which lives as long as it does.
  ~Resolver();
  Resolver(const Resolver&) = delete;
  Resolver& operator=(const Resolver&) = delete;

  // Never blocks. An error only when the process has no file descriptors or threads left.
  [[nodiscard]] Result<std::shared_ptr<Lookup>> Resolve(const std::string& host);

 private:
  struct State;
  static void Run(const std::shared_ptr<State>& state);

  std::shared_ptr<State> state_;
};

}  // namespace conductor::stream

#endif  // CONDUCTOR_LIB_STREAM_RESOLVER_H_
