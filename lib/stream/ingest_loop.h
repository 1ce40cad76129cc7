#ifndef CONDUCTOR_LIB_STREAM_INGEST_LOOP_H_
#define CONDUCTOR_LIB_STREAM_INGEST_LOOP_H_

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "lib/base/clock.h"
#include "lib/base/result.h"
#include "lib/stream/bound_endpoint.h"
#include "lib/stream/peer_socket.h"
#include "lib/stream/publisher_link.h"
#include "lib/stream/transport.h"

namespace conductor::stream {

// The counters of a publisher as its ingest thread last published them.
struct CounterBoard {
  std::mutex mutex;
  StreamCounters counters;  // guarded by mutex
  std::mutex work;          // held by who works on the publisher from elsewhere; see Transport::Run
  // Of the publisher's bound endpoint, whose turns are not the publisher's; null: it has none.
  std::shared_ptr<const std::atomic<uint64_t>> unrouted;  // guarded by mutex
};

// One ingest thread: an epoll loop over the descriptors of its tasks, which take turns. Everything
// but Call is of that thread.
class IngestLoop : private Watcher {
 public:
  // Starts the thread, named `name` (at most 15 characters).
  // `context` and `options`, for the endpoints that it binds, must outlive it.
  static Result<std::unique_ptr<IngestLoop>> Start(const std::string& name, void* context,
                                                   const Transport::Options& options);
  // Closes all links on the loop's thread and ends it.
  ~IngestLoop() override;

  // Runs `work` on the loop's thread, soon, and returns when it is done.
  void Call(const std::function<void()>& work);

  // On the loop's thread only:
  [[nodiscard]] Watcher& watcher() { return *this; }
  [[nodiscard]] Status Add(uint64_t id, std::unique_ptr<PublisherLink> link,
                           std::shared_ptr<CounterBoard> board);
  void Remove(uint64_t id);
  // Null for an unknown id. What is done to the link is noticed at its next turn, which is soon.
  [[nodiscard]] PublisherLink* Find(uint64_t id);
  // From here on the publisher takes no turns, until it is let go. Unknown ids are ignored.
  void Hold(uint64_t id);
  void LetGo(uint64_t id);

 private:
  struct Entry {
    Task* task = nullptr;
    std::unique_ptr<PublisherLink> link;  // null: it is a bound endpoint
    std::shared_ptr<CounterBoard> board;  // of the link
    MonoTime deadline = MonoTime::max();  // as it stands in deadlines_
    bool ready = false;                   // stands in ready_
    bool monitor = false;                 // its monitor is readable
    bool held = false;                    // takes no turns
  };
  struct Command {
    const std::function<void()>* work = nullptr;
    bool done = false;
  };

  IngestLoop(int epoll, int wakeup, void* context, const Transport::Options& options)
      : epoll_(epoll), wakeup_(wakeup), context_(context), options_(options) {}

  void Watch(int fd, uint64_t task, bool monitor) override;
  void Unwatch(int fd) override;
  void Ready(uint64_t task) override { MarkReady(task, /*monitor=*/false); }
  [[nodiscard]] Result<BoundEndpoint*> Bind(const std::string& endpoint, uint64_t id);
  void CloseEmptyEndpoints();
  void Forget(uint64_t id);
  void Loop();
  void Gather();
  void Wait();
  void RunCommands();
  void MarkReady(uint64_t id, bool monitor);
  void TakeTurn(uint64_t id);
  void Wake();

  const int epoll_;
  const int wakeup_;  // eventfd: commands or the end
  std::thread thread_;

  void* const context_;
  const Transport::Options& options_;

  // Of the loop's thread.
  struct Bound {
    uint64_t id = 0;
    std::unique_ptr<BoundEndpoint> endpoint;
  };
  std::map<std::string, Bound> endpoints_;  // by BoundEndpoint::KeyOf
  std::unordered_map<uint64_t, Entry> entries_;
  std::deque<uint64_t> ready_;
  MonoTime woken_{};
  std::set<std::pair<MonoTime, uint64_t>> deadlines_;

  std::mutex mutex_;
  std::condition_variable done_;    // with mutex_: a command was run
  std::vector<Command*> commands_;  // guarded by mutex_
  bool ending_ = false;             // guarded by mutex_
};

}  // namespace conductor::stream

#endif  // CONDUCTOR_LIB_STREAM_INGEST_LOOP_H_
