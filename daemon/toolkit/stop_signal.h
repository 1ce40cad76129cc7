#ifndef CONDUCTOR_DAEMON_TOOLKIT_STOP_SIGNAL_H_
#define CONDUCTOR_DAEMON_TOOLKIT_STOP_SIGNAL_H_

#include <csignal>

#include "daemon/serve/file_descriptor.h"

namespace conductor::toolkit {

// The signals that end a command (SIGINT, SIGTERM, SIGHUP), as a descriptor, so that whatever waits
// sees them and nothing is cut off in its middle. Those that would end the process where an error
// is to be told are ignored, and stay so: SIGPIPE (output to a reader that is gone) and SIGXFSZ (a
// file that may not grow).
//
// To be made before any thread, so that all inherit what is blocked. When it is gone a signal ends
// the process at once; one that came before then is used up.
class StopSignal {
 public:
  StopSignal();
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;

  // Readable once a signal has come, and from then on: nobody is to read from it.
  [[nodiscard]] int fd() const { return fd_.get(); }
  // Never waits; from any thread.
  [[nodiscard]] bool came() const;

 private:
  sigset_t set_{};
  serve::FileDescriptor fd_;
};

}  // namespace conductor::toolkit

#endif  // CONDUCTOR_DAEMON_TOOLKIT_STOP_SIGNAL_H_
