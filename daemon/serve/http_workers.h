#ifndef CONDUCTOR_DAEMON_SERVE_HTTP_WORKERS_H_
#define CONDUCTOR_DAEMON_SERVE_HTTP_WORKERS_H_

#include <pthread.h>

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <vector>

#include "daemon/serve/file_descriptor.h"
#include "daemon/serve/http_connection.h"
#include "lib/base/clock.h"
#include "lib/base/result.h"

namespace conductor::serve {

// The threads that serve the connections of one server.
//
// Connections without a request wait in the kernel (epoll), and as many threads as there are
// processors take the next one of which something has come: requests are answered in the order of
// their coming, by threads whose memory is warm. A thread for each connection answers the same
// requests too, but at 256 connections it took half as much time again for each, and the scheduler
// let some wait a hundred times as long as others.
//
// A thread that has to wait for its client in the middle of a request, or that streams, does not
// count, and another takes its place. Where all are busy and none comes to an end for a moment, one
// more is added: a few long requests do not hold up the short ones. There are hardly ever more than
// one for each connection that is in a request, and those that are not wanted end after a while.
class HttpWorkers : private HttpWaits {
 public:
  // `shared` must outlive it.
  explicit HttpWorkers(HttpConnection::Shared& shared) : shared_(shared) {}
  ~HttpWorkers() { Stop(); }
  HttpWorkers(const HttpWorkers&) = delete;
  HttpWorkers& operator=(const HttpWorkers&) = delete;

  // `shared.stop_event` must be there.
  [[nodiscard]] Status Start();
  // False, and the connection closed, when it cannot be waited for.
  [[nodiscard]] bool Add(std::unique_ptr<HttpConnection> connection);
  // Once shared.stopping is set and shared.stop_event readable. All connections are closed.
  void Stop();

  [[nodiscard]] uint64_t connections() const { return open_.load(std::memory_order_relaxed); }
  // That were started, for tests.
  [[nodiscard]] size_t threads() const;

 private:
  // A connection that waits; of one that is being served `connection` is null.
  struct Place {
    std::unique_ptr<HttpConnection> connection;
    MonoTime until;                       // closed then
    std::list<uint64_t>::iterator order;  // in waiting_, with a connection
  };

  void Run();
  // Until it is wanted; false when it ends.
  bool Rest(std::unique_lock<std::mutex>& lock);
  // Serves what the event is about.
  void Take(uint64_t id, std::unique_lock<std::mutex>& lock);
  // Waits for the connection's next request; false when that cannot be.
  bool Park(uint64_t id, std::unique_ptr<HttpConnection> connection, int operation);
  // Lets one more thread look for events.
  void AddWorker();
  // Looks, as long as nobody waits for events, whether somebody comes to an end.
  void Watch();
  void Supervise();
  // Closes what has waited for too long.
  void Expire();
  // The threads that hold the lock no more, or give it up as their last act.
  void JoinEnded();

  void BeginWait() override;
  void EndWait() override;

  HttpConnection::Shared& shared_;
  FileDescriptor epoll_;
  std::thread supervisor_;
  std::atomic<uint64_t> open_ = 0;  // stands for itself

  mutable std::mutex mutex_;  // guards the rest
  std::condition_variable wanted_;
  std::condition_variable supervise_;
  std::vector<pthread_t> threads_;
  std::vector<pthread_t> ended_;  // not joined yet
  size_t most_ = 0;               // polling and running at once, but for:
  size_t more_ = 0;               // because others are stuck
  size_t polling_ = 0;            // wait for an event
  size_t running_ = 0;            // serve, and wait for nobody
  size_t coming_ = 0;             // were started and are not there yet
  size_t dormant_ = 0;            // are not wanted
  size_t called_ = 0;             // of these, that were told to look
  uint64_t finished_ = 0;         // requests, roughly: whether anything moves
  bool watched_ = false;
  uint64_t last_id_ = 0;
  std::unordered_map<uint64_t, Place> places_;
  std::list<uint64_t> waiting_;  // ids, longest first
};

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_HTTP_WORKERS_H_
