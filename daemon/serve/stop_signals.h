#ifndef CONDUCTOR_DAEMON_SERVE_STOP_SIGNALS_H_
#define CONDUCTOR_DAEMON_SERVE_STOP_SIGNALS_H_

#include <atomic>
#include <condition_variable>
#include <csignal>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "daemon/serve/file_descriptor.h"
#include "lib/base/clock.h"

namespace conductor::serve {

// SIGINT, SIGTERM and SIGHUP, and the promise that the process ends soon after one of them,
// whatever its threads are doing: when this object is still there `patience` after the signal, a
// line in the log says what was not done yet, and the process exits with status 0. A second signal
// ends the process at once; where something must not be lost (Keep()) it cuts short everything but
// that, and a third one ends the process at once.
//
// To be made before any other thread is started (they inherit that the signals are blocked), and
// to be destroyed after everything that may take its time to end. One in a process.
class StopSignals {
 public:
  explicit StopSignals(Duration patience = std::chrono::milliseconds(1500));
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  // SIGHUP calls `reload` from now on, on the thread that watches. Until then it is a signal to
  // stop like the others, as when a terminal closes, unless the process was started with SIGHUP
  // ignored.
  void OnHangup(std::function<void()> reload);

  // Waits for a signal; its name.
  std::string Wait();

  // Until Kept() the process does not end by a second signal, and its patience is `within`; `what`
  // is for the lines in the log: "the snapshot". A literal.
  void Keep(const char* what, Duration within) {
    keep_within_ = within;
    keeping_.store(what);
  }
  // It is done. After a second signal the process exits here, with status 0.
  void Kept();
  // A second signal came: whatever else takes its time is to be left.
  [[nodiscard]] bool hurried() const { return hurried_.load(); }

  // What is being ended now, for the line in the log: "the HTTP requests". A literal.
  void Ending(const char* what) { ending_.store(what, std::memory_order_relaxed); }
  // The same for what may take longer: the patience counts from now.
  void Ending(const char* what, Duration patience) {
    Ending(what);
    until_.store((MonoNow() + patience).time_since_epoch().count(), std::memory_order_relaxed);
  }

 private:
  void Watch();
  // Sees to the second signal; true: the next one ends the process.
  bool TakeAnother();
  // False when the object's end came first.
  bool TakeSignal();
  // False when it stops the process.
  bool TakeHangup();
  [[noreturn]] void GiveUp(Duration after) const;

  const Duration patience_;
  sigset_t set_{};
  FileDescriptor signals_;                // readable once a signal came
  FileDescriptor done_;                   // readable once this object ends
  std::atomic<MonoTime::rep> until_ = 0;  // the end of its patience, where Ending() said so
  std::atomic<const char*> ending_ = "the start";  // read by the watching thread; stands for itself
  std::atomic<const char*> keeping_ = nullptr;     // what Keep() said, until Kept()
  Duration keep_within_{};                         // set before it
  std::atomic<bool> hurried_ = false;
  bool ignores_hangup_ = false;
  std::mutex mutex_;              // guards signal_ and reload_
  std::function<void()> reload_;  // of OnHangup()
  std::condition_variable came_;
  int signal_ = 0;
  std::thread watching_;
};

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_STOP_SIGNALS_H_
