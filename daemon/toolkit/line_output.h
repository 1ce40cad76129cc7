#ifndef CONDUCTOR_DAEMON_TOOLKIT_LINE_OUTPUT_H_
#define CONDUCTOR_DAEMON_TOOLKIT_LINE_OUTPUT_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "lib/base/result.h"

namespace conductor::toolkit {

// Standard output of a command that prints for as long as it runs.
//
// A reader that is slow holds the command up (nothing piles up in memory) but never its end: while
// it waits, a signal to stop is seen. One that is gone ends the command quietly; a disk that is
// full is an error. Where something else must go on meanwhile, as a recording, lines that do not
// fit are left out and counted instead.
//
// SIGPIPE must be ignored.
class LineOutput {
 public:
  // `stop`: a descriptor that is readable when the command is to end; -1: none.
  LineOutput(int descriptor, int stop, bool leave_out);

  // `text`: whole lines.
  void Print(std::string_view text);
  // Writes what was printed since; waits for the reader unless lines are left out.
  void Flush();

  // For who sees that the reader is gone.
  void Close() { closed_ = true; }

  // The reader is gone, or cannot be written to: problem() says why, if it is not gone.
  [[nodiscard]] bool closed() const { return closed_; }
  [[nodiscard]] const std::optional<Error>& problem() const { return problem_; }
  [[nodiscard]] uint64_t left_out() const { return left_out_; }
  [[nodiscard]] int descriptor() const { return descriptor_; }
  // Whether Flush() has something to do once the reader takes more.
  [[nodiscard]] bool waits() const { return !text_.empty(); }

 private:
  // False when no more can be written now.
  bool WritePiece();

  const int descriptor_;
  const int stop_;
  const bool leave_out_;
  std::string text_;
  bool closed_ = false;
  std::optional<Error> problem_;
  bool stopped_ = false;
  uint64_t left_out_ = 0;
};

}  // namespace conductor::toolkit

#endif  // CONDUCTOR_DAEMON_TOOLKIT_LINE_OUTPUT_H_
