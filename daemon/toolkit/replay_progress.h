#ifndef CONDUCTOR_DAEMON_TOOLKIT_REPLAY_PROGRESS_H_
#define CONDUCTOR_DAEMON_TOOLKIT_REPLAY_PROGRESS_H_

#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>

#include "daemon/toolkit/terminal.h"
#include "lib/base/clock.h"

namespace conductor::toolkit {

// A line that says how far something is: "[#####.....]  50 %  12,345 messages". `share` from 0 to
// 1; nothing where the whole is not known. Fits the width.
[[nodiscard]] std::string ProgressLine(std::optional<double> share, uint64_t messages,
                                       size_t width);

// That line, kept up to date on a terminal's standard error, and gone at the end. Nowhere else.
class ProgressBar {
 public:
  explicit ProgressBar(const Terminal& terminal) : terminal_(terminal) {}
  ~ProgressBar() { Clear(); }
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  void Show(MonoTime now, std::optional<double> share, uint64_t messages);
  // Before anything else is written there.
  void Clear();

 private:
  const Terminal terminal_;
  MonoTime next_{};  // it is drawn again
  bool shown_ = false;
};

}  // namespace conductor::toolkit

#endif  // CONDUCTOR_DAEMON_TOOLKIT_REPLAY_PROGRESS_H_
