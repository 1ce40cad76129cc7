#ifndef CONDUCTOR_DAEMON_TOOLKIT_CONSOLE_H_
#define CONDUCTOR_DAEMON_TOOLKIT_CONSOLE_H_

#include <string>
#include <string_view>

#include "lib/base/result.h"

namespace conductor::toolkit {

// How a command ends, for the shell.
inline constexpr int kExitDone = 0;
inline constexpr int kExitFailed = 1;
inline constexpr int kExitUsage = 2;

// On standard error: "conductor: ...". Gives `code` back.
int Complain(int code, const Error& error);
// "conductor: warning: ...".
void Warn(std::string_view text);

// Standard output, in pieces of whole lines. Whoever read it may be gone, which ends a command
// quietly; any other error is told by End(). Ignores SIGPIPE from its making on.
class Output {
 public:
  Output();
  Output(const Output&) = delete;
  Output& operator=(const Output&) = delete;

  // False when there is no sense in going on.
  bool Print(std::string_view text);
  // Writes what was printed, for a reader that waits for it; as Print().
  bool Flush();
  // Nothing is written any more: whoever read it is gone, or there was an error.
  [[nodiscard]] bool failed() const { return closed_ || error_ != 0; }
  // Writes what is left; the exit code: `code`, unless something could not be written.
  [[nodiscard]] int End(int code);

 private:
  std::string text_;
  bool closed_ = false;
  int error_ = 0;  // an errno; 0: none
};

}  // namespace conductor::toolkit

#endif  // CONDUCTOR_DAEMON_TOOLKIT_CONSOLE_H_
