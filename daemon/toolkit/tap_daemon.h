#ifndef CONDUCTOR_DAEMON_TOOLKIT_TAP_DAEMON_H_
#define CONDUCTOR_DAEMON_TOOLKIT_TAP_DAEMON_H_

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <thread>

#include "daemon/serve/file_descriptor.h"
#include "daemon/toolkit/tap.h"
#include "lib/base/clock.h"
#include "lib/base/result.h"

namespace httplib {
class Client;
}

namespace conductor::toolkit {

// Takes the lines of server-sent events apart: an event has lines "data: ..." and ends with an
// empty one. Anything else in it, as its name, is told again in the data here.
class ServerSentEvents {
 public:
  // Appends the data of every event that is whole now. False when one is larger than any that a
  // daemon sends.
  [[nodiscard]] bool Feed(std::string_view bytes, std::deque<std::string>& events);

 private:
  static constexpr size_t kMostBytes = 64 << 20;

  std::string line_;
  std::string data_;
};

// Notes on what a daemon sends: each is told once, and only so many, as a daemon of another version
// says for every event what is not known here.
class NotesOnce {
 public:
  void Tell(const std::string& text);

 private:
  static constexpr size_t kMost = 16;
  static constexpr size_t kMostShown = 500;  // bytes of each

  std::set<std::string> told_;
};

// Follows `GET /v1/events` of a daemon on a thread of its own, for a loop that polls. Connects
// again when the daemon goes away; what was said meanwhile is not known.
class TapDaemon {
 public:
  [[nodiscard]] static Result<std::unique_ptr<TapDaemon>> Open(const TapOptions& options);
  ~TapDaemon();
  TapDaemon(const TapDaemon&) = delete;
  TapDaemon& operator=(const TapDaemon&) = delete;

  // Readable when Take() has something.
  [[nodiscard]] int fd() const { return ready_.get(); }
  // What has come, as JSON texts.
  [[nodiscard]] std::deque<std::string> Take();
  // Set once it makes no sense to go on: the daemon refuses.
  [[nodiscard]] std::optional<Error> Refusal();
  [[nodiscard]] bool reached() const { return reached_.load(std::memory_order_relaxed); }

 private:
  explicit TapDaemon(std::string url);
  void Follow();
  // One connection, to its end.
  void FollowOnce();
  bool Add(std::deque<std::string>& events);
  void Signal();

  static constexpr size_t kMostBytes = 4 << 20;  // that wait; then the daemon holds the rest

  const std::string url_;
  std::unique_ptr<httplib::Client> client_;
  serve::FileDescriptor ready_;        // an eventfd
  std::atomic<bool> reached_ = false;  // stands for itself
  std::mutex mutex_;                   // guards what follows
  std::condition_variable changed_;
  std::deque<std::string> events_;
  size_t bytes_ = 0;
  std::optional<Error> refusal_;
  bool stop_ = false;
  std::string told_;  // of the thread alone: how the daemon is away; empty: it is there
  std::thread thread_;
};

}  // namespace conductor::toolkit

#endif  // CONDUCTOR_DAEMON_TOOLKIT_TAP_DAEMON_H_
